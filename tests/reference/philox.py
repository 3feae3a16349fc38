"""Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(key: int, counter_low: ArrayLike, counter_high: int) -> NDArray[np.uint32]:
    """Four 32-bit words of each counter: shape (*counter_low.shape, 4)."""
    low = np.asarray(counter_low, np.uint64)
    high = np.full_like(low, counter_high)
    c0, c1, c2, c3 = low & _LOW, low >> _SHIFT, high & _LOW, high >> _SHIFT
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c2 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniform(
    key: int, stream: int, rows: ArrayLike, cols: int, counters_per_row: int | None = None
) -> NDArray[np.float32]:
    """Draws in [0, 1) with 24 bits, (len(rows), cols): column c of row r is word c % 4 of the
    counter r * counters_per_row + c // 4 (counters_per_row: ceil(cols / 4) unless given)."""
    blocks = -(-cols // 4)
    stride = blocks if counters_per_row is None else counters_per_row
    first = np.asarray(rows, np.uint64)[:, None] * np.uint64(stride)
    words = philox4x32(key, first + np.arange(blocks, dtype=np.uint64), stream)
    flat = words.reshape(len(first), blocks * 4)[:, :cols]
    return (flat >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
