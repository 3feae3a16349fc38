"""What a model predicts, and how targets become numbers of order one and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.assay.transforms import Scale
from moltide.errors import ConfigError
from moltide.tasks import CLASSIFICATION, MIXED, REGRESSION

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ModelSpec:
    """The task.

    Attributes:
        task: "regression", "classification", or "mixed": targets of both kinds.
        level: "sequence": one row of targets a sequence; "residue": one a residue.
        target_names: k names.
        classes: class names by index; empty for regression, and where targets have their own.
        target_classes: then those of each target, () for numbers; else empty.
        scales: where these are known, what the numbers of each target are: its unit, and the
            logarithm that was taken of the table's values.
        paired: the sequences are pairs of chains (`moltide.pairs`), and only such can be predicted.
    """

    task: str
    level: str
    target_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    target_classes: tuple[tuple[str, ...], ...] = ()
    scales: tuple[Scale, ...] = ()
    paired: bool = False

    def __post_init__(self) -> None:
        for name, own in zip(self.target_names, self._classes, strict=True):
            if len(own) > 2 and len(self.target_names) > 1:
                raise ConfigError(
                    f"{len(self.target_names)} targets, of which {name!r} has {len(own)} classes; "
                    "with more than two classes fit one target at a time"
                )

    @property
    def _classes(self) -> tuple[tuple[str, ...], ...]:
        return self.target_classes or (self.classes,) * len(self.target_names)

    def classes_of(self, target: int) -> tuple[str, ...]:
        """Class names of a target, () for numbers."""
        return self._classes[target]

    def task_of(self, target: int) -> str:
        """ "regression" or "classification"."""
        if self.task != MIXED:
            return self.task
        return CLASSIFICATION if self.classes_of(target) else REGRESSION

    @property
    def of_numbers(self) -> list[int]:
        """Targets that are numbers."""
        k = len(self.target_names)
        return [j for j in range(k) if self.task_of(j) == REGRESSION]

    @property
    def of_classes(self) -> list[int]:
        """Targets that are classes."""
        k = len(self.target_names)
        return [j for j in range(k) if self.task_of(j) == CLASSIFICATION]

    @property
    def binary(self) -> bool:
        """Whether targets of classes have two of them, and so one logit each."""
        return bool(self.of_classes) and all(len(self.classes_of(j)) == 2 for j in self.of_classes)

    @property
    def transformed(self) -> bool:
        """Whether some target is a logarithm of the values in its table."""
        return any(one.logarithmic for one in self.scales)

    @property
    def outputs(self) -> int:
        """Numbers that the head puts out."""
        if self.of_classes and not self.binary:
            return len(self.classes)
        return len(self.target_names)

    @property
    def metric(self) -> str:
        """Name of the validation metric."""
        if self.task == MIXED:
            return "score"
        if self.task == REGRESSION:
            return "Spearman"
        return "AUROC" if self.level == "sequence" else "accuracy"

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "task": self.task,
            "level": self.level,
            "target_names": list(self.target_names),
            "classes": list(self.classes),
        }
        if self.target_classes:
            values["target_classes"] = [list(own) for own in self.target_classes]
        if any(one.unit or one.logarithmic for one in self.scales):
            values["scales"] = [one.to_dict() for one in self.scales]
        if self.paired:
            values["paired"] = True
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        return cls(
            str(values["task"]),
            str(values["level"]),
            tuple(values["target_names"]),
            tuple(values["classes"]),
            tuple(tuple(own) for own in values.get("target_classes", ())),
            tuple(Scale.from_dict(one) for one in values.get("scales", ())),
            bool(values.get("paired", False)),
        )


@dataclass(frozen=True)
class TargetScaling:
    """Standardisation of each target by the training rows; `mean` and `sd` are (k,) float64."""

    mean: FloatArray
    sd: FloatArray

    @classmethod
    def fit(cls, targets: FloatArray, columns: Sequence[int] | None = None) -> TargetScaling:
        """Mean and standard deviation of the measured values of `targets` (n, k); columns that
        are not among `columns` (None: all are) stay as they are."""
        mean, sd = np.zeros(targets.shape[1]), np.ones(targets.shape[1])
        for j in range(targets.shape[1]) if columns is None else columns:
            values = targets[:, j][~np.isnan(targets[:, j])]
            if len(values):
                mean[j] = values.mean()
                spread = values.std()
                sd[j] = spread if spread > 1e-12 * max(1.0, abs(mean[j])) else 1.0
        return cls(mean, sd)

    @classmethod
    def none(cls, k: int) -> TargetScaling:
        """Leaves k targets as they are."""
        return cls(np.zeros(k), np.ones(k))

    def forward(self, targets: FloatArray) -> npt.NDArray[np.float32]:
        scaled: npt.NDArray[np.float32] = ((targets - self.mean) / self.sd).astype(np.float32)
        return scaled

    def backward(self, values: npt.ArrayLike) -> FloatArray:
        back: FloatArray = np.asarray(values, np.float64) * self.sd + self.mean
        return back
