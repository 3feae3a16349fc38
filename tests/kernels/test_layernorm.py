"""Layer norm against its float64 reference, and that against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import (
    assert_any_threads,
    assert_rows_alone,
    assert_same_bits,
    assert_within,
    representable,
)
from reference import layernorm as reference
from reference.finite_differences import gradient

ops = engine.ops
EPS = 1e-5
SHAPES = [(0, 5), (1, 1), (1, 16), (3, 37), (7, 64), (70, 130), (2, 320)]


def data(rng, rows, cols, dtype="float32"):
    """x, w, b, dy; x off centre, as a residual stream is."""
    x = (rng.normal(size=(rows, cols)) * 2 + 0.5).astype(np.float32)
    w, b = rng.normal(size=(2, cols)).astype(np.float32)
    return x, w, b, representable(rng.normal(size=(rows, cols)), dtype)


def statistics(x, w):
    _, mean, rstd = reference.fwd(x, w, np.zeros_like(w), EPS)
    return mean.astype(np.float32), rstd.astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, dtype, vector_isa, rng):
    x, w, b, _ = data(rng, *shape)
    y, mean, rstd = ops.layernorm_fwd(x, w, b, EPS, dtype=dtype, pad=3)
    want, want_mean, want_rstd = reference.fwd(x, w, b, EPS)
    assert_within(y, want, "layernorm_fwd", dtype)
    assert_within(mean, want_mean, "layernorm_fwd")
    assert_within(rstd, want_rstd, "layernorm_fwd")


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", [*SHAPES, (200, 33)])
def test_gradients(shape, dtype, vector_isa, rng):
    x, w, _, dy = data(rng, *shape, dtype)
    zeros = np.zeros_like(w)
    dx, dw, db = ops.layernorm_bwd(
        dy, x, w, *statistics(x, w), dw=zeros, db=zeros, dtype=dtype, pad=5
    )
    want_dx, want_dw, want_db = reference.bwd(dy, x, w, EPS)
    assert_within(dx, want_dx, "layernorm_bwd")
    assert_within(dw, want_dw, "layernorm_bwd")
    assert_within(db, want_db, "layernorm_bwd")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("x_dtype", "dtype"), [("float32", "float32"), ("bf16", "bf16")])
def test_without_a_bias(shape, x_dtype, dtype, vector_isa, rng):
    x, w, b, _ = data(rng, *shape)
    x = representable(x, x_dtype)
    y, _, _ = ops.layernorm_fwd(x, w, None, EPS, dtype=dtype, pad=3, x_dtype=x_dtype)
    assert_within(y, reference.fwd(x, w, 0 * b, EPS)[0], "layernorm_fwd", dtype)
    zero, _, _ = ops.layernorm_fwd(x, w, 0 * b, EPS, dtype=dtype, x_dtype=x_dtype)
    np.testing.assert_array_equal(y, zero)
    in_place, _, _ = ops.layernorm_fwd(x, w, None, EPS, x_dtype=x_dtype, pad=3, in_place=True)
    assert_same_bits(in_place, y)


@pytest.mark.parametrize("shape", [*SHAPES, (200, 33)])
def test_bf16_rows(shape, vector_isa, rng):
    """Queries and keys: bf16 in, bf16 out, everything between in float32."""
    x, w, b, dy = data(rng, *shape, "bf16")
    x = representable(x, "bf16")
    y, *stats = ops.layernorm_fwd(x, w, b, EPS, dtype="bf16", pad=3, x_dtype="bf16")
    want, want_mean, want_rstd = reference.fwd(x, w, b, EPS)
    assert_within(y, want, "layernorm_fwd", "bf16")
    assert_within(stats[0], want_mean, "layernorm_fwd")
    assert_within(stats[1], want_rstd, "layernorm_fwd")
    zeros = np.zeros_like(w)
    given = {"dw": zeros, "db": zeros, "dtype": "bf16", "x_dtype": "bf16", "pad": 5}
    dx, dw, db = ops.layernorm_bwd(dy, x, w, *stats, **given)
    want_dx, want_dw, want_db = reference.bwd(dy, x, w, EPS)
    np.testing.assert_allclose(dx, want_dx, rtol=4e-3, atol=5e-6)
    assert_within(dw, want_dw, "layernorm_bwd")
    assert_within(db, want_db, "layernorm_bwd")
    for got, whole in zip(
        ops.layernorm_bwd(dy, x, w, *stats, in_place=True, **given), (dx, dw, db), strict=True
    ):
        assert_same_bits(got, whole)


def test_bf16_rows_have_the_same_bits_alone(vector_isa, rng):
    x, w, b, dy = data(rng, 300, 130, "bf16")
    x = representable(x, "bf16")
    types = {"dtype": "bf16", "x_dtype": "bf16"}
    _, mean, rstd = ops.layernorm_fwd(x, w, b, EPS, **types)
    assert_rows_alone(lambda r: ops.layernorm_fwd(x[r], w, None, EPS, **types)[0], 300)
    assert_rows_alone(
        lambda r: ops.layernorm_bwd(dy[r], x[r], w, mean[r], rstd[r], **types)[0], 300
    )


def test_reference_gradients(rng):
    x, w, b, dy = (a.astype(float) for a in data(rng, 3, 5))

    def loss(x, w, b):
        return float((reference.fwd(x, w, b, EPS)[0] * dy).sum())

    dx, dw, db = reference.bwd(dy, x, w, EPS)
    close = {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(dx, gradient(lambda v: loss(v, w, b), x), **close)
    np.testing.assert_allclose(dw, gradient(lambda v: loss(x, v, b), w), **close)
    np.testing.assert_allclose(db, gradient(lambda v: loss(x, w, v), b), **close)


def test_two_backwards_accumulate(vector_isa, rng):
    x, w, _, dy = data(rng, 20, 37)
    stats = statistics(x, w)
    zeros, before = np.zeros_like(w), np.ones_like(x)
    dx, dw, db = ops.layernorm_bwd(dy, x, w, *stats, dw=zeros, db=zeros)
    dx2, dw2, db2 = ops.layernorm_bwd(dy, x, w, *stats, dx=before, dw=dw, db=db)
    assert_same_bits(dx2, before + dx)
    assert_same_bits(dw2, dw + dw)
    assert_same_bits(db2, db + db)


def test_frozen_and_in_place(vector_isa, rng):
    x, w, _, dy = data(rng, 20, 37)
    stats = statistics(x, w)
    zeros = np.zeros_like(w)
    dx, dw, db = ops.layernorm_bwd(dy, x, w, *stats, dw=zeros, db=zeros)
    frozen, no_dw, no_db = ops.layernorm_bwd(dy, x, w, *stats)
    assert no_dw is None
    assert no_db is None
    assert_same_bits(frozen, dx)
    assert_same_bits(ops.layernorm_bwd(dy, x, w, *stats, dw=zeros)[1], dw)
    assert_same_bits(ops.layernorm_bwd(dy, x, w, *stats, db=zeros)[2], db)
    over_dy = ops.layernorm_bwd(dy, x, w, *stats, dw=zeros, db=zeros, in_place=True)
    for got, want in zip(over_dy, (dx, dw, db), strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_same_bits_alone_and_on_any_threads(dtype, vector_isa, rng):
    x, w, b, dy = data(rng, 500, 130, dtype)
    mean, rstd = statistics(x, w)
    assert_rows_alone(lambda r: ops.layernorm_fwd(x[r], w, b, EPS, dtype=dtype)[0], 500)
    assert_rows_alone(
        lambda r: ops.layernorm_bwd(dy[r], x[r], w, mean[r], rstd[r], dtype=dtype)[0], 500
    )
    zeros = np.zeros_like(w)
    for which in (1, 2):
        assert_any_threads(
            lambda which=which: ops.layernorm_bwd(
                dy, x, w, mean, rstd, dw=zeros, db=zeros, dtype=dtype
            )[which]
        )


def test_far_from_zero_keeps_the_variance(vector_isa):
    """One pass over x and x^2 would lose it: 1000 +- 0.1 in float32."""
    x = (1000 + 0.1 * np.sin(np.arange(256.0))).astype(np.float32)[None]
    one = np.ones(256, np.float32)
    y, _, _ = ops.layernorm_fwd(x, one, 0 * one, EPS)
    np.testing.assert_allclose(y, reference.fwd(x, one, 0 * one, EPS)[0], atol=2e-3)


def test_constant_row_is_the_bias(vector_isa, rng):
    w, b = rng.normal(size=(2, 20)).astype(np.float32)
    y, _, rstd = ops.layernorm_fwd(np.full((1, 20), 2, np.float32), w, b, EPS)
    assert_same_bits(y[0], b)
    np.testing.assert_allclose(rstd, EPS**-0.5, rtol=1e-6)


def test_thirty_thousand_rows(rng):
    x, w, _, dy = data(rng, 30_000, 8)
    zeros = np.zeros_like(w)
    _, dw, db = ops.layernorm_bwd(dy, x, w, *statistics(x, w), dw=zeros, db=zeros)
    _, want_dw, want_db = reference.bwd(dy, x, w, EPS)
    # Sums of 30,000 terms of order one, of size 170: blocks keep the rounding near 1e-7 of that.
    np.testing.assert_allclose(dw, want_dw, atol=1e-3)
    np.testing.assert_allclose(db, want_db, atol=1e-3)


def test_refusals(rng):
    x, w, b, dy = data(rng, 2, 4)
    mean, rstd = statistics(x, w)
    with pytest.raises(ValueError, match=r"w: expected 4 elements, got 3"):
        ops.layernorm_fwd(x, w[:3], b, EPS)
    with pytest.raises(ValueError, match=r"eps is -1, allowed: 0 or above"):
        ops.layernorm_fwd(x, w, b, -1.0)
    with pytest.raises(ValueError, match=r"dy is float32 \(1, 4\), expected \(2, 4\)"):
        ops.layernorm_bwd(dy[:1], x, w, mean, rstd)
    with pytest.raises(ValueError, match=r"x is bf16 \(2, 4\) and y float32 \(2, 4\), expected"):
        ops.layernorm_fwd(x, w, b, EPS, x_dtype="bf16")
    with pytest.raises(ValueError, match="dx is bf16"):
        ops.layernorm_bwd(dy, x, w, mean, rstd, dtype="bf16", in_place=True)
