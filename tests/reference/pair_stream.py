"""Float64 ops on a stream of pairs: triangle products, gates, sums of embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def triangle_fwd(a: Array, b: Array) -> Array:
    """x(i, j) = sum over k of a(i, k) b(j, k) + a(k, i) b(k, j); pair (i, j) is at [c, j, i]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.einsum("cki,ckj->cji", a, b) + np.einsum("cik,cjk->cji", a, b)


def triangle_bwd(dx: Array, a: Array, b: Array) -> tuple[Array, Array]:
    dx, a, b = (np.asarray(v, np.float64) for v in (dx, a, b))
    da = np.einsum("cji,ckj->cki", dx, b) + np.einsum("cji,cjk->cik", dx, b)
    db = np.einsum("cji,cki->ckj", dx, a) + np.einsum("cji,cik->cjk", dx, a)
    return da, db


def _gate(g: Array, kind: str) -> tuple[Array, Array]:
    """The factor and its slope."""
    g = np.asarray(g, np.float64)
    if kind == "linear":
        return g, np.ones_like(g)
    f = 1 / (1 + np.exp(-g))
    return f, f * (1 - f)


def gate_fwd(x: Array, g: Array, kind: str, scale: float) -> Array:
    return scale * np.asarray(x, np.float64) * _gate(g, kind)[0]


def gate_bwd(dy: Array, x: Array, g: Array, kind: str, scale: float) -> tuple[Array, Array]:
    factor, slope = _gate(g, kind)
    d = scale * np.asarray(dy, np.float64)
    return d * factor, d * np.asarray(x, np.float64) * slope


def embedding_sum_fwd(ids: NDArray[np.int16], scale: float, table: Array, x: Array) -> Array:
    padded = np.concatenate([np.asarray(table, np.float64), np.zeros((1, table.shape[1]))])
    return np.asarray(x, np.float64) + scale * padded[ids].sum(axis=1)  # -1 is the last row


def embedding_sum_bwd(ids: NDArray[np.int16], scale: float, dx: Array, rows: int) -> Array:
    dtable = np.zeros((rows + 1, dx.shape[1]))
    for f in range(ids.shape[1]):
        np.add.at(dtable, ids[:, f], scale * np.asarray(dx, np.float64))
    return dtable[:-1]
