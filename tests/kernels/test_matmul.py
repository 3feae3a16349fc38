"""The matrix product and its weight gradient against float64, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moltide._engine as engine
from comparison import assert_any_threads, assert_rows_alone, assert_same_bits, representable
from reference import matmul as reference
from reference.finite_differences import gradient

ops = engine.ops
DTYPES = ("float32", "bf16")
F32, BF16 = 2.0**-24, 2.0**-8  # half a unit in the last place of one
# Around a panel (16), a tile (2, 6, 8, 12, 24, 32 rows), bf16's padding of k (32).
SIZES = (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47, 65, 97)
# From 128 outputs and 64 inputs on some processors take Winograd's inner product, k in fours.
OUTPUTS = (*SIZES, 127, 128, 145, 171)
INPUTS = (0, *SIZES, 63, 64, 66, 67, 130)
any_isa = pytest.mark.usefixtures("isa")
property_test = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def normal(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    return representable(np.random.default_rng(seed).normal(size=shape), dtype)


def problem(m: int, n: int, k: int, dtype: str, seed: int = 0):
    """x (m, k), w (n, k) in values of dtype and a float32 bias (n)."""
    return normal(seed, m, k, dtype=dtype), normal(seed + 1, n, k, dtype=dtype), normal(seed + 2, n)


def sum_bound(terms: int, magnitude: np.ndarray) -> np.ndarray:
    """What adding `terms` products in float32 may lose; 4 sqrt(n) covers random rounding."""
    return F32 * (4 * np.sqrt(terms) + 8) * magnitude + 1e-30


def assert_close(actual, expected, bound, out_dtype="float32"):
    unit = BF16 if out_dtype == "bf16" else F32
    allowed = bound + unit * np.abs(expected) * 1.01
    excess = np.abs(actual - expected) - allowed
    assert np.all(excess <= 0), f"beyond the bound by {excess.max()} at {np.argmax(excess)}"


@any_isa
@property_test
@given(
    m=st.sampled_from((0, *SIZES, 200)),
    n=st.sampled_from(OUTPUTS),
    k=st.sampled_from(INPUTS),
    dtype=st.sampled_from(DTYPES),
    out=st.booleans(),
    pad=st.sampled_from((0, 1, 5)),
    transpose=st.booleans(),
    bias=st.booleans(),
)
def test_values(m, n, k, dtype, out, pad, transpose, bias):
    x, w, b = problem(m, n, k, dtype)
    b = b if bias else None
    out_dtype = dtype if out else "float32"
    given_w = np.ascontiguousarray(w.T) if transpose else w
    y = ops.matmul(x, given_w, b, transpose=transpose, dtype=dtype, out_dtype=out_dtype, pad=pad)
    bound = sum_bound(k, reference.magnitude(x, w, b))
    assert_close(y, reference.matmul(x, w, b), bound, out_dtype)


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(40, 530, 2700), (400, 20, 1300), (97, 33, 5000)])
def test_values_over_several_blocks(m, n, k, dtype):
    x, w, b = problem(m, n, k, dtype)
    y = ops.matmul(x, w, b, dtype=dtype)
    assert_close(y, reference.matmul(x, w, b), sum_bound(k, reference.magnitude(x, w, b)))


@any_isa
@pytest.mark.parametrize("n", [48, 160])
@pytest.mark.parametrize("k", [8, 320, 1280, 5120])
@pytest.mark.parametrize("dtype", DTYPES)
def test_error_at_most_twice_numpys(n, k, dtype):
    x, w, _ = problem(64, n, k, dtype)
    exact = reference.matmul(x, w)
    theirs = np.abs(x @ w.T - exact)
    ours = np.abs(ops.matmul(x, w, dtype=dtype) - exact)
    assert np.sqrt(np.mean(ours**2)) <= 2 * max(np.sqrt(np.mean(theirs**2)), F32)


@any_isa
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e3])
def test_values_of_rows_of_any_size(size):
    """A row is as exact beside weights of another size, and beside rows of another, as alone."""
    x, w, _ = problem(70, 160, 96, "float32")
    w = w * np.float32(size)
    x *= np.float32(10) ** np.random.default_rng(4).integers(-6, 7, size=(70, 1))
    x[:7] = 0
    x[:, 5] *= 30  # channels far beyond the rest
    exact = reference.matmul(x, w)
    error = np.linalg.norm(ops.matmul(x, w) - exact, axis=1)
    assert np.all(error <= 1e-6 * np.linalg.norm(exact, axis=1))


@any_isa
def test_small_columns_are_as_exact_as_the_others():
    x, w, _ = problem(70, 160, 96, "float32")
    w[::5] *= np.float32(1e-4)
    exact = reference.matmul(x, w)
    error = np.linalg.norm(ops.matmul(x, w) - exact, axis=0)
    assert np.all(error <= 1e-6 * np.median(np.linalg.norm(exact, axis=0)))


@any_isa
def test_the_largest_and_smallest_rows():
    x, w, _ = problem(4, 160, 96, "float32")
    x *= np.float32([[1e36], [1e-30], [1e-37], [1e-41]])
    exact = reference.matmul(x, w)
    error = np.linalg.norm(ops.matmul(x, w) - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert np.all(error <= [1e-6, 1e-6, 1e-4, 1e-1])  # a denormal row has few bits


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_zero_give_the_bias(dtype):
    x, w, b = problem(30, 160, 96, dtype)
    y = ops.matmul(x, np.zeros_like(w), b, dtype=dtype)
    assert_same_bits(y, np.broadcast_to(b, y.shape))


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("out_dtype", DTYPES)
def test_accumulate(dtype, out_dtype):
    if dtype == "float32" and out_dtype == "bf16":
        pytest.skip("y is float32 or the type of x")
    x, w, b = problem(37, 50, 70, dtype)
    before = normal(9, 37, 50, dtype=out_dtype)
    y = ops.matmul(x, w, b, before, "accumulate", dtype=dtype, out_dtype=out_dtype, pad=3)
    bound = sum_bound(72, reference.magnitude(x, w, b) + np.abs(before))
    assert_close(y, before + reference.matmul(x, w, b), bound, out_dtype)


@any_isa
@pytest.mark.parametrize(("dtype", "out_dtype"), [("float32", "float32"), ("bf16", "bf16")])
def test_gelu(dtype, out_dtype):
    x, w, b = problem(50, 77, 40, dtype)
    options = {"epilogue": "gelu", "dtype": dtype, "out_dtype": out_dtype, "pad": 1}
    y, pre = ops.matmul(x, w, b, want_pre=True, **options)
    assert_same_bits(pre, ops.matmul(x, w, b, dtype=dtype, out_dtype=out_dtype))
    # gelu of what is stored: the error of pre does not count, only gelu's own and y's rounding.
    assert_close(y, reference.gelu(pre.astype(np.float64)), 4e-7 + 0 * pre, out_dtype)
    assert_same_bits(ops.matmul(x, w, b, **options), y)
    assert_same_bits(ops.activation_fwd("gelu", pre, dtype=out_dtype), y)


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_is_applied_before_rounding(dtype):
    x, w, _ = problem(5, 20, 33, dtype)
    scaled = representable(np.float32(0.3) * w, dtype)
    assert_same_bits(
        ops.matmul(x, w, scale=0.3, dtype=dtype), ops.matmul(x, scaled, scale=1.0, dtype=dtype)
    )


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "k"), [(40, 100), (33, 1300), (8, 320), (320, 8), (600, 2600), (145, 67)]
)
def test_a_row_has_the_same_bits_anywhere(n, k, dtype):
    x, w, b = problem(61, n, k, dtype)
    assert_rows_alone(lambda rows: ops.matmul(x[rows], w, b, dtype=dtype), 61)


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_the_same_bits_in_long_batches(dtype):
    x, w, b = problem(1000, 70, 50, dtype)
    assert_rows_alone(lambda rows: ops.matmul(x[rows], w, b, dtype=dtype), 1000)


@any_isa
@property_test
@given(
    m=st.sampled_from((0, *SIZES, 200)),
    n=st.sampled_from((*SIZES, 120)),
    k=st.sampled_from((*SIZES, 130)),
    dtype=st.sampled_from(DTYPES),
    pad=st.sampled_from((0, 1, 5)),
    scale=st.sampled_from((1.0, -0.37)),
    bias=st.booleans(),
)
def test_weight_gradient(m, n, k, dtype, pad, scale, bias):
    dy, x = normal(0, m, n, dtype=dtype), normal(1, m, k, dtype=dtype)
    dw, db = normal(2, n, k), normal(3, n) if bias else None
    new_dw, new_db = ops.matmul_dw(dy, x, dw, db, scale=scale, dtype=dtype, pad=pad)
    scale = float(np.float32(scale))
    _, expected, sums = reference.matmul_backward(dy, x, np.zeros((n, k)))
    bound = sum_bound(m + 2, np.abs(dw) + reference.magnitude(dy.T, x.T))
    assert_close(new_dw, dw + scale * expected, bound)
    if db is None:
        assert new_db is None
    else:
        assert_close(new_db, db + sums, sum_bound(m + 2, np.abs(dy).sum(0) + np.abs(db)))


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(2500, 20, 33), (300, 450, 100), (1100, 8, 200)])
def test_weight_gradient_over_several_blocks(m, n, k, dtype):
    dy, x = normal(0, m, n, dtype=dtype), normal(1, m, k, dtype=dtype)
    dw, db = ops.matmul_dw(
        dy, x, np.zeros((n, k), np.float32), np.zeros(n, np.float32), dtype=dtype
    )
    _, expected, sums = reference.matmul_backward(dy, x, np.zeros((n, k)))
    assert_close(dw, expected, sum_bound(m, reference.magnitude(dy.T, x.T)))
    assert_close(db, sums, sum_bound(m, np.abs(dy).sum(0)))


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), [(1500, 40, 50), (70, 300, 20)])
def test_weight_gradient_bits_do_not_depend_on_threads(m, n, k, dtype):
    dy, x = normal(0, m, n, dtype=dtype), normal(1, m, k, dtype=dtype)
    start, db = normal(2, n, k), normal(3, n)
    for part in (0, 1):
        assert_any_threads(lambda part=part: ops.matmul_dw(dy, x, start, db, dtype=dtype)[part])


def test_reference_gradients_against_finite_differences():
    rng = np.random.default_rng(3)
    x, w, b, dy = (rng.normal(size=s) for s in ((4, 3), (5, 3), (5,), (4, 5)))
    dx, dw, db = reference.matmul_backward(dy, x, w)
    for argument, expected in ((0, dx), (1, dw), (2, db)):

        def loss(value, argument=argument):
            arguments = [x, w, b]
            arguments[argument] = value
            return float((dy * reference.matmul(*arguments)).sum())

        actual = gradient(loss, (x, w, b)[argument])
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-9)


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
def test_input_gradient_is_the_transposed_product(dtype):
    dy, w, _ = problem(29, 60, 40, dtype)
    w = np.ascontiguousarray(w.T)  # (out 40, in 60): dx = dy w
    dx = ops.matmul(dy, w, transpose=True, dtype=dtype)
    expected, _, _ = reference.matmul_backward(dy, np.zeros((29, 60)), w)
    assert_close(dx, expected, sum_bound(40, reference.magnitude(dy, w.T)))


@any_isa
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("n", "k"), [(20, 45), (160, 68)])
def test_not_finite_values_reach_the_result_and_no_other_row(dtype, bad, n, k):
    x, w, b = problem(30, n, k, dtype)
    clean = ops.matmul(x, w, b, dtype=dtype)
    x[7, 44] = bad
    y = ops.matmul(x, w, b, dtype=dtype)
    assert not np.isfinite(y[7]).any()
    assert_same_bits(np.delete(y, 7, 0), np.delete(clean, 7, 0))
    w[3, 2] = bad
    y = ops.matmul(normal(5, 30, k, dtype=dtype), w, b, dtype=dtype)
    assert not np.isfinite(y[:, 3]).any()
    assert np.isfinite(np.delete(y, 3, 1)).all()
    dw, db = ops.matmul_dw(x, x, np.zeros((k, k), np.float32), np.zeros(k, np.float32), dtype=dtype)
    assert not np.isfinite(dw[44]).any()
    assert not np.isfinite(dw[:, 44]).any()
    assert np.isfinite(dw[:44, :44]).all()
    assert np.isfinite(db[:44]).all()
    assert not np.isfinite(db[44])


@any_isa
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gelu_of_not_finite_values(bad):
    y = ops.matmul(np.ones((1, 1), np.float32), np.full((17, 1), bad, np.float32), epilogue="gelu")
    if bad == np.inf:
        assert np.isposinf(y).all()
    elif bad == -np.inf:
        assert (np.isnan(y) | (y == 0)).all()
    else:
        assert np.isnan(y).all()


@any_isa
def test_denormals_are_kept_in_float32():
    tiny = np.full((3, 1), 1e-40, np.float32)
    y = ops.matmul(tiny, np.ones((18, 1), np.float32))
    assert_same_bits(y, np.full((3, 18), 1e-40, np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "k"), [(40, 70), (145, 131)])
def test_packed_weights_suit_every_instruction_set(dtype, n, k, isa):
    x, w, b = problem(20, n, k, dtype)
    expected = ops.matmul(x, w, b, dtype=dtype)
    for other in engine.available_isas():
        assert_same_bits(ops.matmul(x, w, b, dtype=dtype, pack_isa=other), expected)
    assert engine.active_isa() == isa


def test_errors_say_what_is_wrong():
    x, w, b = problem(3, 4, 5, "float32")
    with pytest.raises(ValueError, match=r"x is float32 \(3, 5\), expected \(3, 6\)"):
        ops.matmul(x, normal(0, 4, 6))
    with pytest.raises(ValueError, match=r"y is bf16 .* expected float32 or the type of x"):
        ops.matmul(x, w, out_dtype="bf16")
    with pytest.raises(ValueError, match="pre is written by the gelu epilogue only"):
        ops.matmul(x, w, want_pre=True)
    with pytest.raises(ValueError, match="bias: expected 4 elements, got 3"):
        ops.matmul(x, w, b[:3])
    with pytest.raises(ValueError, match=r"matmul_dw: x is .* expected \(3, 5\)"):
        ops.matmul_dw(x, normal(0, 2, 5), np.zeros((5, 5), np.float32))
    with pytest.raises(ValueError, match=r"matmul_dw: dw is .* expected \(5, 5\)"):
        ops.matmul_dw(x, x, np.zeros((4, 5), np.float32))
