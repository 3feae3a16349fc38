"""Pairs of tokens: their distances and edge types, and how a head's plane lies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from attention_runs import offsets

import moltide._engine as engine
from comparison import assert_same_bits, round_bf16
from reference.attention_pair_bias import pair_starts

ops = engine.ops
LENGTHS = [5, 0, 1, 40, 17]


def test_planes_are_the_rows_transposed(vector_isa, rng):
    for heads in (1, 3, 16, 64):
        starts = pair_starts(offsets(LENGTHS))
        rows = rng.normal(size=(starts[-1], heads)).astype(np.float32)
        wanted = np.concatenate([rows[a:b].T.ravel() for a, b in pairwise(starts)])
        planes = np.full(rows.size, np.nan, np.float32)
        cut = [0, 3, 26, 700, len(rows)]
        for begin, end in pairwise(cut):
            planes = ops.pairs_to_planes(rows[begin:end], begin, starts, planes, pad=3)
        assert_same_bits(planes, wanted)
        for begin, end in pairwise(cut):
            back = ops.planes_to_pairs(planes, begin, end - begin, heads, starts, pad=5)
            assert_same_bits(back, rows[begin:end])
        half = ops.planes_to_pairs(planes, 2, 100, heads, starts, dtype="bf16")
        assert_same_bits(half, round_bf16(rows[2:102]))
        assert_same_bits(
            ops.pairs_to_planes(rows, 0, starts, 0 * planes, dtype="bf16"), round_bf16(wanted)
        )


def test_planes_of_any_threads(rng):
    starts = pair_starts(offsets([60, 3, 30]))
    rows = rng.normal(size=(starts[-1], 8)).astype(np.float32)
    results = []
    for threads in (1, 3):
        engine.set_num_threads(threads)
        results.append(ops.pairs_to_planes(rows, 0, starts, np.zeros(rows.size, np.float32)))
    assert_same_bits(*results)


def test_distances_and_edge_types(rng):
    cu = offsets(LENGTHS)
    starts = pair_starts(cu)
    coordinates = rng.normal(scale=5, size=(cu[-1], 3)).astype(np.float32)
    tokens = rng.integers(0, 31, cu[-1]).astype(np.int32)
    distances, edges = [], []
    for a, b in pairwise(cu):
        x = coordinates[a:b].astype(np.float64)
        apart = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))  # [key][query]: symmetric
        distances.append(apart.astype(np.float32).ravel())
        edges.append((tokens[None, a:b] * 31 + tokens[a:b, None]).ravel())
    for begin, end in ((0, starts[-1]), (0, 1), (13, 900), (25, 26), (7, 7)):
        got = ops.pair_distance(coordinates, tokens, cu, starts, 31, begin, end - begin)
        assert_same_bits(got[0], np.concatenate(distances)[begin:end])
        np.testing.assert_array_equal(got[1], np.concatenate(edges)[begin:end])


def test_refusals():
    cu, starts = offsets([3]), np.array([0, 9])
    coordinates, tokens = np.zeros((3, 3), np.float32), np.array([0, 1, 5], np.int32)
    with pytest.raises(ValueError, match="token 2 is 5, allowed: 0 to 4"):
        ops.pair_distance(coordinates, tokens, cu, starts, 5, 0, 9)
    with pytest.raises(ValueError, match="got pairs 0 to 10, allowed 0 to 9"):
        ops.pair_distance(coordinates, tokens, cu, starts, 6, 0, 10)
    with pytest.raises(ValueError, match="got 50000 kinds of tokens, allowed 1 to 46340"):
        ops.pair_distance(coordinates, tokens, cu, starts, 50000, 0, 9)
    coordinates[1, 2] = np.nan
    with pytest.raises(ValueError, match="coordinate 2 of token 1 is nan, allowed: finite"):
        ops.pair_distance(coordinates, tokens, cu, starts, 6, 0, 9)
    with pytest.raises(ValueError, match="got pairs 0 to 10, allowed 0 to 9"):
        ops.pairs_to_planes(np.zeros((10, 2), np.float32), 0, starts, np.zeros(18, np.float32))
