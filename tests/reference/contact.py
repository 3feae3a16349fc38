"""The contact head of Rao et al. 2020 on written-out attention maps, step by step in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def symmetrise(maps: Array) -> Array:
    return maps + np.swapaxes(maps, -1, -2)


def average_product_correction(maps: Array) -> Array:
    rows = maps.sum(axis=-1, keepdims=True)
    columns = maps.sum(axis=-2, keepdims=True)
    return maps - rows * columns / maps.sum(axis=(-1, -2), keepdims=True)


def contacts(
    maps: Array, weight: Array, bias: float, skip_first: int = 1, skip_last: int = 1
) -> Array:
    """(l, l) contact probabilities of maps (channels, L, L), weights (channels,)."""
    stop = maps.shape[-1] - skip_last
    inner = np.asarray(maps, np.float64)[:, skip_first:stop, skip_first:stop]
    corrected = average_product_correction(symmetrise(inner))
    logits = np.tensordot(np.asarray(weight, np.float64), corrected, axes=1) + bias
    return 1 / (1 + np.exp(-logits))
