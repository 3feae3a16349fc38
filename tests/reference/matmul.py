"""The matrix product with its epilogues, and the weight gradient, in float64."""

from __future__ import annotations

from math import erf

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gelu(u: Array) -> Array:
    """u * Phi(u), the exact form of Hendrycks and Gimpel 2016."""
    return 0.5 * u * (1.0 + np.vectorize(erf, otypes=[np.float64])(u / np.sqrt(2.0)))


def matmul(x: Array, w: Array, bias: Array | None = None) -> Array:
    """x (M, K) times w (N, K) transposed, plus bias (N)."""
    y = np.asarray(x, np.float64) @ np.asarray(w, np.float64).T
    return y if bias is None else y + bias


def matmul_backward(dy: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    """Gradients (dx, dw, db) of sum(dy * matmul(x, w, bias))."""
    dy = np.asarray(dy, np.float64)
    return dy @ np.asarray(w, np.float64), dy.T @ np.asarray(x, np.float64), dy.sum(axis=0)


def magnitude(x: Array, w: Array, bias: Array | None = None) -> Array:
    """Sum of |products|: rounding errors of a float32 sum are proportional to it."""
    return matmul(np.abs(x), np.abs(w), None if bias is None else np.abs(bias))
