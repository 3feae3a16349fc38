"""Float64 pooling of packed rows x (T, C) to one row a sequence."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int32]


def weights(pool: str, cu_seqlens: Ints, skip_first: int, skip_last: int) -> Array:
    """(B, T) with y = weights @ x: pooling is linear, so its backward is the transpose."""
    w = np.zeros((len(cu_seqlens) - 1, cu_seqlens[-1]))
    for b, (begin, end) in enumerate(pairwise(cu_seqlens)):
        if pool == "cls":
            w[b, begin : min(begin + 1, end)] = 1
        elif end - begin > skip_first + skip_last:
            w[b, begin + skip_first : end - skip_last] = 1 / (end - begin - skip_first - skip_last)
    return w


def fwd(pool: str, x: Array, cu_seqlens: Ints, skip_first: int = 1, skip_last: int = 1) -> Array:
    return weights(pool, cu_seqlens, skip_first, skip_last) @ np.asarray(x, np.float64)


def bwd(pool: str, dy: Array, cu_seqlens: Ints, skip_first: int = 1, skip_last: int = 1) -> Array:
    return weights(pool, cu_seqlens, skip_first, skip_last).T @ np.asarray(dy, np.float64)
