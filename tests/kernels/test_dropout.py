"""Dropout against the published generator, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_same_bits, representable
from reference import dropout as reference
from reference.philox import philox4x32

ops = engine.ops
SEED, STREAM = 0xA4093822_299F31D0, 0x03707344_13198A2E


def test_reference_gives_the_known_answers():
    """Random123's test vectors of philox4x32 with 10 rounds; the last is of pi's digits."""
    ones = (1 << 64) - 1
    vectors = {
        (0, 0, 0): [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        (ones, ones, ones): [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        (0x299F31D0_A4093822, 0x85A308D3_243F6A88, 0x03707344_13198A2E): [
            0xD16CFE09,
            0x94FDCCEB,
            0x5001E420,
            0x24126EA1,
        ],
    }
    for (key, low, high), words in vectors.items():
        np.testing.assert_array_equal(philox4x32(key, low, high), words)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 4), (5, 37), (2, 64), (3, 130)])
def test_values(shape, dtype, vector_isa, rng):
    x = representable(rng.normal(size=shape), dtype)
    for p in (0.0, 0.1, 0.5, 0.9):
        want = representable(reference.dropout(x, p, SEED, STREAM), dtype)
        got = ops.dropout(x, p, SEED, STREAM, dtype=dtype, pad=3)
        np.testing.assert_array_equal(got, want)
        assert_same_bits(ops.dropout(x, p, SEED, STREAM, dtype=dtype, in_place=True), got)


def test_zero_probability_changes_nothing(vector_isa, rng):
    x = rng.normal(size=(4, 33)).astype(np.float32)
    assert_same_bits(ops.dropout(x, 0.0, 1, 2), x)


def test_keeps_the_share_it_says_and_the_mean(vector_isa):
    x = np.ones((400, 100), np.float32)
    for p in (0.1, 0.5):
        y = ops.dropout(x, p, 3, 4)
        n = y.size
        assert abs((y > 0).mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
        assert abs(y.mean() - 1) < 5 * np.sqrt(p / (1 - p) / n)


def test_seed_stream_and_row_change_the_mask():
    x = np.ones((2, 256), np.float32)
    y = ops.dropout(x, 0.5, 1, 1)
    assert (y[0] != y[1]).any()
    assert (y != ops.dropout(x, 0.5, 2, 1)).any()
    assert (y != ops.dropout(x, 0.5, 1, 2)).any()
    assert (y != ops.dropout(x, 0.5, 1 << 32, 1)).any()


def test_dropped_infinities_are_zero(vector_isa):
    x = np.full((1, 64), np.inf, np.float32)
    assert set(ops.dropout(x, 0.5, 1, 1)[0]) == {0.0, np.inf}


def test_same_bits_on_any_threads_and_for_a_prefix(vector_isa, rng):
    x = rng.normal(size=(300, 77)).astype(np.float32)
    engine.set_num_threads(1)
    together = ops.dropout(x, 0.3, 5, 6)
    engine.set_num_threads(3)
    assert_same_bits(ops.dropout(x, 0.3, 5, 6), together)
    assert_same_bits(ops.dropout(x[:41], 0.3, 5, 6), together[:41])


def test_refusals():
    x = np.zeros((1, 4), np.float32)
    for p in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"dropout: p is .*, allowed: \[0, 1\)"):
            ops.dropout(x, p, 0, 0)
