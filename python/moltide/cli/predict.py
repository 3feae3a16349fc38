"""`moltide predict`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, OUTPUT_PANEL, TABLE_PANEL
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.assay_model import AssayModel, ModelSpec

HELP = """Predict new sequences with a fine-tuned model.

Adds columns to the rows of NEW (CSV, TSV, Parquet, XLSX or FASTA): predicted, std (of the error),
low90 and high90 (an interval that holds 90% of values like the validation rows'), rank, in_domain
and domain_note (what sets a sequence apart from the training sequences).

Rank 1 is the highest, and equal predictions share a rank. Ranks go by the first target; for
classes, by the probability of the last one.
"""
EPILOG = """Examples:

  moltide predict runs/gb1 new.csv -o predictions.csv

  moltide predict runs/scan library.fasta -o ranked.csv --sort

  moltide predict runs/scan designs.csv --mutations variant -o out.parquet
"""


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a fine-tuned model.", metavar="RUN/")],
    new: Annotated[Path, typer.Argument(help="Table or FASTA file.", metavar="NEW")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Where to write: .csv, .tsv (also .gz), .parquet; - is standard output.",
            metavar="FILE",
        ),
    ],
    sequence: common.SequenceColumn = None,
    mutations: common.MutationsColumn = None,
    wildtype: Annotated[
        str | None,
        typer.Option(
            help="The wild type; by default that of the training table.",
            metavar="SEQ|FASTA",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = None,
    numbering: common.Numbering = "auto",
    on_bad_row: Annotated[
        str,
        typer.Option(
            help="error: refuse a table with unreadable rows; set_aside: leave their predictions "
            "empty and say why.",
            metavar="error|set_aside",
            rich_help_panel=TABLE_PANEL,
        ),
    ] = "error",
    uncertainty: Annotated[
        bool,
        typer.Option(help="Also std and interval.", rich_help_panel=MODEL_PANEL),
    ] = True,
    ascending: Annotated[
        bool,
        typer.Option("--ascending", help="Rank 1 is the lowest.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort rows by rank.", rich_help_panel=OUTPUT_PANEL)
    ] = False,
    device: common.DeviceOption = common.Device.auto,
    dtype: Annotated[
        common.Dtype,
        typer.Option(
            help="Arithmetic; auto: as trained. int8: 8-bit matrix products, fast and less exact.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = common.Dtype.auto,
    json_line: common.Json = False,
) -> None:
    import json

    from moltide.assay_model.files import load, read_config
    from moltide.assay_model.uncertainty import INTERVAL, missing_intervals
    from moltide.cli.reading import SequenceReader
    from moltide.cli.table_output import kind_of, write_with_columns
    from moltide.cli.voice import TerminalVoice

    to_stdout = str(out) == "-"
    kind_of(out)
    if not to_stdout:
        common.check_output(out, inputs=[new])
    voice = TerminalVoice(to_stderr=json_line or to_stdout)
    document = read_config(run)
    with voice.busy("loading the model"):
        model = load(run, device.value, dtype.value)
    data = document.get("data", {})
    parent, number, said = _wildtype(data, wildtype, common.numbering_of(numbering))
    reader = SequenceReader(
        new,
        usual=(data.get("sequence_column"), data.get("mutations_column")),
        sequence=sequence,
        mutations=mutations,
        wildtype=parent,
        numbering=number,
        on_bad_row=on_bad_row,
    )
    columns, cells, values = _predict(model, reader, voice, uncertainty)
    order = _rank(cells, values, ascending, columns.index("rank"))
    by, ranked = _ranked_by(model.spec)
    written = write_with_columns(new, out, columns, cells, order if sort else None)
    outside = sum(row[columns.index("in_domain")] == "no" for row in cells.values())
    for note in [*(said if reader.by_mutations else []), *reader.notes]:
        voice.say(note)
    if uncertainty and model.spec.task == "regression":
        for line in missing_intervals(model.uncertainty, model.spec.target_names, INTERVAL):
            voice.say(line)
    voice.say(f"rank: by {ranked}; 1 is the {'lowest' if ascending else 'highest'}")
    predicted = plural(len(values), "sequence")
    voice.say(f"{predicted} predicted, {outside:,} outside the training domain")
    if reader.skipped:
        skipped = plural(len(reader.skipped), reader.unit)
        voice.say(f"{skipped} without a prediction (see domain_note)")
    if not to_stdout:
        voice.say(f"{out}: {plural(written, 'row')}")
    if json_line:
        print(
            json.dumps(
                {
                    "out": str(out),
                    "rows": written,
                    "predicted": len(values),
                    "skipped": len(reader.skipped),
                    "ranked_by": by,
                    "out_of_domain": outside,
                }
            )
        )


def _wildtype(
    data: Mapping[str, Any], given: str | None, numbering: str | int
) -> tuple[str | None, str | int, list[str]]:
    """(wild type, numbering, sentences on both): what is given, else what the run's table had.

    Args:
        data: "data" of config.json; runs of earlier versions have the numbering only.
    """
    from moltide.assay.wildtype import read_wildtype

    trained, parent, said = data.get("wildtype"), None, []
    if given is not None:
        found = read_wildtype(given)
        parent = found.sequence
        said.append(found.said)
    elif trained is not None:
        parent = trained
        said.append(f"wild type: that of the run, {len(parent)} residues")
    # The numbers of another wild type than the run's may be others.
    length = data.get("wildtype_length")
    same = parent is None or (parent == trained if trained else len(parent) == length)
    if numbering != "auto":
        said.append(f"numbering: the first residue is number {numbering} (given)")
    elif same and data.get("numbering") is not None:
        numbering = int(data["numbering"])
        said.append(
            f"numbering: the first residue is number {numbering} (as in the run; --numbering for "
            "another)"
        )
    return parent, numbering, said


def _predict(
    model: AssayModel, reader: Any, voice: Any, uncertainty: bool
) -> tuple[list[str], dict[int, list[Any]], dict[int, float]]:
    """(names of the new columns, their cells by row, the value to rank by)."""
    from types import SimpleNamespace

    from moltide.assay_model.uncertainty import INTERVAL
    from moltide.errors import ConfigError
    from moltide.finetune.results import predicted_cells, prediction_columns

    spec = model.spec
    if spec.level != "sequence":
        raise ConfigError(
            "this model predicts residues, not sequences; use it from Python: "
            "moltide.load_assay_model(RUN).predict(sequences)"
        )
    interval = INTERVAL if uncertainty and model.uncertainty is not None else None
    table = SimpleNamespace(task=spec.task, classes=list(spec.classes))
    several = len(spec.target_names) > 1
    columns: list[str] = []
    for name in spec.target_names:
        columns += prediction_columns(name, table, several, measured=False)
    width = len(columns)
    columns += ["rank", "in_domain", "domain_note"]
    cells: dict[int, list[Any]] = {}
    values: dict[int, float] = {}
    done = 0
    with voice.busy("predicting"):
        for batch in reader:
            if not done:
                common.say_int8_cost(voice, model.encoder, batch.sequences, model.adapter)
            found = model.predict(batch.sequences, interval=interval, domain=True)
            for at, row in enumerate(batch.rows):
                listed: list[Any] = []
                for j in range(len(spec.target_names)):
                    listed += predicted_cells(found, at, j, spec.classes)
                note = found.notes[at] if found.notes else ""
                remark = "; ".join(filter(None, (note, reader.remarks.get(row))))
                cells[row] = [*listed, "", "no" if note else "yes", remark]
                if found.probabilities is not None:
                    values[row] = float(found.probabilities[at, 0, -1])
                else:
                    values[row] = float(found.values[at, 0])
            done += len(batch)
    for row, reason in reader.skipped.items():
        cells[row] = [""] * (width + 1) + ["", f"not predicted: {reason}"]
    return columns, cells, values


def _ranked_by(spec: ModelSpec) -> tuple[str, str]:
    """(the column that ranks go by, the same in words): of the first target, and for classes the
    probability of the last one."""
    several = len(spec.target_names) > 1
    suffix = f"_{spec.target_names[0]}" if several else ""
    column, words = f"predicted{suffix}", ""
    if spec.task == "classification":
        column = f"p_{spec.classes[-1]}{suffix}"
        words = f", the probability of {spec.classes[-1]!r}"
    if several:
        words += f", the first of {len(spec.target_names)} targets"
    return column, f"{column!r}{words}"


def _rank(
    cells: dict[int, list[Any]], values: dict[int, float], ascending: bool, column: int
) -> list[int]:
    """Fill in ranks; returns the rows in that order, those without a prediction last."""
    from moltide.cli.table_output import ranks

    for row, rank in zip(values, ranks(list(values.values()), ascending), strict=True):
        cells[row][column] = rank
    order = sorted(values, key=lambda row: (cells[row][column], row))
    return [*order, *(row for row in cells if row not in values)]


COMMAND = predict
