"""Rows to 8-bit codes, alone and behind LayerNorm: exactly the reference's, on every set."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_rows_alone, assert_same_bits, representable
from reference import int8 as reference

ops = engine.ops
DTYPES = ("float32", "bf16")
WIDTHS = (1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 130, 320, 480)
any_isa = pytest.mark.usefixtures("vector_isa")


def normal(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    return representable(np.random.default_rng(seed).normal(size=shape), dtype)


def assert_codes(actual, expected):
    assert np.array_equal(actual[0], expected[0])
    assert_same_bits(actual[1], expected[1])


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", WIDTHS)
def test_codes_and_scales(cols, dtype):
    x = normal(cols, 7, cols, dtype=dtype)
    found = ops.quantize(x, dtype=dtype, pad=1)
    assert_codes(found, reference.quantize(x))
    codes, scale = found
    assert np.all(np.abs(codes).max(1) == 127)
    error = np.abs(codes * scale[:, None].astype(np.float64) - x)
    assert np.all(error <= 0.5001 * scale[:, None])


@any_isa
def test_halves_round_to_even():
    x = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5]], np.float32)
    codes, scale = ops.quantize(x)
    assert scale[0] == 1
    assert codes[0].tolist() == [127, 0, 2, 2, 0, -2, -2, 4]


@any_isa
@pytest.mark.parametrize("cols", [1, 5, 40])
def test_rows_at_the_ends_of_the_range(cols):
    most = np.finfo(np.float32).max
    x = np.ones((6, cols), np.float32)
    x *= np.array([0, 1e-45, 2.0**-101, 2.0**-100, most, -most], np.float32)[:, None]
    found = ops.quantize(x)
    assert_codes(found, reference.quantize(x))
    assert np.all(found[0][:3] == 0)
    assert np.all(found[1][:3] == 0)
    assert np.all(found[0][3:5] == 127)
    assert np.all(found[0][5] == -127)
    assert np.all(np.isfinite(found[1]))


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 17, 36])
def test_a_row_that_is_not_finite_has_scale_nan_and_no_code(bad, place, dtype):
    x = normal(1, 3, 37, dtype=dtype)
    x[1, place] = bad
    codes, scale = ops.quantize(x, dtype=dtype)
    assert np.isnan(scale[1])
    assert not codes[1].any()
    assert_codes((codes[::2], scale[::2]), reference.quantize(x[::2]))


@any_isa
@pytest.mark.parametrize("part", [0, 1])
def test_a_row_has_the_same_codes_anywhere(part):
    x = normal(2, 300, 100)
    cast = [lambda v: v.astype(np.float32), lambda v: v][part]
    assert_rows_alone(lambda rows: cast(ops.quantize(x[rows])[part]), 300)


@any_isa
@pytest.mark.parametrize("cols", WIDTHS)
def test_layernorm_quantize_is_layernorm_then_quantize(cols):
    x, w, b = 3 * normal(3, 9, cols), normal(4, cols), normal(5, cols)
    y = ops.layernorm_fwd(x, w, b, 1e-5)[0]
    assert_codes(ops.layernorm_quantize(x, w, b, 1e-5, pad=1), ops.quantize(y))


@any_isa
def test_layernorm_quantize_of_rows_that_are_not_finite():
    x = normal(3, 3, 40)
    x[1, 39] = np.nan
    codes, scale = ops.layernorm_quantize(x, normal(4, 40), normal(5, 40))
    assert np.isnan(scale[1])
    assert not codes[1].any()
    assert np.isfinite(scale[::2]).all()


def test_no_rows():
    codes, scale = ops.quantize(np.zeros((0, 5), np.float32))
    assert codes.shape == (0, 5)
    assert scale.shape == (0,)
