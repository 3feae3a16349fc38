"""Sums and copies of rows between float32 and bf16."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import (
    assert_rows_alone,
    assert_same_bits,
    assert_within,
    representable,
    round_bf16,
)
from reference import residual as reference

ops = engine.ops
SHAPES = [(0, 4), (1, 1), (3, 37), (5, 64)]
PAIRS = [(a, b) for a in ("float32", "bf16") for b in ("float32", "bf16")]


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_residual_add(shape, dtype, vector_isa, rng):
    x = rng.normal(size=shape).astype(np.float32)
    branch = representable(rng.normal(size=shape), dtype)
    for scale in (1.0, 0.25, -1.7):
        got = ops.residual_add(x, branch, scale, dtype=dtype, pad=3)
        assert_within(got, reference.add(x, branch, scale), "residual")
    assert_same_bits(ops.residual_add(x, branch, dtype=dtype), x + branch)


@pytest.mark.parametrize(("source", "destination"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_copy_cast(shape, source, destination, vector_isa, rng):
    x = representable(rng.normal(size=shape), source)
    got = ops.copy_cast(x, source, destination, pad=3)
    assert_same_bits(got, representable(x, destination))


def test_cast_of_every_kind_of_number(vector_isa):
    """Ties to even, overflow to infinity, denormals and NaN: as ml_dtypes rounds."""
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    high = np.arange(0, 1 << 16, 7, dtype=np.uint32) << 16
    x = (high[:, None] | low).view(np.float32)
    got, want = ops.copy_cast(x), round_bf16(x)
    np.testing.assert_array_equal(got, want)
    assert_same_bits(got[~np.isnan(x)], want[~np.isnan(x)])


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_gather_rows(dtype, rng):
    x = representable(rng.normal(size=(5, 37)), dtype)
    for row in ([], [4, 0, 0, 2, 4, 1], rng.integers(0, 5, 3000)):
        got = ops.gather_rows(x, np.asarray(row, np.int32), dtype=dtype, pad=3)
        assert_same_bits(got, x[np.asarray(row, int)])
    for row in (-1, 5):
        with pytest.raises(ValueError, match=f"gather_rows: row {row} for 1, allowed: 0 to 4"):
            ops.gather_rows(x, np.array([0, row], np.int32))


@pytest.mark.parametrize(("source", "destination"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_accumulate(shape, source, destination, vector_isa, rng):
    x = representable(rng.normal(size=shape), source)
    y = representable(rng.normal(size=shape), destination)
    got = ops.accumulate(x, y, source, destination, pad=3)
    assert_same_bits(got, representable(x + y, destination))


def test_same_bits_alone_and_on_any_threads(vector_isa, rng):
    x, y = rng.normal(size=(2, 500, 77)).astype(np.float32)
    assert_rows_alone(lambda r: ops.residual_add(x[r], y[r], 0.3), 500)
    assert_rows_alone(lambda r: ops.accumulate(x[r], y[r], "float32", "bf16"), 500)
    assert_rows_alone(lambda r: ops.copy_cast(x[r]), 500)


def test_refusals():
    x, y = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"destination is float32 \(2, 3\), expected \(2, 4\)"):
        ops.residual_add(x, y)
    with pytest.raises(ValueError, match="dtype: got 'float16', allowed: float32, bf16"):
        ops.residual_add(x, x, dtype="float16")
