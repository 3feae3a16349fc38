"""Activations against their float64 references, and those against finite differences."""

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
from reference import mlp_act as reference
from reference.finite_differences import gradient

ops = engine.ops
ACTIVATIONS = ["gelu", "swiglu", "relu", "tanh"]
SHAPES = [(0, 4), (1, 1), (3, 37), (5, 64), (2, 130)]
BETAS = [0.7, 1.9, 0.0, -1.3]  # of swiglu


def data(rng, activation, rows, cols, dtype="float32"):
    """u, dy."""
    wide = cols * (2 if activation == "swiglu" else 1)
    u = representable(3 * rng.normal(size=(rows, wide)), dtype)
    return u, representable(rng.normal(size=(rows, cols)), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values(activation, shape, dtype, vector_isa, rng):
    u, _ = data(rng, activation, *shape, dtype)
    y = ops.activation_fwd(activation, u, dtype=dtype, pad=3)
    assert_within(y, reference.fwd(activation, u), "mlp_act", dtype)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(activation, shape, dtype, vector_isa, rng):
    u, dy = data(rng, activation, *shape, dtype)
    du = ops.activation_bwd(activation, dy, u, dtype=dtype, pad=3)
    assert_within(du, reference.bwd(activation, dy, u), "mlp_act", dtype)
    if activation != "swiglu":
        over_dy = ops.activation_bwd(activation, dy, u, dtype=dtype, in_place=True)
        assert_same_bits(over_dy, du)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", BETAS)
def test_swiglu_of_any_slope(beta, shape, dtype, vector_isa, rng):
    u, dy = data(rng, "swiglu", *shape, dtype)
    beta = float(np.float32(beta))
    y = ops.activation_fwd("swiglu", u, dtype=dtype, pad=3, beta=beta)
    assert_within(y, reference.fwd("swiglu", u, beta), "mlp_act", dtype)
    du = ops.activation_bwd("swiglu", dy, u, dtype=dtype, pad=3, beta=beta)
    assert_within(du, reference.bwd("swiglu", dy, u, beta), "mlp_act", dtype)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", [*SHAPES, (300, 50)])
@pytest.mark.parametrize("beta", BETAS)
def test_gradient_of_the_slope(beta, shape, dtype, vector_isa, rng):
    u, dy = data(rng, "swiglu", *shape, dtype)
    beta = float(np.float32(beta))
    terms = reference.swiglu_bwd_beta(dy, u, beta)
    dbeta = ops.swiglu_bwd_beta(dy, u, beta, 0.25, dtype=dtype, pad=2)
    assert abs(dbeta - (0.25 + terms.sum())) <= 1e-6 * (1 + np.abs(terms).sum())


def test_a_slope_of_one_is_no_slope(vector_isa, rng):
    u, dy = data(rng, "swiglu", 3, 37)
    assert_same_bits(ops.activation_fwd("swiglu", u, beta=1.0), ops.activation_fwd("swiglu", u))
    du = ops.activation_bwd("swiglu", dy, u)
    assert_same_bits(ops.activation_bwd("swiglu", dy, u, beta=1.0), du)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_gradient_of_the_slope_on_any_threads(dtype, vector_isa, rng):
    u, dy = data(rng, "swiglu", 300, 77, dtype)
    assert_any_threads(lambda: np.float32([ops.swiglu_bwd_beta(dy, u, 0.7, dtype=dtype)]))


@pytest.mark.parametrize("beta", BETAS)
def test_reference_gradients_of_a_slope(beta, rng):
    u, dy = (a.astype(float) for a in data(rng, "swiglu", 3, 4))

    def loss(u, beta):
        return float((reference.fwd("swiglu", u, beta) * dy).sum())

    close = {"rtol": 1e-5, "atol": 1e-8}
    du = reference.bwd("swiglu", dy, u, beta)
    np.testing.assert_allclose(du, gradient(lambda v: loss(v, beta), u), **close)
    dbeta = reference.swiglu_bwd_beta(dy, u, beta).sum()
    slope = gradient(lambda v: loss(u, v[0]), np.array([beta]))
    np.testing.assert_allclose(dbeta, slope[0], **close)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reference_gradients(activation, rng):
    u, dy = (a.astype(float) for a in data(rng, activation, 3, 4))
    fd = gradient(lambda v: float((reference.fwd(activation, v) * dy).sum()), u)
    np.testing.assert_allclose(reference.bwd(activation, dy, u), fd, rtol=1e-5, atol=1e-8)


def test_gelu_over_its_whole_range(vector_isa):
    """Exact-GELU parity: Phi and the slope to about 1e-7 everywhere, the lower tail not lost."""
    u = np.linspace(-13, 13, 200_001, dtype=np.float32).reshape(-1, 1)
    u = np.concatenate([u, [[1.25], [np.nextafter(np.float32(1.25), np.float32(0))]]]).astype("f4")
    y = ops.activation_fwd("gelu", u).astype(float)
    want = reference.fwd("gelu", u)
    assert (np.abs(y - want) <= 1.5e-7 * np.abs(u)).all()
    assert (np.abs(y - want) <= 6e-6 * np.abs(want)).all()
    slope = ops.activation_bwd("gelu", np.ones_like(u), u)
    assert np.abs(slope - reference.bwd("gelu", np.ones(u.shape), u)).max() <= 2e-7


def test_gelu_does_not_depend_on_neighbours(vector_isa, rng):
    u = np.linspace(-13, 13, 40_000, dtype=np.float32).reshape(1, -1)
    order = rng.permutation(u.size)
    alone = ops.activation_fwd("gelu", u)[:, order]
    assert_same_bits(ops.activation_fwd("gelu", u[:, order]), alone)


def test_gelu_of_every_bf16_value(vector_isa):
    u = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    u = u[np.isfinite(u) & (np.abs(u) < 1e30)].reshape(1, -1)
    y = ops.activation_fwd("gelu", u, dtype="bf16")
    assert_within(y, reference.fwd("gelu", u), "mlp_act", "bf16")
    slope = ops.activation_bwd("gelu", np.ones_like(u), u, dtype="bf16")
    assert_within(slope, reference.bwd("gelu", np.ones(u.shape), u), "mlp_act", "bf16")


def test_gelu_of_extreme_bf16_values(vector_isa):
    u = np.array([[np.inf, 2.0**100, 96, 0.0, -0.0, -96, -(2.0**100), np.nan]], np.float32)
    y = ops.activation_fwd("gelu", u, dtype="bf16")[0]
    np.testing.assert_array_equal(y, [np.inf, 2.0**100, 96, 0, 0, 0, 0, np.nan])
    slope = ops.activation_bwd("gelu", np.ones_like(u), u, dtype="bf16")[0, 1:]
    np.testing.assert_array_equal(slope, [1, 1, 0.5, 0.5, 0, 0, np.nan])


def test_tanh_over_its_whole_range(vector_isa):
    u = np.concatenate([np.linspace(-12, 12, 200_001), np.geomspace(1e-30, 1, 1000)])
    u = u.astype(np.float32).reshape(-1, 1)
    np.testing.assert_allclose(ops.activation_fwd("tanh", u), np.tanh(u.astype(float)), rtol=4e-7)


def test_extremes(vector_isa):
    u = np.array([[np.inf, 1e30, 100, 0.0, -0.0, -100, -1e30, np.nan]], np.float32)
    gelu = ops.activation_fwd("gelu", u)[0]
    np.testing.assert_array_equal(gelu, [np.inf, np.float32(1e30), 100, 0, 0, 0, 0, np.nan])
    relu = ops.activation_fwd("relu", u)[0]
    np.testing.assert_array_equal(relu, [np.inf, np.float32(1e30), 100, 0, 0, 0, 0, np.nan])
    tanh = ops.activation_fwd("tanh", u)[0]
    np.testing.assert_array_equal(tanh, [1, 1, 1, 0, 0, -1, -1, np.nan])
    slope = ops.activation_bwd("gelu", np.ones_like(u), u)[0, 1:]
    np.testing.assert_array_equal(slope, [1, 1, 0.5, 0.5, 0, 0, np.nan])
    slope = ops.activation_bwd("relu", np.ones_like(u), u)[0, :-1]
    np.testing.assert_array_equal(slope, [1, 1, 1, 0, 0, 0, 0])
    gate = np.array([[200, -200, 0, 1, 1, 1]], np.float32)  # three gates, three ups
    np.testing.assert_array_equal(ops.activation_fwd("swiglu", gate)[0, :3], [200, 0, 0])
    du = ops.activation_bwd("swiglu", np.ones((1, 3), np.float32), gate)[0]
    np.testing.assert_array_equal(du, [1, 0, 0.5, 200, 0, 0])


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_same_bits_alone_and_on_any_threads(activation, dtype, vector_isa, rng):
    u, dy = data(rng, activation, 150, 77, dtype)
    assert_rows_alone(lambda r: ops.activation_fwd(activation, u[r], dtype=dtype), 150)
    assert_rows_alone(lambda r: ops.activation_bwd(activation, dy[r], u[r], dtype=dtype), 150)


def test_refusals():
    u, dy = np.zeros((2, 6), np.float32), np.zeros((2, 6), np.float32)
    with pytest.raises(ValueError, match="activation: got 'silu', allowed: gelu, swiglu, relu"):
        ops.activation_fwd("silu", u)
    with pytest.raises(ValueError, match=r"u is float32 \(2, 6\), expected \(2, 12\)"):
        ops.activation_bwd("swiglu", dy, u)
    with pytest.raises(ValueError, match="beta goes with swiglu alone"):
        ops.activation_fwd("gelu", u, beta=1.0)
    with pytest.raises(ValueError, match=r"u is float32 \(2, 6\), expected \(2, 12\)"):
        ops.swiglu_bwd_beta(dy, u, 1.0)
