"""Softmax attention over packed sequences, forward and backward, with the L x L matrix written out.

Matrices are (T, H*D) and sequence b is rows cu_seqlens[b] .. cu_seqlens[b+1]. `dtype` is what is
computed in: float64 is the judge, float32 a same-precision peer; `round_to` additionally rounds
what a half-precision implementation stores (probabilities, score gradients and outputs).
`keep`, from `dropout_mask`, holds 0 or 1 / (1 - p) per probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reference import philox

Array = NDArray[np.floating]
Mask = list[list[Array]]  # [sequence][head] -> (L, L)


def dropout_mask(
    cu_seqlens: NDArray[np.int32], heads: int, p: float, seed: int, stream: int
) -> Mask:
    """Draws as attention.h states them: row (head * T + t), 2**18 counters to a row."""
    tokens = int(cu_seqlens[-1])
    mask: Mask = []
    for start, stop in pairwise(cu_seqlens):
        queries = np.arange(start, stop, dtype=np.uint64)
        draws = [
            philox.uniform(seed, stream, queries + np.uint64(h * tokens), stop - start, 1 << 18)
            for h in range(heads)
        ]
        mask.append([(u >= np.float32(p)) / (1 - np.float64(np.float32(p))) for u in draws])
    return mask


def _blocks(
    cu_seqlens: NDArray[np.int32], heads: int, head_dim: int, keep: Mask | None
) -> Iterator[tuple[int, slice, slice, Array | None]]:
    """(head, rows, columns, mask) of every sequence and head."""
    for b, (start, stop) in enumerate(pairwise(cu_seqlens)):
        for h in range(heads):
            columns = slice(h * head_dim, (h + 1) * head_dim)
            yield h, slice(start, stop), columns, None if keep is None else keep[b][h]


def _rounder(dtype: DTypeLike, round_to: DTypeLike | None):
    if round_to is None:
        return lambda x: x
    return lambda x: x.astype(round_to).astype(dtype)


def forward(
    q: Array,
    k: Array,
    v: Array,
    cu_seqlens: NDArray[np.int32],
    heads: int,
    scale: float,
    keep: Mask | None = None,
    dtype: DTypeLike = np.float64,
    round_to: DTypeLike | None = None,
) -> tuple[Array, Array]:
    """o (T, H*D) and lse (H, T), the natural log of the sum of exponentials."""
    rounded = _rounder(dtype, round_to)
    q, k, v = (np.asarray(x, dtype) for x in (q, k, v))
    o = np.zeros_like(q)
    lse = np.zeros((heads, len(q)), dtype)
    for h, rows, columns, mask in _blocks(cu_seqlens, heads, q.shape[1] // heads, keep):
        s = q[rows, columns] @ k[rows, columns].T * np.asarray(scale, dtype)
        top = s.max(axis=1, keepdims=True, initial=-np.inf)
        e = np.exp(s - top)
        total = e.sum(axis=1, keepdims=True)
        p = rounded(e / total)
        if mask is not None:
            p = p * mask.astype(dtype)
        o[rows, columns] = rounded(p @ v[rows, columns])
        lse[h, rows] = (top + np.log(total))[:, 0]
    return o, lse


def backward(
    dout: Array,
    q: Array,
    k: Array,
    v: Array,
    cu_seqlens: NDArray[np.int32],
    heads: int,
    scale: float,
    keep: Mask | None = None,
    dtype: DTypeLike = np.float64,
    round_to: DTypeLike | None = None,
) -> tuple[Array, Array, Array]:
    """dq, dk, dv (T, H*D) of the scalar sum(dout * o)."""
    rounded = _rounder(dtype, round_to)
    dout, q, k, v = (np.asarray(x, dtype) for x in (dout, q, k, v))
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    factor = np.asarray(scale, dtype)
    for _, rows, columns, mask in _blocks(cu_seqlens, heads, q.shape[1] // heads, keep):
        at = rows, columns
        s = q[at] @ k[at].T * factor
        e = np.exp(s - s.max(axis=1, keepdims=True, initial=-np.inf))
        p = e / e.sum(axis=1, keepdims=True)
        m = np.ones_like(p) if mask is None else mask.astype(dtype)
        dp = dout[at] @ v[at].T * m
        ds = p * (dp - (p * dp).sum(axis=1, keepdims=True))
        dv[at] = rounded(rounded(p * m).T @ dout[at])
        dq[at] = rounded(rounded(ds) @ k[at] * factor)
        dk[at] = rounded(rounded(ds).T @ q[at] * factor)
    return dq, dk, dv


def probabilities(q: Array, k: Array, heads: int, scale: float) -> Array:
    """(H, L, L) of one sequence."""
    split = [np.split(np.asarray(x, np.float64), heads, axis=1) for x in (q, k)]
    s = np.stack([a @ b.T * scale for a, b in zip(*split, strict=True)])
    e = np.exp(s - s.max(axis=2, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=2, keepdims=True)
