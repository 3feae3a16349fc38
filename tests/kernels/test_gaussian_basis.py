"""The Gaussian basis against its float64 reference, and that against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import (
    assert_any_threads,
    assert_rows_alone,
    assert_same_bits,
    assert_within,
    relative_error,
    representable,
)
from reference import gaussian_basis as reference
from reference.finite_differences import gradient

ops = engine.ops
SHAPES = [(0, 5, 3), (1, 1, 1), (1, 128, 4), (37, 19, 961), (300, 128, 10)]
GRADIENTS = ["dmul", "dbias", "dmeans", "dstds"]


def data(rng, pairs, basis, types):
    """distances, edges, mul, bias, means, stds; some stds negative, none close to zero."""
    stds = rng.uniform(0.3, 3, basis) * rng.choice([-1, 1], basis)
    arrays = (
        rng.uniform(0, 12, pairs),
        rng.normal(1, 0.2, types),
        rng.normal(0, 0.2, types),
        rng.uniform(0, 3, basis),
        stds,
    )
    distances, *params = (a.astype(np.float32) for a in arrays)
    return distances, rng.integers(0, types, pairs).astype(np.int32), *params


def backward(dy, arrays, **options):
    zeros = {name: np.zeros_like(like) for name, like in zip(GRADIENTS, arrays[2:], strict=True)}
    return ops.gaussian_basis_bwd(dy, *arrays, **(zeros | options))


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, dtype, vector_isa, rng):
    arrays = data(rng, *shape)
    y = ops.gaussian_basis_fwd(*arrays, dtype=dtype, pad=3)
    assert_within(y, reference.fwd(*arrays), "gaussian_basis", dtype)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape, dtype, vector_isa, rng):
    arrays = data(rng, *shape)
    dy = representable(rng.normal(size=shape[:2]), dtype)
    wanted = reference.bwd(dy, *arrays)
    for name, got, want in zip(
        GRADIENTS, backward(dy, arrays, dtype=dtype, pad=3), wanted, strict=True
    ):
        assert got.shape == want.shape
        assert shape[0] == 0 or relative_error(got, want) < 2e-6, name


def test_reference_gradients(rng):
    distances, edges, *params = data(rng, 7, 5, 3)
    params = [p.astype(np.float64) for p in params]
    dy = rng.normal(size=(7, 5))
    for i, analytic in enumerate(reference.bwd(dy, distances, edges, *params)):

        def value(x, i=i):
            changed = [x if j == i else p for j, p in enumerate(params)]
            return float((reference.fwd(distances, edges, *changed) * dy).sum())

        np.testing.assert_allclose(analytic, gradient(value, params[i]), rtol=1e-6, atol=1e-8)


def test_accumulates_and_leaves_out_what_is_frozen(vector_isa, rng):
    arrays = data(rng, 70, 33, 6)
    dy = rng.normal(size=(70, 33)).astype(np.float32)
    once = backward(dy, arrays)
    twice = ops.gaussian_basis_bwd(dy, *arrays, **dict(zip(GRADIENTS, once, strict=True)))
    for a, b in zip(once, twice, strict=True):
        assert_same_bits(b, a + a)
    for kept in range(4):
        some = ops.gaussian_basis_bwd(dy, *arrays, **{GRADIENTS[kept]: np.zeros_like(once[kept])})
        for i, got in enumerate(some):
            if i == kept:
                assert_same_bits(got, once[i])
            else:
                assert got is None


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_same_bits_alone_and_on_any_threads(dtype, vector_isa, rng):
    distances, edges, *params = data(rng, 500, 130, 9)
    assert_rows_alone(
        lambda r: ops.gaussian_basis_fwd(distances[r], edges[r], *params, dtype=dtype), 500
    )
    dy = representable(rng.normal(size=(500, 130)), dtype)
    for which in range(4):
        assert_any_threads(
            lambda which=which: backward(dy, (distances, edges, *params), dtype=dtype)[which]
        )


def test_a_narrow_gaussian_far_away_is_zero(vector_isa):
    one = np.ones(1, np.float32)
    y = ops.gaussian_basis_fwd(
        100 * one, np.zeros(1, np.int32), one, 0 * one, one, np.float32([1e-6])
    )
    assert y == 0


def test_many_pairs_of_one_type(rng):
    """100,000 terms of one sum: in float32 alone their rounding would show."""
    distances, edges, *params = data(rng, 100_000, 4, 1)
    dy = np.abs(rng.normal(size=(100_000, 4))).astype(np.float32)
    got = backward(dy, (distances, edges, *params))
    for g, w in zip(got, reference.bwd(dy, distances, edges, *params), strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-6, atol=1e-2)


def test_refusals(rng):
    distances, edges, *params = data(rng, 4, 8, 3)
    edges[2] = 3
    with pytest.raises(ValueError, match="edge type of pair 2 is 3, allowed: 0 to 2"):
        ops.gaussian_basis_fwd(distances, edges, *params)
    with pytest.raises(ValueError, match="edges: expected 4 elements, got 3"):
        ops.gaussian_basis_fwd(distances, edges[:3], *params)
    with pytest.raises(ValueError, match=r"dy is float32 \(4, 7\), expected \(4, 8\)"):
        ops.gaussian_basis_bwd(np.zeros((4, 7), np.float32), distances, 0 * edges, *params)
