"""Float64 embedding with ESM-2's token dropout and learned positions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int32]


def token_dropout_scale(
    tokens: Ints, cu_seqlens: Ints, mask_token: int, mask_ratio_train: float
) -> Array:
    """(T): 0 at masked tokens, else (1 - ratio seen in training) / (1 - ratio seen here)."""
    scale = np.zeros(len(tokens))
    for begin, end in pairwise(cu_seqlens):
        masked = tokens[begin:end] == mask_token
        if not masked.all():
            scale[begin:end] = np.where(masked, 0, (1 - mask_ratio_train) / (1 - masked.mean()))
    return scale


def fwd(
    tokens: Ints,
    table: Array,
    scale: Array | None = None,
    positions: Array | None = None,
    rows: Ints | None = None,
) -> Array:
    """x (T, C); `rows` (T) are the rows of `positions`, offset included."""
    x = np.asarray(table, np.float64)[tokens]
    if scale is not None:
        x = x * scale[:, None]
    return x if positions is None else x + np.asarray(positions, np.float64)[rows]


def bwd(
    tokens: Ints,
    dx: Array,
    vocabulary: int,
    scale: Array | None = None,
    n_positions: int = 0,
    rows: Ints | None = None,
) -> tuple[Array, Array]:
    """(dtable (V, C), dpositions (P, C))."""
    dx = np.asarray(dx, np.float64)
    dtable = np.zeros((vocabulary, dx.shape[1]))
    dpositions = np.zeros((n_positions, dx.shape[1]))
    np.add.at(dtable, tokens, dx if scale is None else dx * scale[:, None])
    if rows is not None:
        np.add.at(dpositions, rows, dx)
    return dtable, dpositions
