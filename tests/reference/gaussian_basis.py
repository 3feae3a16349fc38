"""Float64 Gaussian basis of an edge's distance, seen through a factor and an offset of its type."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
Ints = NDArray[np.int32]
PI = 3.14159  # as published models have it


def _parts(
    distances: Array,
    edges: Ints,
    mul: Array,
    bias: Array,
    means: Array,
    stds: Array,
    dtype: DTypeLike,
) -> tuple[Array, Array, Array]:
    """z and y (P, K), s (K)."""
    distances, mul, bias, means, stds = (
        np.asarray(x, dtype) for x in (distances, mul, bias, means, stds)
    )
    s = np.abs(stds) + np.asarray(1e-5, dtype)
    z = ((mul[edges] * distances + bias[edges])[:, None] - means) / s
    return z, np.exp(-(z**2) / 2) / (np.asarray((2 * PI) ** 0.5, dtype) * s), s


def fwd(
    distances: Array,
    edges: Ints,
    mul: Array,
    bias: Array,
    means: Array,
    stds: Array,
    dtype: DTypeLike = np.float64,
) -> Array:
    """(P, K)."""
    return _parts(distances, edges, mul, bias, means, stds, dtype)[1]


def bwd(
    dy: Array, distances: Array, edges: Ints, mul: Array, bias: Array, means: Array, stds: Array
) -> tuple[Array, Array, Array, Array]:
    """(dmul (E), dbias (E), dmeans (K), dstds (K))."""
    z, y, s = _parts(distances, edges, mul, bias, means, stds, np.float64)
    g = np.asarray(dy, np.float64) * y / s
    da = -(g * z).sum(axis=1)
    dmul, dbias = np.zeros(len(mul)), np.zeros(len(mul))
    np.add.at(dmul, edges, da * np.asarray(distances, np.float64))
    np.add.at(dbias, edges, da)
    return dmul, dbias, (g * z).sum(axis=0), (g * (z**2 - 1)).sum(axis=0) * np.sign(stds)
