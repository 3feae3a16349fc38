"""Float64 layer norm (Ba et al. 2016): rows of x (T, C), biased variance, eps inside the root."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def fwd(x: Array, w: Array, b: Array, eps: float) -> tuple[Array, Array, Array]:
    """(y (T, C), mean (T), rstd (T))."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=1)
    rstd = 1 / np.sqrt(((x - mean[:, None]) ** 2).mean(axis=1) + eps)
    return (x - mean[:, None]) * rstd[:, None] * w + b, mean, rstd


def bwd(dy: Array, x: Array, w: Array, eps: float) -> tuple[Array, Array, Array]:
    """(dx (T, C), dw (C), db (C))."""
    _, mean, rstd = fwd(x, w, np.zeros_like(w), eps)
    dy = np.asarray(dy, np.float64)
    hat = (np.asarray(x, np.float64) - mean[:, None]) * rstd[:, None]
    g = dy * w
    projected = g - g.mean(axis=1, keepdims=True) - hat * (g * hat).mean(axis=1, keepdims=True)
    return projected * rstd[:, None], (dy * hat).sum(axis=0), dy.sum(axis=0)
