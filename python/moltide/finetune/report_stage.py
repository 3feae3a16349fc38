"""report.html of a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.finetune import folder as names
from moltide.finetune.curve import CurvePoint, primary_metric
from moltide.finetune.results import TargetResult
from moltide.options import option

if TYPE_CHECKING:
    from moltide.assay_model import Prediction
    from moltide.baselines import BaselineResult
    from moltide.finetune.planned import PlannedRun
    from moltide.report import LearningCurve, TargetReport, TrainingCurve
    from moltide.training import FitResult

_LABEL = "Fine-tuned model"


def write_run_report(
    run: PlannedRun,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    targets: Sequence[TargetResult],
    predictions: Mapping[str, Prediction],
    missing: Sequence[str],
    baselines: Sequence[BaselineResult],
    result: FitResult,
    curve: Sequence[CurvePoint],
) -> None:
    """Write RUN/report.html.

    Args:
        missing: why there are no intervals.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    from moltide.report import ReportData, facts_from_lines, write_report

    sections = [
        _target(run, j, one, predictions, baselines, result, curve) for j, one in enumerate(targets)
    ]
    reference = config["model"]["backbone"]
    data = ReportData(
        title=Path(run.options.assay).name.split(".")[0],
        verdict=str(metrics["verdict"]),
        targets=sections,
        source=Path(run.options.assay).name,
        summary=facts_from_lines(run.table.summary.lines()),
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
        notes=_notes(predictions["test"], missing, run.cut_short),
    )
    write_report(data, run.folder.file(names.REPORT))


def _target(
    run: PlannedRun,
    column: int,
    found: TargetResult,
    predictions: Mapping[str, Prediction],
    baselines: Sequence[BaselineResult],
    result: FitResult,
    curve: Sequence[CurvePoint],
) -> TargetReport:
    from moltide.report import TargetReport, measure_methods

    table, test = run.table, run.split.index("test")
    prediction = predictions["test"]

    def of_target(array: Any) -> Any:
        return None if array is None else array[:, column]

    values = of_target(prediction.probabilities)
    if values is None:
        values = of_target(prediction.values)
    y, censor = table.targets[test, column], table.censor[test, column]
    n_classes = len(table.classes or ()) or 2
    methods = measure_methods(
        y,
        values,
        [one.for_target(column) for one in baselines],
        task=table.task,
        n_classes=n_classes,
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
        task=table.task,
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
        noise_sd=table.summary.targets[column].noise_sd,
        n_replicates=table.n_replicates[test, column].astype(np.float64),
        classes=table.classes,
        learning_curve=_curve(run, curve) if one_target else None,
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
    for method, label in (("model", _LABEL), ("ridge", "Ridge on the sequence")):
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


def _command(run: PlannedRun) -> str:
    """A command that repeats the run."""
    options, settings = run.options, run.options.settings
    parts = ["moltide", "finetune", str(options.assay), "--out", str(options.out)]
    parts += ["--backbone", str(options.backbone), "--split", options.split]
    for name, value in options.table.items():
        if value is not None and value not in ("auto", "report", "error"):
            parts += [f"--{name.replace('_', '-')}", str(value)]
    parts += ["--adapter", settings.adapter, "--seed", str(settings.seed)]
    for name in ("lr", "epochs", "max_minutes"):
        if getattr(settings, name) is not None:
            parts += [f"--{name.replace('_', '-')}", f"{getattr(settings, name):g}"]
    return shlex.join(parts)
