"""Linear attention with random features over packed sequences, as sums over pairs of tokens.

Katharopoulos et al. 2020 and Choromanski et al. 2021, with MoLFormer's feature map (Ross et al.
2022): phi(x) = max(x w, 0), and a normaliser of at least eps. The L x L matrix of weights is
written out, which no implementation with sums over keys does.

Matrices are (T, H*D), w is (D, M), and sequence b is rows cu_seqlens[b] .. cu_seqlens[b+1].
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reference import philox

Array = NDArray[np.floating]


def _blocks(cu_seqlens: NDArray[np.int32], heads: int, width: int) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of every sequence and head."""
    d = width // heads
    for start, stop in pairwise(cu_seqlens):
        for h in range(heads):
            yield slice(start, stop), slice(h * d, (h + 1) * d)


def forward(
    q: Array,
    k: Array,
    v: Array,
    w: Array,
    cu_seqlens: NDArray[np.int32],
    heads: int,
    eps: float,
    dtype: DTypeLike = np.float64,
) -> Array:
    """o (T, H*D), computed in `dtype`."""
    q, k, v, w = (np.asarray(x, dtype) for x in (q, k, v, w))
    o = np.zeros_like(q)
    for at in _blocks(cu_seqlens, heads, q.shape[1]):
        weights = np.maximum(q[at] @ w, 0) @ np.maximum(k[at] @ w, 0).T
        o[at] = weights @ v[at] / np.maximum(weights.sum(1, keepdims=True), np.asarray(eps, dtype))
    return o


def backward(
    dout: Array,
    q: Array,
    k: Array,
    v: Array,
    w: Array,
    cu_seqlens: NDArray[np.int32],
    heads: int,
    eps: float,
    dtype: DTypeLike = np.float64,
) -> tuple[Array, Array, Array]:
    """dq, dk, dv (T, H*D) of the scalar sum(dout * o)."""
    dout, q, k, v, w = (np.asarray(x, dtype) for x in (dout, q, k, v, w))
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for at in _blocks(cu_seqlens, heads, q.shape[1]):
        fq, fk = np.maximum(q[at] @ w, 0), np.maximum(k[at] @ w, 0)
        weights = fq @ fk.T
        total = weights.sum(1, keepdims=True)
        least = np.maximum(total, np.asarray(eps, dtype))
        o = weights @ v[at] / least
        shared = (dout[at] * o).sum(1, keepdims=True) * (total >= eps)
        dweights = (dout[at] @ v[at].T - shared) / least
        dv[at] = (weights / least).T @ dout[at]
        dq[at] = (dweights @ fk * (fq > 0)) @ w.T
        dk[at] = (dweights.T @ fq * (fk > 0)) @ w.T
    return dq, dk, dv


def orthogonal_features(seed: int, stream: int, head_dim: int, features: int) -> Array:
    """w (D, M) as random_features.h states it, by NumPy's QR decomposition."""
    blocks = []
    for first in range(0, features, head_dim):
        counters = first * head_dim + np.arange(head_dim**2, dtype=np.uint64)
        u = philox.uniform(seed, stream, counters, 2, 1).astype(np.float64)
        g = np.sqrt(-2 * np.log(1 - u[:, 0])) * np.cos(2 * np.pi * u[:, 1])
        g = g.reshape(head_dim, head_dim)
        orthonormal, triangle = np.linalg.qr(g)
        lengths = np.linalg.norm(g, axis=1)
        blocks.append(orthonormal * np.sign(np.diag(triangle)) * lengths)
    return np.concatenate(blocks, axis=1)[:, :features]
