"""Rotary positions against their float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_rows_alone, assert_same_bits, assert_within, representable
from reference import rope as reference
from reference.finite_differences import gradient

ops = engine.ops
SHAPES = [(0, 1, 4), (1, 1, 2), (3, 5, 16), (7, 2, 24), (5, 3, 64), (4, 2, 128), (6, 1, 36)]


def data(rng, rows, heads, head_dim, dtype="float32"):
    """x, position, and the tables up to position 100."""
    x = representable(rng.normal(size=(rows, heads * head_dim)), dtype)
    position = rng.integers(0, 100, size=rows).astype(np.int32)
    return x, position, *ops.rope_table(100, head_dim, 10000.0)


@pytest.mark.parametrize("head_dim", [2, 16, 20, 24, 32, 64, 128])
@pytest.mark.parametrize("base", [10000.0, 1e6])
def test_table(head_dim, base):
    cos, sin = ops.rope_table(2000, head_dim, base)
    want_cos, want_sin = reference.table(2000, head_dim, base)
    np.testing.assert_allclose(cos, want_cos, atol=6e-8)
    np.testing.assert_allclose(sin, want_sin, atol=6e-8)


def test_table_rounds_the_angle_to_float32():
    """At position 2000 an angle in double would differ by up to 1e-4: published models round it."""
    _, sin = ops.rope_table(2001, 128, 10000.0)
    exact = np.sin(2000 * 10000.0 ** -(np.arange(64) / 64))
    difference = np.abs(sin[2000] - exact).max()
    assert 1e-5 < difference < 3e-4


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, dtype, inverse, vector_isa, rng):
    x, position, cos, sin = data(rng, *shape, dtype)
    y = ops.rope(x, position, shape[1], cos, sin, inverse=inverse, dtype=dtype, pad=3)
    want = reference.rotate(x, position, shape[1], cos, sin, inverse)
    assert_within(y, want, "rope", dtype)


def test_inverse_is_the_gradient_and_the_way_back(rng):
    x, position, cos, sin = data(rng, 3, 2, 6)
    dy = rng.normal(size=x.shape)
    dx = gradient(lambda v: float((reference.rotate(v, position, 2, cos, sin) * dy).sum()), x)
    np.testing.assert_allclose(
        reference.rotate(dy, position, 2, cos, sin, inverse=True), dx, rtol=1e-6, atol=1e-8
    )
    there = ops.rope(x, position, 2, cos, sin)
    assert_within(ops.rope(there, position, 2, cos, sin, inverse=True), x, "rope")


def test_position_zero_changes_nothing(vector_isa, rng):
    x, position, cos, sin = data(rng, 4, 3, 24)
    assert_same_bits(ops.rope(x, 0 * position, 3, cos, sin), x)


def test_scores_depend_on_distance_alone(rng):
    q, k = rng.normal(size=(2, 1, 32)).astype(np.float32)
    cos, sin = ops.rope_table(500, 32, 10000.0)

    def score(i, j):
        turned = [ops.rope(v, np.array([p], np.int32), 1, cos, sin) for v, p in ((q, i), (k, j))]
        return float((turned[0] * turned[1]).sum())

    assert score(5, 9) == pytest.approx(score(405, 409), abs=1e-4)
    assert abs(score(5, 9) - score(9, 5)) > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_same_bits_alone_and_on_any_threads(dtype, vector_isa, rng):
    x, position, cos, sin = data(rng, 400, 5, 24, dtype)
    assert_rows_alone(lambda r: ops.rope(x[r], position[r], 5, cos, sin, dtype=dtype), 400)


def test_refusals():
    with pytest.raises(ValueError, match=r"head dimension is 5, allowed: even and above 0"):
        ops.rope_table(10, 5, 10000.0)
    cos, sin = ops.rope_table(10, 4, 10000.0)
    with pytest.raises(ValueError, match=r"x is float32 \(1, 9\), expected \(1, 8\)"):
        ops.rope(np.zeros((1, 9), np.float32), np.zeros(1, np.int32), 2, cos[:, :1], sin[:, :1])
