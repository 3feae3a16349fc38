"""What a model predicts, and how targets become numbers of order one and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import ConfigError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ModelSpec:
    """The task.

    Attributes:
        task: "regression" or "classification".
        level: "sequence": one row of targets a sequence; "residue": one a residue.
        target_names: k names.
        classes: class names by index; empty for regression.
    """

    task: str
    level: str
    target_names: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.task == "classification" and len(self.classes) > 2 and len(self.target_names) > 1:
            raise ConfigError(
                f"{len(self.target_names)} targets with {len(self.classes)} classes; with more "
                "than two classes fit one target at a time"
            )

    @property
    def binary(self) -> bool:
        """Classification with two classes: one logit a target."""
        return self.task == "classification" and len(self.classes) == 2

    @property
    def outputs(self) -> int:
        """Numbers that the head puts out."""
        if self.task == "classification" and not self.binary:
            return len(self.classes)
        return len(self.target_names)

    @property
    def metric(self) -> str:
        """Name of the validation metric."""
        if self.task == "regression":
            return "Spearman"
        return "AUROC" if self.level == "sequence" else "accuracy"

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "level": self.level,
            "target_names": list(self.target_names),
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        return cls(
            str(values["task"]),
            str(values["level"]),
            tuple(values["target_names"]),
            tuple(values["classes"]),
        )


@dataclass(frozen=True)
class TargetScaling:
    """Standardisation of each target by the training rows; `mean` and `sd` are (k,) float64."""

    mean: FloatArray
    sd: FloatArray

    @classmethod
    def fit(cls, targets: FloatArray) -> TargetScaling:
        """Mean and standard deviation of the measured values of `targets` (n, k)."""
        mean, sd = np.zeros(targets.shape[1]), np.ones(targets.shape[1])
        for j in range(targets.shape[1]):
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
