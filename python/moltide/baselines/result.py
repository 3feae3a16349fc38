"""What a baseline hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.kinds import MOLECULE, PROTEIN, RNA

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Keys of the baselines of proteins, in the order in which reports list them.
BASELINE_NAMES = ("mean", "ridge", "ridge_embeddings", "nearest_neighbour", "zero_shot")
#: The same for each kind of sequence.
NAMES_OF = {
    PROTEIN: BASELINE_NAMES,
    RNA: (
        "mean",
        "composition",
        "ridge",
        "ridge_kmers",
        "ridge_embeddings",
        "nearest_neighbour",
        "zero_shot",
    ),
    MOLECULE: (
        "mean",
        "morgan_forest",
        "morgan_boosting",
        "descriptors_ridge",
        "nearest_neighbour",
        "ridge_embeddings",
    ),
}
#: The baseline whose learning curve stands beside the model's: quick, and seldom far from the best.
CURVE_BASELINE = {PROTEIN: "ridge", RNA: "ridge", MOLECULE: "morgan_forest"}


@dataclass
class BaselineResult:
    """One baseline on the test rows, and on the validation rows where there are any.

    `predictions` is float64, (n_test,) for regression and (n_test, n_classes) class probabilities
    for classification; labels given as an (n, k) table add a target axis after the first:
    (n_test, k) and (n_test, k, n_classes). It is None where the baseline does not apply, and
    `note` then says why. `valid_predictions` has the same layout over the validation rows and
    comes from a fit that has not seen their labels, so it may be used to choose among baselines.
    `cut_short` says what a time limit left out, "" for nothing.
    """

    name: str
    label: str
    predictions: FloatArray | None
    fit_seconds: float
    note: str
    valid_predictions: FloatArray | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    cut_short: str = ""

    @property
    def available(self) -> bool:
        """Whether the baseline could be computed."""
        return self.predictions is not None

    def for_target(self, index: int) -> BaselineResult:
        """The result for one target of an (n, k) label table, as if it had been fitted alone."""
        per_target = self.settings.get("targets")
        settings = per_target[index] if per_target is not None else self.settings
        return BaselineResult(
            self.name,
            self.label,
            None if self.predictions is None else self.predictions[:, index],
            self.fit_seconds,
            str(settings.get("note", self.note)),
            None if self.valid_predictions is None else self.valid_predictions[:, index],
            dict(settings),
            self.cut_short,
        )


@dataclass
class TargetFit:
    """One baseline fitted to one target: predictions for test and validation rows."""

    test: FloatArray
    valid: FloatArray | None
    note: str
    settings: dict[str, Any] = field(default_factory=dict)
