"""Dropout by the counter-based generator Philox4x32-10 of Salmon et al. 2011, in plain integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 32) - 1


def philox(key: int, counter: int) -> list[int]:
    """Four 32-bit words of a 64-bit key and a 128-bit counter."""
    c = [counter >> (32 * i) & _MASK for i in range(4)]
    k = [key & _MASK, key >> 32 & _MASK]
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & _MASK, first >> 32 ^ c[3] ^ k[1], first & _MASK]
        k = [k[0] + 0x9E3779B9 & _MASK, k[1] + 0xBB67AE85 & _MASK]
    return c


def uniform(rows: int, cols: int, seed: int, stream: int) -> NDArray[np.float64]:
    """(rows, cols) draws in [0, 1), the top 24 bits of each word."""
    counters = -(-cols // 4)
    words = [
        [w for i in range(counters) for w in philox(seed, stream << 64 | row * counters + i)]
        for row in range(rows)
    ]
    return (np.array(words, np.int64).reshape(rows, 4 * counters)[:, :cols] >> 8) / (1 << 24)


def dropout(x: NDArray[np.float32], p: float, seed: int, stream: int) -> NDArray[np.float32]:
    """x (T, C) with dropped elements at zero and the others times 1 / (1 - p), in float32."""
    keep = uniform(*x.shape, seed, stream) >= np.float32(p)
    scale = np.float32(1) / (np.float32(1) - np.float32(p))
    return np.where(keep, x * scale, np.float32(0))
