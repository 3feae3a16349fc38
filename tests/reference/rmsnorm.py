"""Float64 RMS norm (Zhang and Sennrich 2019) of the rows of x (T, C), eps inside the root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fwd(x: Array, w: Array, eps: float) -> tuple[Array, Array]:
    """(y (T, C), rstd (T))."""
    x = np.asarray(x, np.float64)
    rstd = 1 / np.sqrt((x**2).mean(axis=1) + eps)
    return x * rstd[:, None] * w, rstd


def bwd(dy: Array, x: Array, w: Array, eps: float) -> tuple[Array, Array]:
    """(dx (T, C), dw (C))."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    rstd = fwd(x, w, eps)[1][:, None]
    g = dy * w
    dx = rstd * g - x * rstd**3 * (g * x).mean(axis=1, keepdims=True)
    return dx, (dy * x * rstd).sum(axis=0)
