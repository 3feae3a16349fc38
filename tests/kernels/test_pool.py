"""Pooling of packed rows against its float64 reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_any_threads, assert_same_bits, assert_within
from reference import pool as reference
from reference.finite_differences import gradient

ops = engine.ops
BATCHES = {
    "none": [0],
    "one residue": [0, 3],
    "ragged": [0, 5, 6, 8, 8, 9, 42],  # specials alone, nothing at all, one position
    "long": [0, 200, 202, 401],
}


def cumulative(name):
    return np.array(BATCHES[name], np.int32)


@pytest.mark.parametrize("skips", [(1, 1), (0, 0), (2, 0)])
@pytest.mark.parametrize("cols", [1, 37, 130])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_values_and_gradients(pool, batch, cols, skips, vector_isa, rng):
    cu_seqlens = cumulative(batch)
    x = rng.normal(size=(cu_seqlens[-1], cols)).astype(np.float32)
    y = ops.pool_fwd(pool, x, cu_seqlens, *skips, pad=3)
    assert_within(y, reference.fwd(pool, x, cu_seqlens, *skips), "pool")
    dy = rng.normal(size=y.shape).astype(np.float32)
    dx = ops.pool_bwd(pool, dy, cu_seqlens, *skips, pad=3)
    assert_within(dx, reference.bwd(pool, dy, cu_seqlens, *skips), "pool")


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_reference_gradient(pool, rng):
    cu_seqlens = cumulative("ragged")
    x, dy = rng.normal(size=(42, 2)), rng.normal(size=(6, 2))
    fd = gradient(lambda v: float((reference.fwd(pool, v, cu_seqlens) * dy).sum()), x)
    np.testing.assert_allclose(reference.bwd(pool, dy, cu_seqlens), fd, rtol=1e-6, atol=1e-8)


def test_mean_leaves_the_specials_out(vector_isa):
    x = np.array([[100], [1], [2], [6], [100], [7], [8]], np.float32)
    cu_seqlens = np.array([0, 5, 7], np.int32)
    np.testing.assert_array_equal(ops.pool_fwd("mean", x, cu_seqlens), [[3], [0]])
    np.testing.assert_array_equal(ops.pool_fwd("cls", x, cu_seqlens), [[100], [7]])


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_same_bits_alone_and_on_any_threads(pool, vector_isa, rng):
    cu_seqlens = np.array([0, 300, 302, 350, 700], np.int32)
    x = rng.normal(size=(700, 130)).astype(np.float32)
    assert_any_threads(lambda: ops.pool_fwd(pool, x, cu_seqlens))
    dy = rng.normal(size=(4, 130)).astype(np.float32)
    assert_any_threads(lambda: ops.pool_bwd(pool, dy, cu_seqlens))
    y, dx = ops.pool_fwd(pool, x, cu_seqlens), ops.pool_bwd(pool, dy, cu_seqlens)
    for b, (begin, end) in enumerate(pairwise(cu_seqlens)):
        alone = np.array([0, end - begin], np.int32)
        assert_same_bits(ops.pool_fwd(pool, x[begin:end], alone)[0], y[b])
        assert_same_bits(ops.pool_bwd(pool, dy[b : b + 1], alone), dx[begin:end])


def test_thirty_thousand_residues(vector_isa, rng):
    x = rng.normal(1, 1, size=(30_000, 3)).astype(np.float32)
    y = ops.pool_fwd("mean", x, np.array([0, 30_000], np.int32))
    np.testing.assert_allclose(y[0], x[1:-1].astype(float).mean(axis=0), rtol=1e-6)


def test_refusals():
    x, cu_seqlens = np.zeros((4, 2), np.float32), np.array([0, 5], np.int32)
    with pytest.raises(ValueError, match="x has 4 rows, cu_seqlens ends at 5"):
        ops.pool_fwd("mean", x, cu_seqlens)
    with pytest.raises(ValueError, match="skips are -1 and 1, allowed: 0 or above"):
        ops.pool_fwd("mean", x, np.array([0, 4], np.int32), skip_first=-1)
    with pytest.raises(ValueError, match="pool: got 'max', allowed: mean, cls"):
        ops.pool_fwd("max", x, np.array([0, 4], np.int32))
