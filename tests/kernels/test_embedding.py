"""Embedding, its scatter and token dropout against their float64 references."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_any_threads, assert_rows_alone, assert_same_bits, assert_within
from reference import embedding as reference
from reference.finite_differences import gradient

ops = engine.ops
VOCABULARY, PLACES, OFFSET = 11, 40, 2
SHAPES = [(0, 5), (1, 1), (3, 37), (30, 64), (25, 130)]


def data(rng, rows, cols):
    """tokens, table, scale, positions, position."""
    return (
        rng.integers(0, VOCABULARY, size=rows).astype(np.int32),
        rng.normal(size=(VOCABULARY, cols)).astype(np.float32),
        rng.uniform(0.5, 2, size=rows).astype(np.float32),
        rng.normal(size=(PLACES, cols)).astype(np.float32),
        rng.integers(0, PLACES - OFFSET, size=rows).astype(np.int32),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, vector_isa, rng):
    tokens, table, scale, positions, position = data(rng, *shape)
    assert_same_bits(ops.embedding_fwd(tokens, table, pad=3), table[tokens])
    x = ops.embedding_fwd(tokens, table, scale=scale, pad=3)
    assert_within(x, reference.fwd(tokens, table, scale), "embedding")
    x = ops.embedding_fwd(tokens, table, scale, positions, position, OFFSET)
    want = reference.fwd(tokens, table, scale, positions, position + OFFSET)
    assert_within(x, want, "embedding")


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape, scaled, vector_isa, rng):
    tokens, table, scale, positions, position = data(rng, *shape)
    scale = scale if scaled else None
    dx = rng.normal(size=shape).astype(np.float32)
    dtable, dpositions = ops.embedding_bwd(
        tokens, dx, 0 * table, scale, 0 * positions, position, OFFSET, pad=3
    )
    want = reference.bwd(tokens, dx, VOCABULARY, scale, PLACES, position + OFFSET)
    assert_within(dtable, want[0], "embedding")
    assert_within(dpositions, want[1], "embedding")


def test_reference_gradients(rng):
    tokens, table, scale, positions, position = data(rng, 7, 3)
    dx = rng.normal(size=(7, 3))
    rows = position + OFFSET
    dtable, dpositions = reference.bwd(tokens, dx, VOCABULARY, scale, PLACES, rows)

    def loss(table, positions):
        return float((reference.fwd(tokens, table, scale, positions, rows) * dx).sum())

    close = {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(dtable, gradient(lambda v: loss(v, positions), table), **close)
    np.testing.assert_allclose(dpositions, gradient(lambda v: loss(table, v), positions), **close)


def test_two_backwards_accumulate_and_frozen_table(vector_isa, rng):
    tokens, table, scale, positions, position = data(rng, 20, 37)
    dx = rng.normal(size=(20, 37)).astype(np.float32)
    once = ops.embedding_bwd(tokens, dx, table, scale, positions, position)
    table_only = ops.embedding_bwd(tokens, dx, table, scale)
    positions_only = ops.embedding_bwd(tokens, dx, None, scale, positions, position)
    assert_same_bits(table_only[0], once[0])
    assert table_only[1] is None
    assert positions_only[0] is None
    assert_same_bits(positions_only[1], once[1])
    want = reference.bwd(tokens, dx, VOCABULARY, scale, PLACES, position)
    twice = ops.embedding_bwd(tokens, dx, once[0], scale, once[1], position)
    assert_within(twice[0], table + 2 * want[0], "embedding")
    assert_within(twice[1], positions + 2 * want[1], "embedding")


def test_same_bits_alone_and_on_any_threads(vector_isa, rng):
    tokens, table, scale, positions, position = data(rng, 500, 200)
    assert_rows_alone(
        lambda r: ops.embedding_fwd(tokens[r], table, scale[r], positions, position[r]), 500
    )
    dx = rng.normal(size=(500, 200)).astype(np.float32)
    for which in (0, 1):
        assert_any_threads(
            lambda which=which: ops.embedding_bwd(tokens, dx, table, scale, positions, position)[
                which
            ]
        )


def test_token_dropout_of_esm2():
    """Masked tokens vanish; the rest of a sequence with m of L masked is times 0.88 / (1 - m/L)."""
    mask = 32
    tokens = np.array([0, 5, 6, 2, 0, mask, 7, mask, 2, mask, 0, 2], np.int32)
    cu_seqlens = np.array([0, 4, 9, 10, 10, 12], np.int32)
    scale = ops.token_dropout_scale(tokens, cu_seqlens, mask, 0.15 * 0.8)
    want = [0.88] * 4 + [0.88 * 5 / 3, 0, 0.88 * 5 / 3, 0, 0.88 * 5 / 3] + [0] + [0.88] * 2
    np.testing.assert_allclose(scale, want, rtol=1e-6)
    np.testing.assert_allclose(
        scale, reference.token_dropout_scale(tokens, cu_seqlens, mask, 0.12), rtol=1e-6
    )


def test_token_dropout_is_of_the_sequence_alone(rng):
    tokens = rng.integers(0, 4, size=100).astype(np.int32)
    cu_seqlens = np.array([0, 1, 30, 64, 100], np.int32)
    scale = ops.token_dropout_scale(tokens, cu_seqlens, 3, 0.12)
    for begin, end in pairwise(cu_seqlens):
        alone = ops.token_dropout_scale(
            tokens[begin:end], np.array([0, end - begin], np.int32), 3, 0.12
        )
        assert_same_bits(scale[begin:end], alone)


def test_refusals(rng):
    tokens, table, _, positions, position = data(rng, 4, 3)
    tokens[2] = VOCABULARY
    with pytest.raises(ValueError, match=r"embedding_fwd: token 2 is 11, allowed: 0 to 10"):
        ops.embedding_fwd(tokens, table)
    with pytest.raises(ValueError, match=r"embedding_bwd: token 2 is 11, allowed: 0 to 10"):
        ops.embedding_bwd(tokens, np.zeros((4, 3), np.float32), table)
    tokens[2] = -1
    with pytest.raises(ValueError, match="token 2 is -1"):
        ops.embedding_fwd(tokens, table)
    tokens[2], position[1] = 0, PLACES - 1
    with pytest.raises(ValueError, match=r"position 39 of token 1 is row 41 .* rows 0 to 39"):
        ops.embedding_fwd(tokens, table, None, positions, position, OFFSET)
    with pytest.raises(ValueError, match=r"mask_ratio_train is 1, allowed: \[0, 1\)"):
        ops.token_dropout_scale(tokens, np.array([0, 4], np.int32), 0, 1.0)
