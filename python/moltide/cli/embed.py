"""`moltide embed`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, TABLE_PANEL
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.cli.reading import SequenceReader
    from moltide.encoder import Encoder

HELP = """Embed sequences: one vector each, or one a residue.

INPUT is FASTA or a table. A .npy file holds float32 (sequences, width) in the order of the input;
a .parquet file holds id and embedding, and is the format for one vector a residue (--pool none).
"""
EPILOG = """Examples:

  moltide embed proteins.fasta -o embeddings.npy

  moltide embed table.csv -o embeddings.parquet --backbone facebook/esm2_t12_35M_UR50D

  moltide embed proteins.fasta -o residues.parquet --pool none
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
            "the backbone is protein-mini.",
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

    import numpy as np

    from moltide.assay_model.files import CONFIG, load_backbone
    from moltide.cli.reading import SequenceReader
    from moltide.cli.table_output import kind_of, write_rows
    from moltide.cli.voice import TerminalVoice
    from moltide.errors import ConfigError, DataError
    from moltide.pretrained import load

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
        if adapter is not None and backbone is None and (adapter / CONFIG).is_file():
            encoder = load_backbone(adapter, device.value, dtype.value)
        else:
            encoder = load(backbone or "protein-mini", device.value, dtype.value)
        if adapter is not None:
            encoder.load_adapter(adapter, "adapter")
    reader = SequenceReader(
        source,
        sequence=sequence,
        mutations=mutations,
        wildtype=wildtype,
        numbering=common.numbering_of(numbering),
        id=id,
        on_bad_row=on_bad_row,
    )
    found = _Embeddings([], [], [])
    with voice.busy("embedding") as status:
        found.compute(
            encoder, reader, pool, "adapter" if adapter is not None else None, voice, status
        )
    names = found.names
    if not names and reader.skipped:
        raise DataError(f"{source}: no sequence to use: {reader.left_out()[0]}")
    if suffix == ".npy":
        table = np.stack(found.arrays) if names else np.empty((0, encoder.width), np.float32)
        if ids is not None:
            write_rows(ids, [reader.unit, "id"], zip(found.rows, found.rows, names, strict=True))
        _save_npy(out, table)
    else:
        _save_parquet(out, names, found.arrays, pool is Pool.none)
    for note in [*reader.notes, *reader.left_out()]:
        voice.say(note)
    voice.say(f"{out}: {plural(len(names), 'sequence')}, width {encoder.width}")
    if ids is not None:
        voice.say(f"{ids}: the {reader.unit} and id of each row of {out.name}")
    if json_line:
        line = {"out": str(out), "sequences": len(names), "width": encoder.width}
        print(json.dumps({**line, "skipped": len(reader.skipped)}))


@dataclass
class _Embeddings:
    """One array a sequence, with the sequence's name and its row in the input."""

    names: list[str]
    rows: list[int]
    arrays: list[Any]

    def compute(
        self,
        encoder: Encoder,
        reader: SequenceReader,
        pool: Pool,
        adapter: str | None,
        voice: Any,
        status: Any,
    ) -> None:
        """Embed all that `reader` gives; `status` shows the residues done (None: no terminal)."""
        residues, longest = 0, _LONG - 1
        for batch in reader:
            ends = list(accumulate(map(len, batch.sequences), initial=residues))

            def show(done: int, total: int | None, ends: list[int] = ends) -> None:
                status.update(f"embedding: {ends[done]:,} residues done")

            length, name = max(zip(map(len, batch.sequences), batch.names, strict=True))
            if length > longest:
                longest = length
                voice.say(
                    f"longest sequence so far: {length:,} residues ({name}), in one pass; time "
                    "grows with the square of the length"
                )
            if not self.names:
                common.say_int8_cost(voice, encoder, batch.sequences, adapter)
            self.names += batch.names
            self.rows += batch.rows
            self.arrays.extend(
                encoder.embed(
                    batch.sequences,
                    None if pool is Pool.none else pool.value,
                    adapter=adapter,
                    progress=show if status is not None else None,
                )
            )
            residues = ends[-1]


def _save_npy(out: Path, table: Any) -> None:
    import numpy as np

    from moltide.atomic import atomic_path

    with atomic_path(out) as temporary, temporary.open("wb") as stream:
        np.save(stream, table)


def _save_parquet(out: Path, names: list[str], rows: list[Any], residues: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from moltide.atomic import atomic_path

    vector = pa.list_(pa.float32())
    column = pa.array(
        [list(row) for row in rows] if residues else rows,
        type=pa.list_(vector) if residues else vector,
    )
    with atomic_path(out) as temporary:
        parquet.write_table(pa.table({"id": names, "embedding": column}), temporary)


COMMAND = embed
