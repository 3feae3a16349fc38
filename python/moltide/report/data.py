"""What a report is made from, and the numbers that are computed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.result import BaselineResult
from moltide.bootstrap import Interval, bootstrap_intervals
from moltide.errors import DataError
from moltide.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, spearman
from moltide.verdict import Verdict, exact_values

FloatArray = npt.NDArray[np.float64]


@dataclass
class MethodRow:
    """One line of the metrics table. `metrics` maps a name to (value, low, high), 95 %.

    A method that could not be computed has no metrics, and `note` says why.
    """

    name: str
    label: str
    metrics: dict[str, Interval] = field(default_factory=dict)
    note: str = ""
    is_model: bool = False
    fit_seconds: float | None = None


@dataclass
class CurveSeries:
    """A metric against training size: per size the values of one or several seeds."""

    label: str
    sizes: list[int]
    values: list[list[float]]
    is_model: bool = False


@dataclass
class LearningCurve:
    """`metric` on the test rows after training on parts of the training rows."""

    metric: str
    series: list[CurveSeries]


@dataclass
class TrainingCurve:
    """Loss by optimiser step, and the validation metric where it was measured."""

    steps: list[float]
    loss: list[float]
    valid_steps: list[float] = field(default_factory=list)
    valid_values: list[float] = field(default_factory=list)
    valid_metric: str = "spearman"
    best_step: float | None = None
    loss_label: str = "Training loss"


@dataclass
class TargetReport:
    """Everything about one target; arrays (anything array-like) are over its n test rows.

    Attributes:
        name: as in the table. unit: shown on axes, such as "kcal/mol".
        y: (n,) measured value or class index, NaN = not measured.
        prediction: (n,) or (n, n_classes).
        names: n variants: mutation strings or sequences.
        rows: n source rows, as a spreadsheet counts them, "" where unknown.
        methods: the model first, then the baselines; see `measure_methods`.
        std: (n,) predicted standard deviation of the error, or None.
        low, high: (n,) ends of the interval of coverage `level`, or None.
        censor: (n,) int -1, 0, +1, or None.
        domain_notes: n words on what is unlike the training rows, "" for none.
        y_train, prediction_train: drawn grey behind the test rows, or None.
        positions: for each row its mutated positions, 0-based in the wild type; None if the rows
            are not variants of one wild type.
        numbering: the number of the first residue of the wild type.
        noise_sd: pooled SD of one reading. n_replicates: (n,) readings behind each value.
        classes: class names for classification.
    """

    name: str
    y: FloatArray
    prediction: FloatArray
    names: list[str]
    methods: list[MethodRow]
    verdict: Verdict | None = None
    task: str = "regression"
    metric: str = ""
    unit: str = ""
    rows: list[str] | None = None
    std: FloatArray | None = None
    low: FloatArray | None = None
    high: FloatArray | None = None
    level: float = 0.9
    censor: npt.NDArray[np.int64] | None = None
    domain_notes: list[str] | None = None
    y_train: FloatArray | None = None
    prediction_train: FloatArray | None = None
    positions: list[tuple[int, ...]] | None = None
    wildtype: str | None = None
    numbering: int = 1
    noise_sd: float | None = None
    n_replicates: FloatArray | None = None
    classes: list[str] | None = None
    learning_curve: LearningCurve | None = None

    def __post_init__(self) -> None:
        self.y = np.asarray(self.y, np.float64).reshape(-1)
        self.prediction = np.asarray(self.prediction, np.float64)
        if self.task == "classification" and self.prediction.ndim == 1:
            self.prediction = np.stack([1 - self.prediction, self.prediction], axis=1)
        n = len(self.y)
        for name in ("prediction", "names", "rows", "std", "low", "high", "censor",
                     "domain_notes", "positions", "n_replicates"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise DataError(f"report: {name} has {len(value)} entries for {n} test rows")
        places = [p for one in self.positions or () for p in one]
        length = len(self.wildtype) if self.wildtype else max(places, default=0) + 1
        if places and not 0 <= min(places) <= max(places) < length:
            raise DataError(
                f"report: positions run from {min(places)} to {max(places)}; allowed: 0 to "
                f"{length - 1}"
            )
        for name in ("std", "low", "high", "n_replicates", "y_train", "prediction_train"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, np.asarray(value, np.float64).reshape(-1))
        if self.censor is not None:
            self.censor = np.asarray(self.censor, np.int64).reshape(-1)
        if self.task == "classification" and self.classes is None:
            self.classes = [str(i) for i in range(self.prediction.shape[1])]
        self.metric = self.metric or ("spearman" if self.task == "regression" else "auroc")

    @property
    def exact(self) -> npt.NDArray[np.bool_]:
        """(n,) rows that metrics and figures use: measured, bounds left out as in the verdict."""
        return ~np.isnan(exact_values(self.y, self.censor))

    @property
    def metric_names(self) -> tuple[str, ...]:
        return REGRESSION_METRICS if self.task == "regression" else CLASSIFICATION_METRICS


@dataclass
class ReportData:
    """A whole report.

    Attributes:
        title: the assay. source: its file.
        verdict: the first line.
        summary: (label, text) facts about the table; see `facts_from_lines`.
        split_method, split_reason, split_counts, split_notes: see `moltide.splits.Split`.
        settings, provenance: nested dicts, flattened in the report: what was asked for, and
            hashes, versions, seed, machine.
        created: date and time in words. command: how to run it again.
        notes: what a reader should know first.
        panel: what stands beside several targets. molecules: repeats and activity cliffs, see
            `report.molecules`.
    """

    title: str
    verdict: str
    targets: list[TargetReport]
    source: str = ""
    summary: list[tuple[str, str]] = field(default_factory=list)
    split_method: str = ""
    split_reason: str = ""
    split_counts: dict[str, int] = field(default_factory=dict)
    split_notes: list[str] = field(default_factory=list)
    training: TrainingCurve | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    command: str = ""
    notes: list[str] = field(default_factory=list)
    panel: Any = None
    molecules: Any = None


def measure_methods(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    baselines: Sequence[BaselineResult],
    *,
    task: str = "regression",
    n_classes: int = 2,
    censor: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    model_label: str = "Fine-tuned model",
    model_note: str = "",
    model_seconds: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[MethodRow]:
    """Metrics with 95 % bootstrap intervals of the model and of the baselines of one target.

    Args:
        y: (n,), NaN = not measured. prediction: (n,) or (n, n_classes).
        baselines: for this one target, see `BaselineResult.for_target`.
        censor, groups: as in `moltide.verdict.make_verdict`.
    """
    metrics = REGRESSION_METRICS if task == "regression" else CLASSIFICATION_METRICS
    tables = {"": np.asarray(prediction, np.float64)}
    tables |= {one.name: one.predictions for one in baselines if one.predictions is not None}
    found = bootstrap_intervals(
        exact_values(y, censor), tables, metrics,
        n_classes=n_classes, resamples=resamples, groups=groups, seed=seed,
    )  # fmt: skip
    rows = [MethodRow("model", model_label, found[""], model_note, True, model_seconds)]
    for one in baselines:
        label = one.label[:1].upper() + one.label[1:]
        seconds = one.fit_seconds if one.available else None
        rows.append(MethodRow(one.name, label, found.get(one.name, {}), one.note, False, seconds))
    return rows


def noise_ceiling(
    y: npt.ArrayLike,
    noise_sd: float | None,
    n_replicates: npt.ArrayLike | None = None,
    metric: str = "spearman",
) -> float | None:
    """What a perfect model would score against labels as noisy as these; None if unknown.

    The true values are estimated by shrinking `y` towards its mean by the reliability (1 - noise
    variance / variance), then judged against themselves plus noise. RMSE and MAE have a floor.

    Args:
        noise_sd: SD of one reading. n_replicates: (n,) readings behind each value of `y`.
    """
    if noise_sd is None or not np.isfinite(noise_sd) or noise_sd <= 0:
        return None
    truth = np.asarray(y, np.float64).reshape(-1)
    known = ~np.isnan(truth)
    count = np.ones(len(truth)) if n_replicates is None else np.asarray(n_replicates, np.float64)
    truth, sd = truth[known], noise_sd / np.sqrt(np.maximum(count[known], 1.0))
    if len(truth) < 10:
        return None
    noise, variance = float((sd**2).mean()), float(truth.var())
    if metric == "rmse":
        return float(np.sqrt(noise))
    if metric == "mae":
        return float(np.sqrt(2 / np.pi) * sd.mean())
    if variance <= noise:
        return None
    reliability = 1 - noise / variance
    if metric == "r2":
        return reliability
    if metric == "pearson":
        return float(np.sqrt(reliability))
    if metric != "spearman":
        return None
    estimate = truth.mean() + np.sqrt(reliability) * (truth - truth.mean())
    generator = np.random.default_rng(0)
    draws = [spearman(estimate + sd * generator.normal(size=len(sd)), estimate) for _ in range(20)]
    return float(np.mean(draws))


def facts_from_lines(lines: Sequence[str], width: int = 10) -> list[tuple[str, str]]:
    """(label, text) from lines whose first `width` columns hold the label."""
    return [(line[:width].strip(), line[width:].strip()) for line in lines]
