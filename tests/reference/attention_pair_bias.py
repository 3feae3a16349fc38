"""Softmax attention whose scores, a bias included, go on as the next layer's bias (Uni-Mol).

Matrices are (T, H*D) and sequence b is rows cu_seqlens[b] .. cu_seqlens[b+1]; `bias`, scores and
their gradients are lists of (H, L, L) a sequence, [head][query][key]. `keep` is a mask of
`attention.dropout_mask`. `planes` and `unplanes` turn lists into the op's flat array, which has
keys as rows.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
Mask = list[list[Array]]


def pair_starts(cu_seqlens: NDArray[np.int32]) -> NDArray[np.int64]:
    """(B+1): sums of L**2 before each sequence."""
    lengths = np.diff(cu_seqlens).astype(np.int64)
    return np.concatenate([[0], np.cumsum(lengths**2)]).astype(np.int64)


def planes(matrices: list[Array]) -> Array:
    return np.concatenate([m.transpose(0, 2, 1).ravel() for m in matrices] or [np.zeros(0)])


def unplanes(flat: Array, cu_seqlens: NDArray[np.int32], heads: int) -> list[Array]:
    starts = heads * pair_starts(cu_seqlens)
    return [
        flat[a:b].reshape(heads, length, length).transpose(0, 2, 1)
        for (a, b), length in zip(pairwise(starts), np.diff(cu_seqlens), strict=True)
    ]


def _split(x: Array, rows: slice, heads: int) -> Array:
    """(H, L, D) of a sequence."""
    length, head_dim = rows.stop - rows.start, x.shape[1] // heads
    return x[rows].reshape(length, heads, head_dim).transpose(1, 0, 2)


def _join(x: Array) -> Array:
    heads, length, head_dim = x.shape
    return x.transpose(1, 0, 2).reshape(length, heads * head_dim)


def _softmax(s: Array) -> Array:
    e = np.exp(s - s.max(axis=2, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=2, keepdims=True)


def forward(
    q: Array,
    k: Array,
    v: Array,
    bias: list[Array],
    cu_seqlens: NDArray[np.int32],
    heads: int,
    scale: float,
    keep: Mask | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[Array, list[Array]]:
    """o (T, H*D) and the scores."""
    q, k, v = (np.asarray(x, dtype) for x in (q, k, v))
    o, scores = np.zeros_like(q), []
    for b, (start, stop) in enumerate(pairwise(cu_seqlens)):
        rows = slice(int(start), int(stop))
        qs, ks, vs = (_split(x, rows, heads) for x in (q, k, v))
        s = qs * np.asarray(scale, dtype) @ ks.transpose(0, 2, 1) + np.asarray(bias[b], dtype)
        p = _softmax(s)
        if keep is not None:
            p = p * np.asarray(keep[b], dtype)
        o[rows] = _join(p @ vs)
        scores.append(s)
    return o, scores


def backward(
    dout: Array,
    dscores: list[Array] | None,
    q: Array,
    k: Array,
    v: Array,
    bias: list[Array],
    cu_seqlens: NDArray[np.int32],
    heads: int,
    scale: float,
    keep: Mask | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[Array, Array, Array, list[Array]]:
    """dq, dk, dv and the bias's gradient of sum(dout * o) + sum(dscores * scores)."""
    dout, q, k, v = (np.asarray(x, dtype) for x in (dout, q, k, v))
    factor = np.asarray(scale, dtype)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    dbias = []
    for b, (start, stop) in enumerate(pairwise(cu_seqlens)):
        rows = slice(int(start), int(stop))
        qs, ks, vs, ds_out = (_split(x, rows, heads) for x in (q, k, v, dout))
        p = _softmax(qs * factor @ ks.transpose(0, 2, 1) + np.asarray(bias[b], dtype))
        m = np.ones_like(p) if keep is None else np.asarray(keep[b], dtype)
        dp = ds_out @ vs.transpose(0, 2, 1) * m
        ds = p * (dp - (p * dp).sum(axis=2, keepdims=True))
        if dscores is not None:
            ds = ds + np.asarray(dscores[b], dtype)
        dq[rows] = _join(ds @ ks * factor)
        dk[rows] = _join(ds.transpose(0, 2, 1) @ qs * factor)
        dv[rows] = _join((p * m).transpose(0, 2, 1) @ ds_out)
        dbias.append(ds)
    return dq, dk, dv, dbias


def probabilities(scores: Array) -> Array:
    """(H, L, L), rows of queries."""
    return _softmax(np.asarray(scores, np.float64))
