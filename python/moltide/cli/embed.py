"""`moltide embed`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL

HELP = """Embed sequences: one vector each, or one a residue.

INPUT is FASTA or a table. A .npy file holds float32 (sequences, width) in the order of the input;
a .parquet file holds id and embedding, and is the format for one vector a residue (--pool none).
"""
EPILOG = """Examples:

  moltide embed proteins.fasta -o embeddings.npy

  moltide embed table.csv -o embeddings.parquet --backbone facebook/esm2_t12_35M_UR50D

  moltide embed proteins.fasta -o residues.parquet --pool none
"""


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
    backbone: common.Backbone = "protein-mini",
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a LoRA adapter (a RUN/ of finetune) over the backbone.",
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

    from moltide.cli.reading import SequenceReader
    from moltide.cli.voice import TerminalVoice
    from moltide.errors import ConfigError
    from moltide.pretrained import load

    suffix = out.suffix.lower()
    if suffix not in (".npy", ".parquet"):
        raise ConfigError(f"{out}: the name ends in neither .npy nor .parquet")
    if suffix == ".npy" and pool is Pool.none:
        raise ConfigError("--pool none gives one array a sequence; write them to a .parquet file")
    if suffix == ".parquet":
        from moltide.cli.table_output import kind_of

        kind_of(out)
    common.check_output(out)
    voice = TerminalVoice(to_stderr=json_line)
    with voice.busy("loading the backbone"):
        encoder = load(backbone, device.value, dtype.value)
        if adapter is not None:
            encoder.load_adapter(adapter, "adapter")
    reader = SequenceReader(
        source,
        sequence=sequence,
        mutations=mutations,
        wildtype=wildtype,
        numbering=common.numbering_of(numbering),
        id=id,
    )
    names: list[str] = []
    parts: list[Any] = []
    with voice.busy("embedding"):
        for batch in reader:
            names += batch.names
            found = encoder.embed(
                batch.sequences,
                None if pool is Pool.none else pool.value,
                adapter="adapter" if adapter is not None else None,
            )
            parts += found if pool is Pool.none else [found]
    if suffix == ".npy":
        table = np.concatenate(parts) if parts else np.empty((0, encoder.width), np.float32)
        _save_npy(out, table)
    else:
        rows = parts if pool is Pool.none else [row for part in parts for row in part]
        _save_parquet(out, names, rows, pool is Pool.none)
    for note in reader.notes:
        voice.say(note)
    voice.say(f"{out}: {len(names):,} sequences, width {encoder.width}")
    if json_line:
        print(json.dumps({"out": str(out), "sequences": len(names), "width": encoder.width}))


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
