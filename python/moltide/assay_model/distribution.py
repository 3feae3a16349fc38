"""Where a predicted value stands among the training values."""

from __future__ import annotations

import numpy as np

from moltide.assay_model.spec import FloatArray

_POINTS = 1001


def quantiles(targets: FloatArray, columns: list[int]) -> FloatArray:
    """(k, 1001) quantiles of the measured values of `targets` (n, k); NaN for other columns."""
    table = np.full((targets.shape[1], _POINTS), np.nan)
    for j in columns:
        values = targets[:, j][~np.isnan(targets[:, j])]
        if len(values):
            table[j] = np.quantile(values, np.linspace(0, 1, _POINTS))
    return table


def percentile(table: FloatArray, target: int, values: FloatArray) -> FloatArray:
    """(n,) percent of the training values of a target below each value, half of equal ones."""
    known = table[target]
    below = np.searchsorted(known, values, side="left")
    up_to = np.searchsorted(known, values, side="right")
    share: FloatArray = 50.0 * (below + up_to) / len(known)
    return share
