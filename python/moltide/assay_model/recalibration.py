"""A line through validation rows that brings a model's outputs to the scale of the measurements.

The epoch is chosen by rank, and the best ranks often come when the spread of the outputs has outrun
what they know: rows that are not alike to the training rows are then predicted too far from the
mean. A line takes that back and changes no ranks (preshrinking: Copas 1983,
10.1111/j.2517-6161.1983.tb01258.x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay_model.spec import FloatArray

# The line is fitted as if so many rows more lay on the outputs as they are.
_ROWS_OF_NO_CHANGE = 50
# So that ranks stay, and outputs that hardly differ are not drawn out to noise.
_SLOPES = (0.1, 2.0)


@dataclass(frozen=True)
class Recalibration:
    """`slope` and `offset`, (k,) float64: standardised target = slope * output + offset."""

    slope: FloatArray
    offset: FloatArray

    @classmethod
    def none(cls, k: int) -> Recalibration:
        """Leaves k outputs as they are."""
        return cls(np.ones(k), np.zeros(k))

    @classmethod
    def fit(
        cls,
        outputs: FloatArray,
        targets: FloatArray,
        censor: npt.NDArray[np.int8] | None,
        columns: Sequence[int],
        ranks_only: bool = False,
    ) -> Recalibration:
        """Least squares over validation rows, for the targets `columns`.

        Args:
            outputs: (m, k). targets: (m, k), standardised, NaN = not measured.
            censor: (m, k), see `Rows`: targets with bounds keep their outputs, because the exact
                values among them are no fair sample.
            ranks_only: the loss gave the outputs no scale; they start from the mean and the
                spread of the targets, bounds or not.
        """
        found = cls.none(outputs.shape[1])
        for j in columns:
            known = ~np.isnan(targets[:, j])
            bounded = np.zeros(len(known), bool) if censor is None else censor[:, j] != 0
            if known.any() and (ranks_only or not (known & bounded).any()):
                rows = known & ~bounded
                found.slope[j], found.offset[j] = _line(
                    outputs[rows, j], targets[rows, j], ranks_only
                )
        return found

    def __call__(self, outputs: FloatArray) -> FloatArray:
        """(..., k) outputs on the scale of standardised targets."""
        return outputs * self.slope + self.offset


def _line(x: FloatArray, y: FloatArray, ranks_only: bool) -> tuple[float, float]:
    """(slope, offset) of the line through (x, y) and rows that lie on y = x, or with `ranks_only`
    on the line of the same mean and spread; they have the mean and the variance of x.

    Rows count less by as much as their targets vary less than those of training: among rows that
    were drawn from a part of the scale, the slope is too small (range restriction)."""
    if len(x) < 2 or x.std() == 0:
        return 1.0, 0.0
    unit = float(y.std() / x.std()) if ranks_only and y.std() > 0 else 1.0
    x_mean, y_mean = float(x.mean()), float(y.mean())
    start = y_mean if ranks_only else x_mean
    counted = len(x) * min(1.0, float(y.var()))
    share = counted / (counted + _ROWS_OF_NO_CHANGE)
    least_squares = float(np.mean((x - x_mean) * (y - y_mean)) / np.mean((x - x_mean) ** 2))
    slope = share * least_squares + (1 - share) * unit
    slope = min(max(slope, _SLOPES[0] * unit), _SLOPES[1] * unit)
    return slope, share * y_mean + (1 - share) * start - slope * x_mean
