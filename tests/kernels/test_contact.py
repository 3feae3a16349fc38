"""The contact head against its float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_within
from reference import contact as reference

ops = engine.ops


def attention_maps(rng, channels, length):
    maps = rng.gamma(0.3, size=(channels, length, length)).astype(np.float32) + np.float32(1e-6)
    return maps / maps.sum(axis=2, keepdims=True)


def contacts(maps, weight, bias, heads, skip_first=1, skip_last=1):
    """The op, layer by layer as the encoder calls it."""
    size = maps.shape[1] - skip_first - skip_last
    logits = np.zeros((size, size), np.float32)
    for first in range(0, len(maps), heads):
        layer = slice(first, first + heads)
        ops.contact_accumulate(maps[layer], weight[layer], skip_first, skip_last, logits)
    ops.contact_sigmoid(logits, bias)
    return logits


@pytest.mark.parametrize("skips", [(1, 1), (0, 0), (2, 0)])
@pytest.mark.parametrize("length", [3, 4, 17, 18, 50, 131])
def test_matches_reference(vector_isa, length, skips, rng):
    heads, layers = 3, 2
    maps = attention_maps(rng, heads * layers, length)
    weight = rng.standard_normal(heads * layers).astype(np.float32) * 5
    got = contacts(maps, weight, -0.5, heads, *skips)
    assert_within(got, reference.contacts(maps, weight, -0.5, *skips), "contact")


def test_is_symmetric_to_the_bit_whatever_the_threads(vector_isa, rng):
    maps = attention_maps(rng, 4, 75)
    weight = rng.standard_normal(4).astype(np.float32) * 5
    results = []
    for threads in (1, 3):
        engine.set_num_threads(threads)
        results.append(contacts(maps, weight, 0.25, heads=2))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[0].T)


def test_a_symmetric_product_map_carries_no_contact(vector_isa, rng):
    # What the correction is for: a map that is an outer product of its marginals vanishes.
    share = rng.random(40).astype(np.float32)
    maps = np.zeros((1, 42, 42), np.float32)
    maps[0, 1:-1, 1:-1] = np.outer(share, share)
    got = contacts(maps, np.ones(1, np.float32), 0.0, heads=1)
    np.testing.assert_allclose(got, 0.5, atol=1e-6)


def test_weight_on_skipped_keys_alone_is_no_contact(vector_isa):
    maps = np.zeros((1, 12, 12), np.float32)
    maps[0, :, 0] = 1
    np.testing.assert_array_equal(contacts(maps, np.ones(1, np.float32), 0.0, heads=1), 0.5)


def test_nothing_left_after_the_skips(vector_isa):
    maps = np.ones((2, 2, 2), np.float32)
    assert contacts(maps, np.ones(2, np.float32), 0.0, heads=2).shape == (0, 0)


def test_sigmoid_saturates(vector_isa):
    logits = np.array([[-200, -20, 0], [20, 200, np.nan]], np.float32)
    ops.contact_sigmoid(logits, 0.0)
    np.testing.assert_allclose(
        logits, [[0, 2.0611536e-9, 0.5], [1 - 2.06e-9, 1, np.nan]], rtol=1e-6
    )


def test_refuses_more_skips_than_positions():
    with pytest.raises(ValueError, match="got length 2 with 2 \\+ 1 positions to skip"):
        ops.contact_accumulate(
            np.zeros((1, 2, 2), np.float32),
            np.ones(1, np.float32),
            2,
            1,
            np.zeros((0, 0), np.float32),
        )
