"""Attention against its float64 reference, and that against finite differences."""

from __future__ import annotations

import functools
import resource
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from attention_runs import (
    BF16_ISAS,
    DTYPES,
    ISAS,
    NAMES,
    RAGGED,
    assert_nan_stays_in_its_sequence_and_head,
    close,
    expect,
    inputs,
    offsets,
    ops,
    run,
)

import moltide._engine as engine
from comparison import assert_within
from reference import attention as reference
from reference.finite_differences import gradient

HEAD_DIMS = [4, 8, 12, 16, 20, 24, 32, 36, 64, 100, 128, 256]


@pytest.fixture(params=ISAS)
def kernel_isa(request):
    """Each instruction set that attention has code for."""
    engine.set_isa(request.param)
    return request.param


def test_reference_gradient_is_the_finite_difference(rng):
    cu, heads, scale = offsets([3, 0, 1, 4]), 2, 0.6
    keep = reference.dropout_mask(cu, heads, 0.3, seed=5, stream=9)
    q, k, v, dout = (rng.standard_normal((8, 8)) for _ in NAMES)
    for mask in (None, keep):
        analytic = reference.backward(dout, q, k, v, cu, heads, scale, mask)
        for i, d in enumerate(analytic):

            def value(x, i=i, mask=mask):
                args = [q, k, v]
                args[i] = x
                return float((reference.forward(*args, cu, heads, scale, mask)[0] * dout).sum())

            np.testing.assert_allclose(d, gradient(value, (q, k, v)[i]), rtol=1e-6, atol=1e-8)


@functools.cache
def ragged(head_dim, dtype):
    """Inputs over RAGGED with two heads, what float64 and what this precision makes of them."""
    cu, scale = offsets(RAGGED), head_dim**-0.5
    data = inputs(np.random.default_rng(head_dim), cu[-1], 2 * head_dim, dtype)
    round_to = None if dtype == "float32" else ml_dtypes.bfloat16
    peer = expect(*data, cu, 2, scale, dtype=np.float32, round_to=round_to)
    return (*data, cu, 2, scale), expect(*data, cu, 2, scale), peer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_matches_reference(kernel_isa, head_dim, dtype):
    arguments, exact, _ = ragged(head_dim, dtype)
    close(run(*arguments, dtype=dtype), exact, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 16, 24, 32, 64, 128])
def test_error_is_at_most_twice_that_of_numpy_in_the_same_precision(kernel_isa, head_dim, dtype):
    arguments, exact, peer = ragged(head_dim, dtype)
    ours = run(*arguments, dtype=dtype)
    for name, a, p, w in zip(["o", "lse", "dq", "dk", "dv"], ours, peer, exact, strict=True):
        error, allowed = np.sqrt(np.mean((a - w) ** 2)), np.sqrt(np.mean((p - w) ** 2))
        one_rounding = 2.0**-24 * np.sqrt(np.mean(w**2))
        if name == "lse" and kernel_isa in BF16_ISAS and dtype == "bf16":
            # Its exponentials are good to 8e-5, a fraction of bf16's rounding.
            one_rounding = 8e-5
        assert error <= 2 * allowed + one_rounding, name


@pytest.mark.parametrize("lengths", [[1100], [513, 1, 640]])
def test_sequences_longer_than_a_chunk_of_keys(lengths, rng):
    cu, heads, head_dim = offsets(lengths), 2, 64
    data = inputs(rng, cu[-1], heads * head_dim)
    close(run(*data, cu, heads, 0.125), expect(*data, cu, heads, 0.125), "float32")


def test_no_tokens_and_no_sequences(vector_isa):
    empty = np.zeros((0, 32), np.float32)
    for cu in (np.zeros(1, np.int32), np.zeros(4, np.int32)):
        for result in run(empty, empty, empty, empty, cu, 2, 0.25):
            assert result.size == 0


def test_one_token_attends_to_itself(vector_isa, rng):
    q, k, v, dout = inputs(rng, 3, 48)
    o, lse, dq, dk, dv = run(q, k, v, dout, offsets([1, 1, 1]), 2, 0.3)
    np.testing.assert_array_equal(o, v)
    # p = 1 up to the rounding of lse, which leaves no gradient of the score.
    np.testing.assert_allclose(dv, dout, rtol=2e-6)
    np.testing.assert_allclose([dq, dk], 0, atol=1e-5)
    scores = (q * k).reshape(3, 2, 24).sum(2).T * 0.3
    np.testing.assert_allclose(lse, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_large_scores_do_not_overflow(vector_isa, size, rng):
    cu, heads, scale = offsets([1, 70, 130]), 2, 0.25
    q, k, v, dout = inputs(rng, cu[-1], 32)
    q, k = q * np.float32(size), np.float32(1.0) * k
    results = run(q, k, v, dout, cu, heads, scale)
    assert all(np.isfinite(r).all() for r in results)
    o, lse = reference.forward(q, k, v, cu, heads, scale)
    # A score of magnitude s is known to about s * 2^-24 * sqrt(D), and so is a log probability.
    np.testing.assert_allclose(results[1], lse, rtol=1e-6)
    assert np.median(np.abs(results[0] - o)) < size * 1e-6


def test_scores_far_below_zero_do_not_vanish(vector_isa, rng):
    # Every score is about -2,000: padding a tile with zeros would win over all of them.
    cu, heads = offsets([1, 7, 33, 65]), 2
    q, k, v, dout = inputs(rng, cu[-1], 32)
    q, k = q + np.float32(30), k * np.float32(0.01) - np.float32(16)
    results = run(q, k, v, dout, cu, heads, 0.25)
    wanted = expect(q, k, v, dout, cu, heads, 0.25)
    for a, w in zip(results, wanted, strict=True):
        np.testing.assert_allclose(a, w, rtol=2e-3, atol=2e-3 * np.abs(w).max())


@pytest.mark.parametrize("first", [-1.0, 1.0])
@pytest.mark.parametrize("size", [20, 100, 1000])
def test_first_key_unlike_the_others(vector_isa, first, size, rng):
    # Exponentials are taken relative to the first key's score, unless the norms forbid it.
    cu = offsets([200, 33])
    q, k, v, _ = inputs(rng, cu[-1], 16)
    q[:, 0], k[:, 0] = 1, 0
    k[cu[:-1], 0] = first * size
    o, lse = ops.attention_fwd(q, k, v, cu, 1, 1.0)
    wanted = reference.forward(q, k, v, cu, 1, 1.0)
    np.testing.assert_allclose(o, wanted[0], rtol=1e-5, atol=1e-5 + 1e-7 * size)
    np.testing.assert_allclose(lse, wanted[1], rtol=1e-6, atol=1e-5)


def test_values_that_overflow_only_unnormalised(vector_isa, rng):
    q, k, v, _ = inputs(rng, 100, 16)
    q[:, 0], k[:, 0], k[0, 0] = 1, 0, -40  # sums of 2^58 times values of 2^110
    v = np.ldexp(v, 110).astype(np.float32)
    cu = offsets([100])
    o, _ = ops.attention_fwd(q, k, v, cu, 1, 1.0)
    wanted, _ = reference.forward(q, k, v, cu, 1, 1.0)
    np.testing.assert_allclose(o, wanted, rtol=1e-5, atol=1e-5 * 2.0**110)


def test_negative_scale(vector_isa, rng):
    cu = offsets([20, 40])
    data = inputs(rng, 60, 32)
    close(run(*data, cu, 2, -0.25), expect(*data, cu, 2, -0.25), "float32")


def test_nan_stays_in_its_sequence_and_is_not_hidden(vector_isa, rng):
    assert_nan_stays_in_its_sequence_and_head(rng, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [16, 24])
def test_bits_do_not_depend_on_the_batch(kernel_isa, head_dim, dtype, rng):
    heads, scale, lengths = 2, 0.3, [33, 1, 150, 0, 64, 100, 7]
    cu = offsets(lengths)
    data = inputs(rng, cu[-1], heads * head_dim, dtype)
    batched = run(*data, cu, heads, scale, dtype=dtype)
    order = rng.permutation(len(lengths))
    rows = np.concatenate([np.arange(cu[b], cu[b + 1]) for b in order])
    shuffled = run(
        *(x[rows] for x in data), offsets(np.take(lengths, order)), heads, scale, dtype=dtype
    )
    for a, b in zip(batched, shuffled, strict=True):
        np.testing.assert_array_equal(a[:, rows] if a.shape[0] == heads else a[rows], b)
    for b, length in enumerate(lengths):
        part = slice(cu[b], cu[b + 1])
        alone = run(*(x[part] for x in data), offsets([length]), heads, scale, dtype=dtype)
        for a, x in zip(batched, alone, strict=True):
            np.testing.assert_array_equal(a[:, part] if a.shape[0] == heads else a[part], x)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("lengths", [[1100], [700, 40, 1, 300]])
def test_bits_do_not_depend_on_threads(lengths, dropout, rng):
    # With several threads the one long head is cut into tasks over keys and over queries.
    cu, heads = offsets(lengths), 1
    data = inputs(rng, cu[-1], 64)
    options = {"dropout": dropout, "seed": 3, "stream": 4}
    results = []
    for threads in (1, 2, 3, 8):
        engine.set_num_threads(threads)
        results.append(run(*data, cu, heads, 0.2, **options))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_row_stride(kernel_isa, dtype, rng):
    cu = offsets([40, 3])
    data = inputs(rng, 43, 48, dtype)
    plain = run(*data, cu, 2, 0.2, dtype=dtype)
    for padding in (96, 5):
        for a, b in zip(plain, run(*data, cu, 2, 0.2, dtype=dtype, padding=padding), strict=True):
            np.testing.assert_array_equal(a, b)


def test_dropout_drops_what_philox_says(vector_isa):
    cu, heads, p, seed, stream = offsets([7, 33, 0, 64]), 2, 0.3, 2**40 + 17, 5 << 40
    tokens = cu[-1]
    zeros = np.zeros((tokens, heads * 64), np.float32)
    v = np.zeros_like(zeros)  # identity: o is the dropped probabilities themselves
    for start, stop in pairwise(cu):
        for h in range(heads):
            v[np.arange(start, stop), h * 64 + np.arange(stop - start)] = 1
    o, _ = ops.attention_fwd(zeros, zeros, v, cu, heads, 1.0, p, seed, stream)
    mask = reference.dropout_mask(cu, heads, p, seed, stream)
    for b, (start, stop) in enumerate(pairwise(cu)):
        for h in range(heads):
            got = o[start:stop, h * 64 : h * 64 + stop - start]
            np.testing.assert_array_equal(got != 0, mask[b][h] != 0)
            np.testing.assert_allclose(got, mask[b][h] / (stop - start), rtol=1e-6)


def test_dropout_keeps_one_minus_p():
    length, p = 256, 0.15
    zeros = np.zeros((length, 256), np.float32)
    o, _ = ops.attention_fwd(
        zeros, zeros, np.eye(length, dtype=np.float32), offsets([length]), 1, 1.0, p, 1, 2
    )
    kept = o != 0
    deviation = np.sqrt(p * (1 - p) / kept.size)
    assert abs(kept.mean() - (1 - p)) < 5 * deviation
    # Neither queries nor keys share draws.
    for axis in (0, 1):
        assert np.abs(kept.mean(axis) - (1 - p)).max() < 5 * np.sqrt(p * (1 - p) / length)
        assert len(np.unique(kept, axis=axis)) == length


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [16, 24, 64])
def test_dropout_matches_reference(kernel_isa, head_dim, dtype, rng):
    cu, heads, scale = offsets([1, 50, 131]), 2, head_dim**-0.5
    data = inputs(rng, cu[-1], heads * head_dim, dtype)
    keep = reference.dropout_mask(cu, heads, 0.25, 11, 3)
    options = {"dropout": 0.25, "seed": 11, "stream": 3, "dtype": dtype}
    close(
        run(*data, cu, heads, scale, **options), expect(*data, cu, heads, scale, keep=keep), dtype
    )


def test_no_dropout_draws_nothing(rng):
    cu = offsets([30])
    data = inputs(rng, 30, 32)
    for a, b in zip(
        run(*data, cu, 2, 0.2, seed=1), run(*data, cu, 2, 0.2, seed=2, stream=8), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("length", [2000, 30000])
def test_long_sequences_in_linear_memory(length, rng):
    """Some rows and keys against float64; (L, L) floats would be 3.6 GB at 30,000."""
    heads, scale = 1, 0.35
    q, k, v, dout = inputs(rng, length, 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    o, lse, dq, dk, dv = run(q, k, v, dout, offsets([length]), heads, scale)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"peak memory grew by {grown} KiB"

    some = np.array([0, 1, length // 2, length - 65, length - 1])
    full = [x.astype(np.float64) for x in (q, k, v, dout)]
    fq, fk, fv, fd = full
    s = fq[some] @ fk.T * scale
    top = s.max(1, keepdims=True)
    total = np.exp(s - top).sum(1, keepdims=True)
    p = np.exp(s - top) / total
    dp = fd[some] @ fv.T
    ds = p * (dp - (p * dp).sum(1, keepdims=True))
    columns = np.exp(fq @ fk[some].T * scale - lse[0][:, None].astype(np.float64))
    dscolumns = columns * (fd @ fv[some].T - (fd * o).sum(1, keepdims=True))
    pairs = [
        (o[some], p @ fv),
        (lse[0, some], (top + np.log(total))[:, 0]),
        (dq[some], ds @ fk * scale),
        (dk[some], dscolumns.T @ fq * scale),
        (dv[some], columns.T @ fd),
    ]
    for got, wanted in pairs:
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 20, 64])
@pytest.mark.parametrize("length", [1, 2, 63, 130])
def test_probabilities(vector_isa, head_dim, length, dtype, rng):
    heads, scale = 3, head_dim**-0.5
    q, k, v, _ = inputs(rng, length, heads * head_dim, dtype)
    probs = ops.attention_probs(q, k, heads, scale, dtype=dtype, padding=4)
    wanted = reference.probabilities(q, k, heads, scale)
    assert_within(probs, wanted, "attention_probs", dtype)
    np.testing.assert_allclose(probs.sum(2), 1, rtol=1e-6)
    o, _ = ops.attention_fwd(q, k, v, offsets([length]), heads, scale)
    split = v.reshape(length, heads, head_dim).transpose(1, 0, 2)
    again = (probs @ split).transpose(1, 0, 2).reshape(length, -1)
    np.testing.assert_allclose(again, o, rtol=1e-4, atol=1e-5)


def test_probabilities_of_nothing():
    empty = np.zeros((0, 32), np.float32)
    assert ops.attention_probs(empty, empty, 2, 0.25).shape == (2, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "head dimension 6, allowed multiples of 4 from 4 to 256"),
        ({"heads": 5}, "24 columns are not a multiple of 5 heads"),
        ({"dropout": 1.0}, "got dropout 1, allowed 0 <= p < 1"),
        ({"dropout": -0.1}, "got dropout -0.1"),
        ({"scale": np.inf}, "got scale inf"),
        ({"cu_seqlens": np.array([0, 4], np.int32)}, "runs from 0 to 4, expected 0 to 6"),
        ({"cu_seqlens": np.array([0, 5, 3, 6], np.int32)}, "sequence 1 has length -2"),
        ({"cu_seqlens": np.array([0], np.int32)}, "no sequences but 6 tokens"),
        ({"k": np.zeros((5, 24), np.float32)}, r"k is \(5, 24\), expected \(6, 24\)"),
        ({"dtype": "float16"}, "dtype: got 'float16', allowed: float32, bf16"),
    ],
)
def test_refuses_with_the_values(change, message):
    x = np.zeros((6, 24), np.float32)
    arguments = {"q": x, "k": x, "v": x, "cu_seqlens": offsets([6]), "heads": 3, "scale": 1.0}
    with pytest.raises(ValueError, match=message):
        ops.attention_fwd(**(arguments | change))


def test_refuses_a_head_too_wide():
    x = np.zeros((2, 260), np.float32)
    with pytest.raises(ValueError, match="head dimension 260"):
        ops.attention_probs(x, x, 1, 1.0)
