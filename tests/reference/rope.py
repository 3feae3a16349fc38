"""Float64 rotary positions (Su et al. 2021), the two halves of a head paired."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def table(max_len: int, head_dim: int, base: float) -> tuple[Array, Array]:
    """(cos, sin) (max_len, head_dim / 2) of angles rounded to float32 as the models round them."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    power = np.power(float(base), exponent.astype(np.float64)).astype(np.float32)
    inv_freq = np.float32(1) / power
    angle = (np.arange(max_len, dtype=np.float32)[:, None] * inv_freq).astype(np.float64)
    return np.cos(angle), np.sin(angle)


def rotate(
    x: Array, position: NDArray[np.int32], heads: int, cos: Array, sin: Array, inverse: bool = False
) -> Array:
    """x (T, heads * head_dim) turned by its positions' angles, or back by them."""
    x = np.asarray(x, np.float64)
    low, high = np.split(x.reshape(len(x), heads, 2 * cos.shape[1]), 2, axis=2)
    c = np.asarray(cos, np.float64)[position][:, None, :]
    s = np.asarray(sin, np.float64)[position][:, None, :] * (-1 if inverse else 1)
    return np.concatenate([low * c - high * s, high * c + low * s], axis=2).reshape(x.shape)
