"""The product of 8-bit rows: its sums exactly, on every instruction set; its epilogues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moltide._engine as engine
from comparison import assert_any_threads, assert_rows_alone, assert_same_bits, round_bf16
from reference import int8 as reference

ops = engine.ops
# Around a panel (16), a tile (2, 5, 12, 32 rows), the padding of k (64).
SIZES = (1, 2, 4, 5, 7, 12, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97)
any_isa = pytest.mark.usefixtures("isa")
property_test = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def problem(m: int, n: int, k: int, seed: int = 0):
    """Codes (m, k) with scales (m), w (n, k), bias (n)."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-127, 128, (m, k)).astype(np.int8)
    scale = rng.uniform(1e-3, 1e-2, m).astype(np.float32)
    w = rng.normal(size=(n, k)).astype(np.float32)
    return x, scale, w, rng.normal(size=n).astype(np.float32)


def integers(n: int, k: int, seed: int = 1) -> np.ndarray:
    """Weights that are their own codes: their scale is 1."""
    w = np.random.default_rng(seed).integers(-127, 128, (n, k)).astype(np.float32)
    w[:, :1] = 127
    return w


@any_isa
@property_test
@given(
    m=st.sampled_from((0, *SIZES, 200)),
    n=st.sampled_from(SIZES),
    k=st.sampled_from((0, *SIZES, 130)),
    pad=st.sampled_from((0, 1, 3)),
    bias=st.booleans(),
    accumulate=st.booleans(),
    bf16=st.booleans(),
)
def test_values_are_those_of_the_reference_bit_by_bit(m, n, k, pad, bias, accumulate, bf16):
    x, scale, w, b = problem(m, n, k)
    b = b if bias else None
    before = np.random.default_rng(3).normal(size=(m, n)).astype(np.float32)
    before = round_bf16(before) if bf16 else before
    y = ops.matmul_i8(
        x, scale, w, b,
        before if accumulate else None,
        epilogue="accumulate" if accumulate else "store",
        out_dtype="bf16" if bf16 else "float32",
        pad=pad,
    )  # fmt: skip
    expected = reference.matmul_i8_bits(x, scale, w, b, before if accumulate else None)
    assert_same_bits(y + 0.0, (round_bf16(expected) if bf16 else expected) + 0.0)


@any_isa
@pytest.mark.parametrize(("m", "n", "k"), [(5, 40, 1040), (70, 33, 300), (400, 70, 640)])
def test_sums_are_exact(m, n, k):
    x, _, _, _ = problem(m, n, k)
    w = integers(n, k)
    y = ops.matmul_i8(x, np.ones(m, np.float32), w)
    # Every partial sum is below 2^24: float32 holds it as it is.
    assert np.array_equal(y.astype(np.int64), reference.sums(x, w.astype(np.int8)))


@any_isa
@pytest.mark.parametrize("k", [64, 1000, 5120, 131072])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_neither_saturate_nor_wrap(k, sign):
    x = np.full((3, k), sign * 127, np.int8)
    x[1, ::2] *= -1
    x[2, 1:] = 0
    y = ops.matmul_i8(x, np.ones(3, np.float32), np.full((17, k), 127.0, np.float32))
    exact = reference.sums(x, np.full((17, k), 127, np.int8))
    assert_same_bits(y + 0.0, exact.astype(np.float32) + 0.0)


@any_isa
@pytest.mark.parametrize(("m", "n", "k"), [(40, 530, 2700), (400, 20, 1300), (97, 33, 5000)])
def test_values_over_several_blocks(m, n, k):
    x, scale, w, b = problem(m, n, k)
    assert_same_bits(ops.matmul_i8(x, scale, w, b), reference.matmul_i8_bits(x, scale, w, b))


@any_isa
def test_values_against_float64():
    x, scale, w, b = problem(50, 60, 200)
    expected = reference.matmul_i8(x, scale, w, b)
    np.testing.assert_allclose(ops.matmul_i8(x, scale, w, b), expected, rtol=5e-7, atol=1e-6)


@any_isa
@pytest.mark.parametrize("out_dtype", ["float32", "bf16"])
def test_gelu(out_dtype):
    x, scale, w, b = problem(50, 77, 40)
    y = ops.matmul_i8(x, scale, w, b, epilogue="gelu", out_dtype=out_dtype)
    u = ops.matmul_i8(x, scale, w, b)
    expected = reference.gelu(u.astype(np.float64))
    relative = 4e-3 if out_dtype == "bf16" else 2e-7
    np.testing.assert_allclose(y, expected, rtol=relative, atol=4e-7)


@any_isa
@pytest.mark.parametrize("magnitude", [1e-3, 0.1, 1.0, 10.0, 1e6])
@pytest.mark.parametrize(("m", "n", "k"), [(50, 77, 40), (300, 640, 64), (33, 2000, 7)])
def test_gelu_quantize(m, n, k, magnitude):
    x, scale, w, b = problem(m, n, k)
    scale, b = scale * np.float32(magnitude), b * np.float32(magnitude)
    codes, out_scale = ops.matmul_i8(x, scale, w, b, epilogue="gelu_quantize", pad=1)
    u = ops.matmul_i8(x, scale, w, b).astype(np.float64)
    exact = reference.gelu(u)
    # GELU's own allowance, then half a code.
    allowed = np.minimum(2e-4, 4e-4 * u**2) + 1e-6 * np.abs(u)
    error = np.abs(codes * out_scale[:, None].astype(np.float64) - exact)
    assert np.all(error <= 1.01 * allowed + 0.5001 * out_scale[:, None])
    amax = np.abs(exact).max(1)
    assert np.all(np.abs(out_scale * 127.0 - amax) <= allowed.max(1) + 1e-6 * amax)
    assert np.all(np.abs(codes).max(1) == 127)


@any_isa
@pytest.mark.parametrize(("n", "k"), [(40, 100), (33, 1300), (8, 320), (320, 8), (600, 2600)])
@pytest.mark.parametrize("epilogue", ["store", "gelu"])
def test_a_row_has_the_same_bits_anywhere(n, k, epilogue):
    x, scale, w, b = problem(61, n, k)
    assert_rows_alone(lambda r: ops.matmul_i8(x[r], scale[r], w, b, epilogue=epilogue), 61)


@any_isa
@pytest.mark.parametrize("part", [0, 1])
def test_a_quantised_row_has_the_same_bits_anywhere(part):
    x, scale, w, b = problem(500, 90, 50)

    def found(rows):
        values = ops.matmul_i8(x[rows], scale[rows], w, b, epilogue="gelu_quantize")[part]
        return values.astype(np.float32)

    assert_rows_alone(found, 500)


@any_isa
def test_rows_have_the_same_bits_in_long_batches_on_any_threads():
    x, scale, w, b = problem(1000, 70, 50)
    assert_rows_alone(lambda r: ops.matmul_i8(x[r], scale[r], w, b), 1000)
    assert_any_threads(lambda: ops.matmul_i8(x, scale, w, b))


@any_isa
def test_zero_rows_and_outputs():
    x, scale, w, b = problem(20, 30, 70)
    x[3], w[5] = 0, 0
    y = ops.matmul_i8(x, scale, w, b)
    assert_same_bits(y[3], b)
    assert_same_bits(y[:, 5].copy(), np.full(20, b[5]))
    codes, out_scale = ops.matmul_i8(x, 0 * scale, w, epilogue="gelu_quantize")
    assert not codes.any()
    assert not out_scale.any()


@any_isa
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_values_reach_the_result_and_no_other_row(bad):
    x, scale, w, b = problem(40, 20, 45)
    clean = ops.matmul_i8(x, scale, w, b)
    scale[7] = np.nan  # what quantize gives such a row
    y = ops.matmul_i8(x, scale, w, b)
    assert np.isnan(y[7]).all()
    assert_same_bits(np.delete(y, 7, 0), np.delete(clean, 7, 0))
    codes, out_scale = ops.matmul_i8(x, scale, w, b, epilogue="gelu_quantize")
    assert np.isnan(out_scale).tolist() == [i == 7 for i in range(40)]
    assert not codes[7].any()
    w[3, 2] = bad
    y = np.delete(ops.matmul_i8(x, scale, w, b), 7, 0)
    assert np.isnan(y[:, 3]).all()
    assert_same_bits(np.delete(y, 3, 1), np.delete(np.delete(clean, 7, 0), 3, 1))


@any_isa
def test_huge_values():
    x = np.full((2, 10), 127, np.int8)
    w = np.full((3, 10), 1e30, np.float32)
    y = ops.matmul_i8(x, np.array([1e5, 1e10], np.float32), w)
    assert np.isfinite(y[0]).all()
    assert np.isposinf(y[1]).all()
    _, out_scale = ops.matmul_i8(x, np.array([1e5, 1e10], np.float32), w, epilogue="gelu_quantize")
    assert np.isfinite(out_scale[0])
    assert np.isnan(out_scale[1])


def test_errors_say_what_is_wrong():
    x, scale, w, b = problem(3, 4, 5)
    with pytest.raises(ValueError, match=r"matmul_i8: x is \(3, 5\), expected \(3, 6\)"):
        ops.matmul_i8(x, scale, np.ones((4, 6), np.float32))
    with pytest.raises(ValueError, match="bias: expected 4 elements, got 3"):
        ops.matmul_i8(x, scale, w, b[:3])
    with pytest.raises(ValueError, match="allowed: at most 131072"):
        ops.matmul_i8(np.zeros((1, 131136), np.int8), scale[:1], np.ones((1, 131136), np.float32))
    with pytest.raises(ValueError, match=r"y is .* expected \(3, 4\)"):
        ops.matmul_i8(x, scale, w, None, np.zeros((3, 5), np.float32), epilogue="accumulate")
