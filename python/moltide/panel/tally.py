"""What a whole file of predictions comes to, counted row by row as it is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.panel.lights import LIGHTS
from moltide.panel.thresholds import Threshold

if TYPE_CHECKING:
    import numpy.typing as npt

    from moltide.assay_model import AssayModel
    from moltide.assay_model.spec import FloatArray

_BINS = 40
_SKIPPED_SHOWN = 100


@dataclass
class EndpointTally:
    """One endpoint over all rows predicted.

    Attributes:
        edges: (bins + 1,) of `counts`; values beyond are counted in the outermost bins.
        training: (bins,) share of the training values in each, None for classes.
        lights: rows by light, empty without a threshold.
    """

    name: str
    classes: tuple[str, ...]
    threshold: Threshold | None
    edges: FloatArray
    counts: npt.NDArray[np.int64]
    training: FloatArray | None
    lights: dict[str, int]


@dataclass
class RankedRow:
    """A row of the first or the last ranks, with the cells that were added."""

    rank: int
    name: str
    cells: list[str]


@dataclass
class Tally:
    """Counts over the rows of a file; `skipped` has the first rows without a prediction."""

    endpoints: list[EndpointTally]
    rows: int = 0
    outside: int = 0
    skipped_rows: int = 0
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    best: list[RankedRow] = field(default_factory=list)
    worst: list[RankedRow] = field(default_factory=list)

    @classmethod
    def begin(cls, model: AssayModel, thresholds: dict[int, Threshold]) -> Tally:
        """With bins that suit the training values, or from 0 to 1 for probabilities."""
        endpoints = []
        for j, name in enumerate(model.spec.target_names):
            classes = model.spec.classes_of(j)
            known = None if model.distribution is None else model.distribution[j]
            if classes or known is None or np.isnan(known).all():
                mean, sd = float(model.scaling.mean[j]), float(model.scaling.sd[j])
                low, high = (0.0, 1.0) if classes else (mean - 4 * sd, mean + 4 * sd)
                training = None
            else:
                low, high = float(known[0]), float(known[-1])
                margin = 0.1 * (high - low) or 1.0
                low, high = low - margin, high + margin
                training = np.histogram(known, _BINS, (low, high))[0] / len(known)
            edges = np.linspace(low, high, _BINS + 1)
            lights = dict.fromkeys(LIGHTS, 0) if j in thresholds else {}
            endpoints.append(
                EndpointTally(
                    name, classes, thresholds.get(j), edges, np.zeros(_BINS, np.int64), training,
                    lights,
                )
            )  # fmt: skip
        return cls(endpoints)

    def add(
        self, number: int, name: str, cells: Sequence[Any], values_at: Sequence[int],
        lights_at: dict[int, int],
    ) -> None:  # fmt: skip
        """Count a row, from the cells that were added to it; `values_at` and `lights_at` say which
        of them hold the values (of classes the last probability) and the lights."""
        self.rows += 1
        if not cells[-2]:
            self.skipped_rows += 1
            if len(self.skipped) < _SKIPPED_SHOWN:
                reason = str(cells[-1]).removeprefix("not predicted: ")
                self.skipped.append((number, name, reason))
            return
        self.outside += cells[-2] == "no"
        for j, endpoint in enumerate(self.endpoints):
            value = float(cells[values_at[j]] or "nan")
            if not math.isnan(value):
                place = np.searchsorted(endpoint.edges, value, side="right") - 1
                endpoint.counts[min(max(int(place), 0), _BINS - 1)] += 1
            if j in lights_at:
                endpoint.lights[str(cells[lights_at[j]])] += 1
