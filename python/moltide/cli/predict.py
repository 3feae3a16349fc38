"""`moltide predict`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moltide.cli import common
from moltide.cli.common import MODEL_PANEL, OUTPUT_PANEL, TABLE_PANEL
from moltide.kinds import MOLECULE
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.cli.reading import SequenceReader
    from moltide.cli.voice import TerminalVoice
    from moltide.panel import Tally, Threshold
    from moltide.predicting import Columns, Outcome, Partial

HELP = """Predict new sequences with a fine-tuned model.

Adds columns to the rows of NEW (CSV, TSV, Parquet, XLSX, FASTA; of molecules also SDF and .smi;
SMILES are standardised as in training): predicted, std (of the error),
low90 and high90 (an interval that holds 90% of values like the validation rows'), rank, in_domain
and domain_note (what sets a sequence apart from the training sequences).

With --thresholds, or those kept with the model, each target has a light: green where the interval
meets its threshold, red where it does not, amber where it cannot be told, grey outside the training
domain; and meets, the probability. Rows rank by the probability that all are met. Without, several
targets rank by their mean percentile among the training values, and a single one by its value.

Rows are written as they are predicted: memory does not grow with their number, and the same command
goes on after Ctrl-C or a kill. Rank 1 is the highest, and equals share a rank.
"""
EPILOG = """Examples:

  moltide predict runs/gb1 new.csv -o predictions.csv

  moltide predict runs/scan library.fasta -o ranked.csv --sort

  moltide predict runs/panel new.csv -o out.csv --thresholds "Tm>60,KD<10" --report panel.html

  moltide predict runs/scan designs.csv --mutations variant -o out.parquet

  moltide predict runs/herg library.smi -o herg.csv --on-bad-row set_aside

  moltide predict runs/antibodies designs.csv --heavy VH --light VL -o out.csv
"""
# Ranks shown at each end in the terminal, and in the report; notes of the reader that are said.
_SHOWN, _IN_REPORT, _NOTES = 5, 50, 5


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
    heavy: common.HeavyColumn = None,
    light: common.LightColumn = None,
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
    thresholds: common.Thresholds = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also write the panel as one HTML file that works offline.",
            metavar="FILE.html",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None,
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
    from moltide.assay_model.uncertainty import INTERVAL
    from moltide.cli.reading import SequenceReader
    from moltide.cli.table_output import kind_of
    from moltide.cli.voice import TerminalVoice
    from moltide.errors import ConfigError
    from moltide.predicting import Columns

    to_stdout = str(out) == "-"
    kind_of(out)
    if not to_stdout:
        common.check_output(out, inputs=[new])
    if report is not None:
        common.check_output(report, inputs=[new, out])
        if report.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"{report}: the name ends in neither .html nor .htm")
    voice = TerminalVoice(to_stderr=json_line or to_stdout)
    document = read_config(run)
    with voice.busy("loading the model"):
        model = load(run, device.value, dtype.value)
    if model.spec.level != "sequence":
        raise ConfigError(
            "this model predicts residues, not sequences; use it from Python: "
            "moltide.load_assay_model(RUN).predict(sequences)"
        )
    wanted = _thresholds(thresholds, document, model.spec, ascending)
    columns = Columns(model, wanted, uncertainty, ascending)
    if report is not None and columns.view is None:
        raise ConfigError(
            "--report shows several targets, or lights: give --thresholds for a single target"
        )
    data = document.get("data", {})
    pairs = _pair_columns(data, model.spec, {"heavy": heavy, "light": light}, sequence, mutations)
    parent, number, said = _wildtype(data, wildtype, common.numbering_of(numbering))
    reader = SequenceReader(
        new,
        usual=(data.get("sequence_column"), data.get("mutations_column")),
        kind=model.encoder.tokenizer.kind,
        chemistry=model.chemistry,
        pairs=pairs,
        refusals=model.encoder.refusals,
        sequence=sequence,
        heavy=heavy,
        light=light,
        mutations=mutations,
        wildtype=parent,
        numbering=number,
        on_bad_row=on_bad_row,
    )
    with _partial(run, new, out, columns, reader, dtype.value, voice) as partial:
        outcome = _predict(columns, partial, reader, new, voice)
        tally = _write(columns, partial, out, sort)
        _say_notes(voice, reader, said)
        if uncertainty:
            for line in model.missing_intervals(INTERVAL):
                voice.say(line)
        by, words = columns.ranked_by
        if columns.view is not None:
            _say_panel(voice, columns, tally)
        voice.say(f"rank: by {words}")
        if columns.several and not wanted:
            voice.say('no lights: --thresholds "NAME<5,OTHER>-4" says what is wanted')
        _say_outcome(voice, outcome, reader.unit)
        if report is not None:
            from moltide.report.predictions import write_predictions_report

            places = {"values": columns.values_at, "lights": columns.lights_at}
            write_predictions_report(
                report,
                tally,
                {**places, "overall": columns.added.index("overall")},
                title=new.name,
                model=run.resolve().name,
                ranked_by=words,
            )
            voice.say(f"{report}: the panel, one file")
    if not to_stdout:
        voice.say(f"{out}: {plural(outcome.rows, 'row')}")
    if json_line:
        summary: dict[str, Any] = {
            "out": str(out),
            "rows": outcome.rows,
            "predicted": outcome.predicted,
            "skipped": outcome.skipped,
            "ranked_by": by,
            "out_of_domain": outcome.outside,
        }
        lights = {one.name: one.lights for one in tally.endpoints if one.lights}
        print(json.dumps({**summary, **({"lights": lights} if lights else {})}))


def _thresholds(
    given: str | None, document: Mapping[str, Any], spec: Any, ascending: bool
) -> dict[int, Threshold]:
    """Thresholds by target: those given, else those kept with the model."""
    from moltide.errors import ConfigError
    from moltide.panel import Threshold, matched, read_thresholds

    kept = [Threshold.from_dict(one) for one in document.get("thresholds", [])]
    found = matched(kept if given is None else read_thresholds(given), spec)
    if found and ascending:
        raise ConfigError(
            "--ascending does not go with thresholds: rank 1 is the row that is the likeliest to "
            "meet them"
        )
    return found


@contextlib.contextmanager
def _partial(
    run: Path,
    new: Path,
    out: Path,
    columns: Columns,
    reader: SequenceReader,
    dtype: str,
    voice: TerminalVoice,
) -> Iterator[Partial]:
    """The rows predicted so far: beside `out`, or for standard output in a folder of their own."""
    import moltide
    from moltide import _engine
    from moltide.predicting import Partial, identity_of
    from moltide.predicting.run import model_files

    with voice.busy("reading the input"):
        identity = identity_of(
            [new, *model_files(run)],
            moltide=moltide.__version__,
            # The same bits are promised on the same instruction set.
            arithmetic=[dtype, _engine.active_isa()],
            reading=reader.reading(),
            columns=columns.added,
            thresholds=[one.to_dict() for one in columns.thresholds.values()],
            interval=columns.interval,
            ascending=columns.ascending,
        )
    with contextlib.ExitStack() as stack:
        if str(out) == "-":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moltide-")))
            path = folder / "rows"
        else:
            path = out.with_name(f".{out.name}.partial")
        partial = Partial(path, identity)
        finished = False
        try:
            if partial.replaced:
                voice.say(f"{path.name} is of another input, model or option: begun anew")
            elif partial.resumed:
                voice.say(f"going on behind row {partial.done:,}, predicted before")
            yield partial
            finished = True
        finally:
            partial.close(finished)


def _predict(
    columns: Columns, partial: Partial, reader: SequenceReader, new: Path, voice: TerminalVoice
) -> Outcome:
    from moltide.cli.table_output import free_names, rows_of_input
    from moltide.predicting import predict_file

    model = columns.model
    with voice.busy("reading the input") as status:
        # What is refused is refused before the first prediction, wherever in the file it stands.
        if reader.options.get("on_bad_row") == "error" or reader.kind == MOLECULE:

            def show(rows: int) -> None:
                if status is not None:
                    status.update(f"reading the input: {rows:,} {reader.unit}s")

            total = reader.keep(show)
        else:
            total = sum(1 for _, block in rows_of_input(new) for _ in block)
    with voice.counting("predicting", total, reader.unit) as counter:
        return predict_file(
            columns,
            partial,
            rows_of_input(new),
            reader.batches(),
            counter,
            lambda given: [*given, *free_names(columns.added, given)],
            lambda texts: common.say_int8_cost(voice, model.encoder, texts, model.adapter),
        )


def _write(columns: Columns, partial: Partial, out: Path, sort: bool) -> Tally:
    """Write the rows with their ranks, and count what they come to."""
    from moltide.cli.table_output import write_stream
    from moltide.panel import RankedRow, Tally

    tally = Tally.begin(columns.model, columns.thresholds)
    width = len(columns.added)

    def rows() -> Iterator[list[Any]]:
        for number, name, cells, rank in partial.ranked(by_rank=sort):
            cells[-3] = "" if rank is None else rank
            tally.add(number, name, cells[-width:], columns.values_at, columns.lights_at)
            yield cells

    write_stream(out, partial.header(), rows())
    if columns.view is not None:
        for last, into in ((False, tally.best), (True, tally.worst)):
            for _, name, cells, rank in partial.ranked(True, _IN_REPORT, last):
                into.append(RankedRow(int(rank or 0), name, cells[-width:]))
    return tally


def _say_notes(voice: TerminalVoice, reader: SequenceReader, said: list[str]) -> None:
    notes = [*(said if reader.by_mutations else []), *reader.notes]
    for note in notes[:_NOTES]:
        voice.say(note)
    if len(notes) > _NOTES:
        voice.say(f"and {len(notes) - _NOTES:,} more notes like these, one a part of the file")


def _say_outcome(voice: TerminalVoice, outcome: Outcome, unit: str) -> None:
    predicted = plural(outcome.predicted, "sequence")
    voice.say(f"{predicted} predicted, {outcome.outside:,} outside the training domain")
    if outcome.skipped:
        voice.say(f"{plural(outcome.skipped, unit)} without a prediction (see domain_note)")


def _say_panel(voice: TerminalVoice, columns: Columns, tally: Tally) -> None:
    """Lights by endpoint, and the rows at both ends of the ranks."""
    from moltide.panel import LIGHTS

    lit = [one for one in tally.endpoints if one.lights]
    if lit:
        voice.table(
            ["wanted", *LIGHTS],
            [[str(one.threshold), *(f"{one.lights[light]:,}" for light in LIGHTS)] for one in lit],
        )
    best = tally.best[:_SHOWN]
    worst = [one for one in tally.worst[:_SHOWN] if one.rank > (best[-1].rank if best else 0)]
    at = columns.added.index("overall")
    names = columns.model.spec.target_names
    shown = list(columns.lights_at) or range(len(names))
    header = ["rank", "name", "overall", *(names[j] for j in shown)]
    rows = []
    for one in [*best, *worst[::-1]]:
        cells = []
        for j in shown:
            value = one.cells[columns.values_at[j]]
            light = one.cells[columns.lights_at[j]] if j in columns.lights_at else ""
            cells.append(f"{light} {value}".strip())
        name = one.name if len(one.name) <= 24 else f"{one.name[:21]}..."
        rows.append([f"{one.rank:,}", name, one.cells[at], *cells])
    if rows:
        voice.table(header, rows)


def _pair_columns(
    data: Mapping[str, Any],
    spec: Any,
    chains: Mapping[str, str | None],
    sequence: str | None,
    mutations: str | None,
) -> tuple[str | None, ...] | None:
    """The training table's columns of heavy and light chains; None for a model of single ones.

    Raises:
        ConfigError: columns named that the model has no use for.
    """
    from moltide.errors import ConfigError
    from moltide.options import option

    unfit = {"sequence": sequence, "mutations": mutations} if spec.paired else chains
    for name, column in unfit.items():
        if column is not None:
            use = "--heavy and --light" if spec.paired else "--sequence"
            what = "pairs of chains" if spec.paired else "single sequences"
            raise ConfigError(
                f"{option(name, column)}: this model was fitted to {what}; name them with {use}"
            )
    if not spec.paired:
        return None
    columns = data.get("chain_columns") or {}
    return (columns.get("heavy"), columns.get("light"))


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


COMMAND = predict
