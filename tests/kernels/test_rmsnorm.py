"""RMS norm against its float64 reference, and that against finite differences."""

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
from reference import rmsnorm as reference
from reference.finite_differences import gradient

ops = engine.ops
EPS = 1e-6
SHAPES = [(0, 5), (1, 1), (1, 16), (3, 37), (7, 64), (70, 130), (2, 320)]


def data(rng, rows, cols, dtype="float32"):
    """x, w, dy."""
    x = (rng.normal(size=(rows, cols)) * 2 + 0.5).astype(np.float32)
    w = rng.normal(size=cols).astype(np.float32)
    return x, w, representable(rng.normal(size=(rows, cols)), dtype)


def rstd_of(x, w):
    return reference.fwd(x, w, EPS)[1].astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, dtype, vector_isa, rng):
    x, w, _ = data(rng, *shape)
    y, rstd = ops.rmsnorm_fwd(x, w, EPS, dtype=dtype, pad=3)
    want, want_rstd = reference.fwd(x, w, EPS)
    assert_within(y, want, "rmsnorm_fwd", dtype)
    assert_within(rstd, want_rstd, "rmsnorm_fwd")


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", [*SHAPES, (200, 33)])
def test_gradients(shape, dtype, vector_isa, rng):
    x, w, dy = data(rng, *shape, dtype)
    dx, dw = ops.rmsnorm_bwd(dy, x, w, rstd_of(x, w), dw=np.zeros_like(w), dtype=dtype, pad=5)
    want_dx, want_dw = reference.bwd(dy, x, w, EPS)
    assert_within(dx, want_dx, "rmsnorm_bwd")
    assert_within(dw, want_dw, "rmsnorm_bwd")


def test_reference_gradients(rng):
    x, w, dy = (a.astype(float) for a in data(rng, 3, 5))

    def loss(x, w):
        return float((reference.fwd(x, w, EPS)[0] * dy).sum())

    dx, dw = reference.bwd(dy, x, w, EPS)
    np.testing.assert_allclose(dx, gradient(lambda v: loss(v, w), x), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dw, gradient(lambda v: loss(x, v), w), rtol=1e-6, atol=1e-8)


def test_two_backwards_accumulate(vector_isa, rng):
    x, w, dy = data(rng, 20, 37)
    rstd, before = rstd_of(x, w), np.ones_like(x)
    dx, dw = ops.rmsnorm_bwd(dy, x, w, rstd, dw=np.zeros_like(w))
    dx2, dw2 = ops.rmsnorm_bwd(dy, x, w, rstd, dx=before, dw=dw)
    assert_same_bits(dx2, before + dx)
    assert_same_bits(dw2, dw + dw)


def test_frozen_and_in_place(vector_isa, rng):
    x, w, dy = data(rng, 20, 37)
    rstd = rstd_of(x, w)
    dx, dw = ops.rmsnorm_bwd(dy, x, w, rstd, dw=np.zeros_like(w))
    frozen, nothing = ops.rmsnorm_bwd(dy, x, w, rstd)
    assert nothing is None
    assert_same_bits(frozen, dx)
    over_dy = ops.rmsnorm_bwd(dy, x, w, rstd, dw=np.zeros_like(w), in_place=True)
    assert_same_bits(over_dy[0], dx)
    assert_same_bits(over_dy[1], dw)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_same_bits_alone_and_on_any_threads(dtype, vector_isa, rng):
    x, w, dy = data(rng, 500, 130, dtype)
    rstd = rstd_of(x, w)
    assert_rows_alone(lambda r: ops.rmsnorm_fwd(x[r], w, EPS, dtype=dtype)[0], 500)
    assert_rows_alone(lambda r: ops.rmsnorm_bwd(dy[r], x[r], w, rstd[r], dtype=dtype)[0], 500)
    zeros = np.zeros_like(w)
    assert_any_threads(lambda: ops.rmsnorm_bwd(dy, x, w, rstd, dw=zeros, dtype=dtype)[1])


def test_zero_row_stays_zero(vector_isa):
    y, rstd = ops.rmsnorm_fwd(np.zeros((1, 20), np.float32), np.ones(20, np.float32), EPS)
    assert (y == 0).all()
    np.testing.assert_allclose(rstd, EPS**-0.5, rtol=1e-6)


def test_refusals(rng):
    x, w, dy = data(rng, 2, 4)
    with pytest.raises(ValueError, match=r"eps is -1, allowed: 0 or above"):
        ops.rmsnorm_fwd(x, w, -1.0)
    with pytest.raises(ValueError, match=r"dy is float32 \(1, 4\), expected \(2, 4\)"):
        ops.rmsnorm_bwd(dy[:1], x, w, rstd_of(x, w))
