"""Options that several commands share, and writing where the user said."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

TABLE_PANEL, MODEL_PANEL = "Table", "Model"
TRAIN_PANEL, OUTPUT_PANEL = "Training", "Output"


class Device(str, enum.Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Dtype(str, enum.Enum):
    """Arithmetic."""

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"
    int8 = "int8"


_BACKBONE: Any = typer.Option(
    help="Bundled name, folder, or Hub id such as facebook/esm2_t12_35M_UR50D; by default "
    "protein-mini, or molecule-mini for molecules.",
    metavar="NAME|FOLDER|HUB-ID",
    rich_help_panel=MODEL_PANEL,
)
Backbone = Annotated[str, _BACKBONE]
BackboneOrNone = Annotated[str | None, _BACKBONE]
DeviceOption = Annotated[
    Device, typer.Option(help="Where to compute.", rich_help_panel=MODEL_PANEL)
]
TrainingDtypeOption = Annotated[
    Dtype,
    typer.Option(
        help="Arithmetic; auto: bf16 (weights and sums in float32) where the processor has "
        "instructions for it, else float32. int8 is for inference.",
        rich_help_panel=MODEL_PANEL,
    ),
]
DtypeOption = Annotated[
    Dtype,
    typer.Option(
        help="Arithmetic; auto: float32, or as the adapter was trained. int8: 8-bit matrix "
        "products, fast and less exact.",
        rich_help_panel=MODEL_PANEL,
    ),
]
SequenceColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of residues or SMILES.", metavar="COLUMN", rich_help_panel=TABLE_PANEL
    ),
]
HeavyColumn = Annotated[
    str | None,
    typer.Option(
        help="Pairs of chains: column of heavy chains; by default found by name.",
        metavar="COLUMN",
        rich_help_panel=TABLE_PANEL,
    ),
]
LightColumn = Annotated[
    str | None,
    typer.Option(
        help="Pairs of chains: column of light chains.",
        metavar="COLUMN",
        rich_help_panel=TABLE_PANEL,
    ),
]
MutationsColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of mutations such as A40P/E61Y; goes with --wildtype.",
        metavar="COLUMN",
        rich_help_panel=TABLE_PANEL,
    ),
]
Wildtype = Annotated[
    str | None,
    typer.Option(
        help="The wild type: residues, or a FASTA file with one record.",
        metavar="SEQ|FASTA",
        rich_help_panel=TABLE_PANEL,
    ),
]
Numbering = Annotated[
    str,
    typer.Option(
        help="Number of the first residue in mutation strings; auto finds it.",
        metavar="auto|N",
        rich_help_panel=TABLE_PANEL,
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option("--id", help="Column of names.", metavar="COLUMN", rich_help_panel=TABLE_PANEL),
]
Thresholds = Annotated[
    str | None,
    typer.Option(
        help="What is wanted of targets, for lights in predict: rules, or a CSV file with columns "
        "endpoint, above, below, class, weight.",
        metavar='"A<5,B>-4,C=no"|FILE.csv',
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One machine-readable line on standard output at the end; the rest goes to "
        "standard error.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]


def numbering_of(text: str) -> str | int:
    """ "auto" or a number.

    Raises:
        ConfigError: neither.
    """
    from moltide.errors import ConfigError

    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--numbering is {text!r}; allowed: auto, or the number of the first residue"
        ) from None


def check_output(path: Path, overwrite: bool = True, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse an output file that cannot be written, before any work.

    Raises:
        ConfigError: its folder is missing, it is a folder or one of `inputs`, or it exists
            (without `overwrite`).
        OSError: the folder is not writable.
    """
    import tempfile

    from moltide.errors import ConfigError

    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: no folder {path.parent}")
    for one in inputs:
        if one is not None and one.exists() and path.exists() and path.samefile(one):
            raise ConfigError(f"{path} is the input {one} as well; write to another file")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already")
    try:
        handle, name = tempfile.mkstemp(prefix=".moltide-", dir=path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    os.close(handle)
    os.unlink(name)


def say_int8_cost(
    voice: Any, encoder: Any, sequences: Iterable[str], adapter: str | None = None
) -> None:
    """One line on what int8 costs in accuracy, measured on some of `sequences`; else nothing."""
    if encoder.dtype == "int8":
        voice.say(encoder.int8_cost(sequences, adapter).said())
