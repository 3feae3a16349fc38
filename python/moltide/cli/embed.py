"""`moltide embed`."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, TABLE_PANEL
from moltide.kinds import PROTEIN, UNIT
from moltide.pairs import is_pair, of_chains
from moltide.wording import plural

if TYPE_CHECKING:
    import numpy as np

    from moltide.cli.reading import SequenceReader
    from moltide.encoder import Encoder

HELP = """Embed sequences: one vector each, or one a residue.

INPUT is FASTA or a table; of molecules a table of SMILES, .smi or SDF, which are standardised. A
.npy file holds float32 (sequences, width) in the order of the input; a .parquet file holds id and
embedding, and is the format for one vector a residue (--pool none).
"""
EPILOG = """Examples:

  moltide embed proteins.fasta -o embeddings.npy

  moltide embed table.csv -o embeddings.parquet --backbone facebook/esm2_t12_35M_UR50D

  moltide embed proteins.fasta -o residues.parquet --pool none

  moltide embed antibodies.csv --heavy VH --light VL -o pairs.npy

  moltide embed molecules.csv -o molecules.npy

  moltide embed transcripts.fasta -o rna.npy --backbone multimolecule/rnafm
"""
# Residues from which one sequence takes long enough to say so before it starts.
_LONG = 5000


class Pool(str, enum.Enum):
    """What a vector stands for."""

    mean = "mean"
    cls = "cls"
    none = "none"


def embed(
    source: Annotated[Path, typer.Argument(help="FASTA file or table.", metavar="INPUT")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A .npy or .parquet file.", metavar="FILE")
    ],
    sequence: common.SequenceColumn = None,
    heavy: common.HeavyColumn = None,
    light: common.LightColumn = None,
    mutations: common.MutationsColumn = None,
    wildtype: common.Wildtype = None,
    numbering: common.Numbering = "auto",
    id: common.IdColumn = None,
    on_bad_row: Annotated[
        str,
        typer.Option(
            help="error: refuse a file with unreadable rows or records; set_aside: leave them out "
            "and say which (beside a .npy file, FILE.ids.csv names the rest).",
            metavar="error|set_aside",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "error",
    backbone: common.BackboneOrNone = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a LoRA adapter. A RUN/ of finetune brings its backbone; without either "
            "the backbone is protein-mini, of molecules molecule-mini.",
            metavar="FOLDER",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    pool: Annotated[
        Pool,
        typer.Option(
            help="mean over residues, the <cls> vector, or none: every residue's.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = Pool.mean,
    device: common.DeviceOption = common.Device.auto,
    dtype: common.DtypeOption = common.Dtype.auto,
    json_line: common.Json = False,
) -> None:
    import json

    from moltide.cli.embedding_output import NpyOutput, ParquetOutput
    from moltide.cli.reading import SequenceReader
    from moltide.cli.table_output import kind_of
    from moltide.cli.voice import TerminalVoice
    from moltide.errors import ConfigError, DataError

    suffix = out.suffix.lower()
    if suffix not in (".npy", ".parquet"):
        raise ConfigError(f"{out}: the name ends in neither .npy nor .parquet")
    if suffix == ".npy" and pool is Pool.none:
        raise ConfigError("--pool none gives one array a sequence; write them to a .parquet file")
    if suffix == ".parquet":
        kind_of(out)
    # Rows left out would shift those behind them: the array needs their names beside it.
    ids = out.with_suffix(".ids.csv") if suffix == ".npy" and on_bad_row == "set_aside" else None
    for path in (out, ids):
        if path is not None:
            common.check_output(path, inputs=[source])
    voice = TerminalVoice(to_stderr=json_line)
    with voice.busy("loading the backbone"):
        named = (sequence, heavy, light)
        encoder = _encoder(backbone, adapter, device.value, dtype.value, source, named)
    reader = SequenceReader(
        source,
        kind=encoder.tokenizer.kind,
        either=encoder.tokenizer.kind == PROTEIN,
        refusals=encoder.refusals,
        sequence=sequence,
        heavy=heavy,
        light=light,
        mutations=mutations,
        wildtype=wildtype,
        numbering=common.numbering_of(numbering),
        id=id,
        on_bad_row=on_bad_row,
    )
    output = (
        NpyOutput(out, encoder.width, ids, reader.unit)
        if suffix == ".npy"
        else ParquetOutput(out, encoder.width, pool is Pool.none)
    )
    with voice.busy("embedding") as status, output:
        embedded = _embed_all(encoder, reader, pool, adapter is not None, voice, status)
        for name, row, values in embedded:
            output.add(name, row, values)
        if not output.count and reader.skipped:
            raise DataError(f"{source}: no sequence to use: {reader.left_out()[0]}")
    for note in [*reader.notes, *reader.left_out()]:
        voice.say(note)
    voice.say(f"{out}: {plural(output.count, 'sequence')}, width {encoder.width}")
    if ids is not None:
        voice.say(f"{ids}: the {reader.unit} and id of each row of {out.name}")
    if json_line:
        line = {"out": str(out), "sequences": output.count, "width": encoder.width}
        print(json.dumps({**line, "skipped": len(reader.skipped)}))


def _encoder(
    backbone: str | None,
    adapter: Path | None,
    device: str,
    dtype: str,
    source: Path,
    columns: tuple[str | None, str | None, str | None],
) -> Encoder:
    from moltide.cli.reading import kind_of_input
    from moltide.pretrained import load
    from moltide.pretrained.locate import default_backbone

    def by_default() -> str:
        return default_backbone(kind_of_input(source, *columns))

    if adapter is None:
        return load(backbone or by_default(), device, dtype)
    from moltide.assay_model.files import CONFIG, load_backbone, read_config

    of_run = (adapter / CONFIG).is_file()
    if of_run and backbone is None:
        encoder = load_backbone(adapter, device, dtype)
    else:
        if of_run and dtype == "auto":
            dtype = read_config(adapter)["model"]["backbone"]["dtype"]
        encoder = load(backbone or by_default(), device, dtype)
    encoder.load_adapter(adapter, "adapter")
    return encoder


def _embed_all(
    encoder: Encoder, reader: SequenceReader, pool: Pool, adapter: bool, voice: Any, status: Any
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, row and embedding of each sequence that `reader` gives, one pass in memory at a time;
    `status` shows how far it is (None: no terminal)."""
    unit = UNIT[encoder.tokenizer.kind]
    residues, longest = 0, _LONG - 1
    use = "adapter" if adapter else None
    for batch in reader:
        if not residues:
            common.say_int8_cost(voice, encoder, batch.sequences, use)
        ends = list(accumulate(map(len, batch.sequences), initial=residues))

        def show(done: int, total: int | None, ends: list[int] = ends) -> None:
            status.update(f"embedding: {ends[done]:,} {unit}s done")

        length, name = max(zip(map(len, batch.sequences), batch.names, strict=True))
        if length > longest:
            longest = length
            voice.say(
                f"longest sequence so far: {length:,} {unit}s ({name}), in one pass; time "
                "grows with the square of the length"
            )
        arrays = encoder.embed_iter(
            batch.sequences,
            None if pool is Pool.none else pool.value,
            adapter=use,
            progress=show if status is not None else None,
        )
        for name, row, text, values in zip(
            batch.names, batch.rows, batch.sequences, arrays, strict=True
        ):
            # One vector a residue: the linker between two chains is nobody's.
            cut = pool is Pool.none and is_pair(text)
            yield name, row, values[of_chains(text)] if cut else values
        residues = ends[-1]


COMMAND = embed
