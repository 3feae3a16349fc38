"""report.html of a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.finetune import folder as names
from moltide.finetune.curve import CurvePoint, primary_metric
from moltide.finetune.molecule_report import molecules_of
from moltide.finetune.remarks import remark_lines
from moltide.finetune.results import TargetResult
from moltide.kinds import MOLECULE
from moltide.options import option
from moltide.tasks import REGRESSION

if TYPE_CHECKING:
    from moltide.assay_model import Prediction
    from moltide.baselines import BaselineResult
    from moltide.company import Comparison
    from moltide.finetune.planned import PlannedRun
    from moltide.report import LearningCurve, TargetReport, TrainingCurve
    from moltide.report.panel import Panel
    from moltide.training import FitResult

_LABEL = "Fine-tuned model"
_CURVES = {
    "model": _LABEL,
    "ridge": "Ridge on the sequence",
    "morgan_forest": "Random forest on Morgan counts",
}


@dataclass
class Findings:
    """What a run found; `alone` are targets fitted alone, `missing` says why there are no
    intervals, `baselines` are those of each target."""

    targets: Sequence[TargetResult]
    alone: Sequence[Comparison | None]
    predictions: Mapping[str, Prediction]
    missing: Sequence[str]
    baselines: Sequence[Sequence[BaselineResult]]
    result: FitResult
    curve: Sequence[CurvePoint]


def write_run_report(
    run: PlannedRun, config: Mapping[str, Any], metrics: Mapping[str, Any], found: Findings
) -> None:
    """Write RUN/report.html.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    from moltide.report import ReportData, facts_from_lines, write_report

    sections = [_target(run, j, found) for j in range(len(found.targets))]
    test, result = found.predictions["test"], found.result
    reference = config["model"]["backbone"]
    data = ReportData(
        title=Path(run.options.assay).name.split(".")[0],
        verdict=str(metrics["verdict"]),
        targets=sections,
        source=Path(run.options.assay).name,
        summary=facts_from_lines([*run.table.summary.lines(), *remark_lines(run.remarks)]),
        split_method=run.split_name,
        split_reason=run.split.reason,
        split_counts=run.split.counts(),
        split_notes=list(run.split.notes),
        training=_training(run, result),
        settings={"backbone": reference["name"], "split": run.split_name, **config["settings"]},
        provenance={
            "data SHA-256": run.folder.identity["data"]["sha256"],
            "split SHA-256": run.folder.identity["split_sha256"],
            "backbone SHA-256": reference["sha256"],
            **config["environment"],
        },
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
        command=_command(run),
        notes=_notes(test, found.missing, run.cut_short),
        panel=_panel(run, found) if len(sections) > 1 else None,
        molecules=molecules_of(run) if run.table.kind == MOLECULE else None,
    )
    write_report(data, run.folder.file(names.REPORT))


def _target(run: PlannedRun, column: int, findings: Findings) -> TargetReport:
    from moltide.report import TargetReport, measure_methods

    table, test = run.table, run.split.index("test")
    found, result = findings.targets[column], findings.result
    prediction = findings.predictions["test"]
    numbers = table.task_of(column) == REGRESSION

    def of_target(array: Any) -> Any:
        return None if array is None or not numbers else array[:, column]

    values = prediction.of(run.spec, column)
    y, censor = table.targets[test, column], table.censor[test, column]
    classes = table.classes_of(column)
    methods = measure_methods(
        y,
        values,
        findings.baselines[column],
        task=found.task,
        n_classes=len(classes or ()) or 2,
        censor=censor,
        groups=None if run.split.groups is None else run.split.groups[test],
        model_label=_LABEL,
        model_note=f"{run.settings.adapter}, {result.kept}",
        model_seconds=result.seconds,
        seed=int(run.settings.seed),
    )
    mutations = None if table.mutations is None else [table.mutations[i] for i in test]
    one_target = len(table.target_names) == 1
    return TargetReport(
        name=found.name,
        y=y,
        prediction=values,
        names=_names(run, test),
        methods=methods,
        verdict=found.verdict,
        task=found.task,
        rows=["; ".join(map(str, table.rows[i])) for i in test],
        std=of_target(prediction.std),
        low=of_target(prediction.low),
        high=of_target(prediction.high),
        censor=censor.astype(np.int64) if censor.any() else None,
        domain_notes=prediction.notes or None,
        positions=None
        if mutations is None
        else [tuple(change.position for change in one) for one in mutations],
        wildtype=table.wildtype,
        numbering=table.numbering,
        unit=table.scale_of(column).unit_beside(found.name),
        noise_sd=table.summary.targets[column].noise_sd,
        n_replicates=table.n_replicates[test, column].astype(np.float64),
        classes=classes,
        learning_curve=_curve(run, findings.curve) if one_target else None,
    )


def _panel(run: PlannedRun, found: Findings) -> Panel:
    """The endpoints side by side, and how they go together."""
    from moltide.report.panel import Panel, correlations

    test = found.predictions["test"]
    predicted = [test.of(run.spec, j) for j in range(len(found.targets))]
    alone = {one.name: one for one in found.alone if one is not None}
    curve = _curve(run, found.curve)
    return Panel(
        n_train=[one.n_train for one in found.targets],
        alone=[alone.get(one.name) for one in found.targets],
        measured=correlations(run.table.targets),
        predicted=correlations(
            np.stack([one if one.ndim == 1 else one[:, -1] for one in predicted], axis=1)
        ),
        learning_curve=curve,
        thresholds=[str(one) for one in run.thresholds],
    )


def _names(run: PlannedRun, index: np.ndarray) -> list[str]:
    """Mutations where there is a wild type, else sequences."""
    from moltide.assay import format_mutations

    table = run.table
    if table.mutations is None:
        return [table.sequences[i] for i in index]
    return [format_mutations(table.mutations[i], offset=table.numbering) for i in index]


def _curve(run: PlannedRun, points: Sequence[CurvePoint]) -> LearningCurve | None:
    from moltide.report import CurveSeries, LearningCurve

    if not points:
        return None
    series = []
    for method, label in _CURVES.items():
        own = [point for point in points if point.method == method]
        if own:
            sizes, values = [p.n_train for p in own], [[p.value] for p in own]
            series.append(CurveSeries(label, sizes, values, method == "model"))
    return LearningCurve(primary_metric(run.table.task), series)


def _training(run: PlannedRun, result: FitResult) -> TrainingCurve:
    from moltide.report import TrainingCurve

    steps = [float(one.step) for one in result.history]
    scored = [one for one in result.history if one.score is not None]
    best = [one.step for one in result.history if one.epoch == result.best_epoch]
    return TrainingCurve(
        steps,
        [one.loss for one in result.history],
        [float(one.step) for one in scored],
        [float(one.score or 0.0) for one in scored],
        primary_metric(run.table.task),
        float(best[0]) if best else None,
        f"Training loss ({run.settings.loss})",
    )


def _notes(test: Prediction, missing: Sequence[str], cut_short: Sequence[str]) -> list[str]:
    notes = [f"{line[:1].upper()}{line[1:]}." for line in missing]
    notes += [f"Cut short to end in time ({option('max_minutes')}): {line}." for line in cut_short]
    outside = int((~test.in_domain).sum()) if test.notes else 0
    if outside:
        notes.append(
            f"{outside:,} of {len(test.notes):,} test sequences lie outside the training domain "
            "(positions that never varied in training, or far from every training sequence)."
        )
    return notes


def _written(value: Any) -> str:
    """A table option as it is typed."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one}" for name, one in value.items())
    return str(value) if isinstance(value, str | int | os.PathLike) else ",".join(value)


def _command(run: PlannedRun) -> str:
    """A command that repeats the run."""
    options, settings = run.options, run.options.settings
    parts = ["moltide", "finetune", str(options.assay), "--out", str(options.out)]
    parts += ["--backbone", str(options.backbone), "--split", options.split]
    for name, value in options.table.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parts += [flag] if value else []
        elif value is not None and value not in ("auto", "report", "error"):
            parts += [flag, _written(value)]
    parts += ["--adapter", settings.adapter, "--seed", str(settings.seed)]
    if options.compare_single:
        parts.append("--compare-single")
    if options.thresholds is not None:
        parts += ["--thresholds", str(options.thresholds)]
    for name in ("lr", "epochs", "max_minutes"):
        if getattr(settings, name) is not None:
            parts += [f"--{name.replace('_', '-')}", f"{getattr(settings, name):g}"]
    return shlex.join(parts)
