"""Ops on a stream of pairs against their float64 references, and those against finite differences:
triangle products, gates, sums of embeddings."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_any_threads, assert_rows_alone, assert_same_bits, assert_within
from reference import pair_stream as reference
from reference.finite_differences import gradient

ops = engine.ops
PLANES = [(0, 5), (3, 0), (1, 1), (2, 3), (5, 17), (64, 31), (1, 70)]
SHAPES = [(0, 5), (1, 1), (1, 16), (3, 37), (70, 130)]


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


# ---- triangle products -------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "length"), PLANES)
def test_triangle_values_and_gradients(channels, length, vector_isa, rng):
    a, b, dx = (normal(rng, channels, length, length) for _ in range(3))
    assert_within(ops.triangle_product_fwd(a, b), reference.triangle_fwd(a, b), "triangle_product")
    wanted = reference.triangle_bwd(dx, a, b)
    found = ops.triangle_product_bwd(dx, a, b)
    for got, want, again in zip(
        found, wanted, ops.triangle_product_bwd(dx, a, b, in_place=True), strict=True
    ):
        assert_within(got, want, "triangle_product")
        assert_same_bits(again, got)


def test_triangle_reference_gradients(rng):
    a, b, dx = (rng.standard_normal((2, 4, 4)) for _ in range(3))
    da, db = reference.triangle_bwd(dx, a, b)
    close = {"rtol": 1e-6, "atol": 1e-8}
    value = lambda x, y: float((reference.triangle_fwd(x, y) * dx).sum())  # noqa: E731
    np.testing.assert_allclose(da, gradient(lambda v: value(v, b), a), **close)
    np.testing.assert_allclose(db, gradient(lambda v: value(a, v), b), **close)


def test_triangle_by_hand():
    """One channel, three tokens: x(0, 1) out of a(0, k) b(1, k) and a(k, 0) b(k, 1)."""
    a, b = np.arange(9.0).reshape(1, 3, 3), np.arange(9.0, 18).reshape(1, 3, 3)
    x = ops.triangle_product_fwd(a.astype(np.float32), b.astype(np.float32))
    (a, b), ks = (one[0].T for one in (a, b)), range(3)  # [first, second token]
    wanted = sum(a[0, k] * b[1, k] + a[k, 0] * b[k, 1] for k in ks)
    assert x[0, 1, 0] == wanted != x[0, 0, 1]


def test_triangle_planes_alone_and_any_threads(vector_isa, rng):
    a, b, dx = (normal(rng, 9, 33, 33) for _ in range(3))
    assert_rows_alone(lambda r: ops.triangle_product_fwd(a[r], b[r]), 9)
    assert_any_threads(lambda: ops.triangle_product_bwd(dx, a, b)[0])


# ---- gates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sigmoid", "linear"])
@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gate_values_and_gradients(shape, dtype, kind, vector_isa, rng):
    x, g, dy = (normal(rng, *shape) for _ in range(3))
    g *= 3
    y = ops.gate_fwd(x, g, kind, 0.3, dtype=dtype, pad=3)
    assert_within(y, reference.gate_fwd(x, g, kind, 0.3), "gate", dtype)
    for got, want in zip(
        ops.gate_bwd(dy, x, g, kind, 0.3, dtype=dtype, pad=2),
        reference.gate_bwd(dy, x, g, kind, 0.3),
        strict=True,
    ):
        assert_within(got, want, "gate", dtype)


@pytest.mark.parametrize("kind", ["sigmoid", "linear"])
def test_gate_reference_gradients(kind, rng):
    x, g, dy = (rng.standard_normal((3, 4)) for _ in range(3))
    dx, dg = reference.gate_bwd(dy, x, g, kind, 0.7)
    value = lambda x, g: float((reference.gate_fwd(x, g, kind, 0.7) * dy).sum())  # noqa: E731
    np.testing.assert_allclose(dx, gradient(lambda v: value(v, g), x), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dg, gradient(lambda v: value(x, v), g), rtol=1e-6, atol=1e-8)


def test_one_row_gates_all(vector_isa, rng):
    x, g = normal(rng, 7, 20), normal(rng, 1, 20)
    assert_same_bits(
        ops.gate_fwd(x, g, "linear"), ops.gate_fwd(x, np.repeat(g, 7, axis=0), "linear")
    )
    far = np.array([[-1000, 1000]], np.float32)
    assert ops.gate_fwd(np.ones((1, 2), np.float32), far).tolist() == [[0, 1]]


def test_gate_rows_alone(vector_isa, rng):
    x, g = normal(rng, 300, 65), normal(rng, 300, 65)
    assert_rows_alone(lambda r: ops.gate_fwd(x[r], g[r]), 300)
    assert_rows_alone(lambda r: ops.gate_bwd(x[r], x[r], g[r])[1], 300)


# ---- sums of embeddings --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 3, 5, 4), (1, 1, 1, 1), (37, 8, 33, 12), (90, 3, 512, 64)])
def test_embedding_sum(shape, vector_isa, rng):
    rows, count, cols, types = shape
    ids = rng.integers(-1, types, (rows, count)).astype(np.int16)
    table, x, dx = normal(rng, types, cols), normal(rng, rows, cols), normal(rng, rows, cols)
    y = ops.embedding_sum_fwd(ids, 0.5, table, x, pad=3)
    assert_within(y, reference.embedding_sum_fwd(ids, 0.5, table, x), "embedding")
    before = normal(rng, types, cols)
    got = ops.embedding_sum_bwd(ids, 0.5, dx, before, pad=3)
    want = before + reference.embedding_sum_bwd(ids, 0.5, dx, types)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_embedding_sum_reference_gradients(rng):
    ids = rng.integers(-1, 4, (5, 3)).astype(np.int16)
    table, dx = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))

    def value(v):
        return float((reference.embedding_sum_fwd(ids, 0.3, v, 0 * dx) * dx).sum())

    np.testing.assert_allclose(
        reference.embedding_sum_bwd(ids, 0.3, dx, 4), gradient(value, table), rtol=1e-6, atol=1e-8
    )


def test_embedding_sum_rows_alone_and_any_threads(vector_isa, rng):
    ids = rng.integers(-1, 6, (400, 4)).astype(np.int16)
    table, x = normal(rng, 6, 130), normal(rng, 400, 130)
    assert_rows_alone(lambda r: ops.embedding_sum_fwd(ids[r], 1.0, table, x[r]), 400)
    assert_any_threads(lambda: ops.embedding_sum_bwd(ids, 1.0, x, table))


def test_refusals():
    zeros = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="category 1 of row 0 is 4, allowed: -1 to 1"):
        ops.embedding_sum_fwd(np.array([[0, 4], [1, 1]], np.int16), 1.0, zeros, zeros)
    with pytest.raises(ValueError, match=r"g is float32 \(3, 3\), expected \(2, 3\)"):
        ops.gate_fwd(zeros, np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="kind: got 'tanh', allowed: sigmoid, linear"):
        ops.gate_fwd(zeros, zeros, "tanh")
    with pytest.raises(ValueError, match="b: expected the shape of a"):
        ops.triangle_product_fwd(np.zeros((1, 2, 2), np.float32), np.zeros((1, 3, 3), np.float32))
