"""Attention's kernels for bf16 instructions, and its coarse exponentials."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from attention_runs import (
    BF16_ISAS,
    DTYPES,
    ISAS,
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
from comparison import representable
from reference import attention as reference

needs_amx = pytest.mark.skipif("amx" not in ISAS, reason="needs a processor with AMX")


@pytest.fixture
def amx():
    engine.set_isa("amx")


@pytest.fixture(params=BF16_ISAS)
def bf16_isa(request):
    if request.param not in ISAS:
        pytest.skip(f"this processor has no {request.param}")
    engine.set_isa(request.param)


@pytest.mark.parametrize("head_dim", [8, 24, 32])
def test_bf16_at_every_small_length(bf16_isa, head_dim, rng):
    cu, scale = offsets(range(1, 71)), head_dim**-0.5
    data = inputs(rng, cu[-1], 2 * head_dim, "bf16")
    close(run(*data, cu, 2, scale, dtype="bf16"), expect(*data, cu, 2, scale), "bf16")


@pytest.mark.parametrize("lengths", [[1100], [513, 1, 640]])
def test_bf16_on_many_blocks(bf16_isa, lengths, rng):
    cu, heads = offsets(lengths), 1
    data = inputs(rng, cu[-1], heads * 32, "bf16")
    close(run(*data, cu, heads, 0.2, dtype="bf16"), expect(*data, cu, heads, 0.2), "bf16")


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_bf16_large_scores(bf16_isa, size, rng):
    cu, scale = offsets([1, 70, 300]), 0.25
    q, k, v, dout = inputs(rng, cu[-1], 32, "bf16")
    q = representable(q * size, "bf16")
    results = run(q, k, v, dout, cu, 2, scale, dtype="bf16")
    assert all(np.isfinite(r).all() for r in results)
    o, lse = reference.forward(q, k, v, cu, 2, scale)
    np.testing.assert_allclose(results[1], lse, rtol=1e-6, atol=2e-4)
    np.testing.assert_allclose(results[0], o, rtol=8e-3, atol=2e-2 + size * 1e-6)


@pytest.mark.parametrize("first", [-1.0, 1.0])
@pytest.mark.parametrize("size", [20, 100, 1000])
def test_bf16_first_key_unlike_the_others(bf16_isa, first, size, rng):
    # Exponentials are taken relative to the first key's score, unless that overflows.
    cu, scale = offsets([200, 33]), 1.0
    q, k, v, dout = inputs(rng, cu[-1], 16, "bf16")
    q[:, 0], k[:, 0] = 1, 0
    k[cu[:-1], 0] = first * size
    o, lse, *gradients = run(q, k, v, dout, cu, 1, scale, dtype="bf16")
    wanted = expect(q, k, v, dout, cu, 1, scale)
    np.testing.assert_allclose(o, wanted[0], rtol=8e-3, atol=2e-2)
    np.testing.assert_allclose(lse, wanted[1], rtol=1e-6, atol=2e-4)
    for g, w in zip(gradients, wanted[2:], strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-2, atol=1e-2 * np.abs(w).max())


def test_bf16_negative_scale(bf16_isa, rng):
    cu, scale = offsets([70]), -8.0
    data = inputs(rng, cu[-1], 32, "bf16")
    o, lse = ops.attention_fwd(*data[:3], cu, 2, scale, dtype="bf16")
    wanted = reference.forward(*data[:3], cu, 2, scale)
    np.testing.assert_allclose(o, wanted[0], rtol=8e-3, atol=2e-2)
    np.testing.assert_allclose(lse, wanted[1], rtol=1e-6, atol=2e-4)


def test_bf16_values_that_overflow_only_unnormalised(bf16_isa, rng):
    cu = offsets([100])
    q, k, v, _ = inputs(rng, 100, 16, "bf16")
    q[:, 0], k[:, 0], k[0, 0] = 1, 0, -40  # sums of 2^58 times values of 2^110
    v = representable(np.ldexp(v, 110), "bf16")
    o, _ = ops.attention_fwd(q, k, v, cu, 1, 1.0, dtype="bf16")
    wanted, _ = reference.forward(q, k, v, cu, 1, 1.0)
    np.testing.assert_allclose(o, wanted, rtol=8e-3, atol=2e-2 * 2.0**110)


def test_bf16_scores_far_below_zero(bf16_isa, rng):
    cu = offsets([1, 7, 33, 65])
    q, k, v, dout = inputs(rng, cu[-1], 32, "bf16")
    q, k = representable(q + 30, "bf16"), representable(k * 0.01 - 16, "bf16")
    o, lse, dq, dk, dv = run(q, k, v, dout, cu, 2, 0.25, dtype="bf16")
    wanted = expect(q, k, v, dout, cu, 2, 0.25)
    for a, w in zip([o, lse, dv], [wanted[0], wanted[1], wanted[4]], strict=True):
        np.testing.assert_allclose(a, w, rtol=2e-2, atol=1e-2 * np.abs(w).max())
    # Rounded to bf16 these keys are all but equal, and the gradients cancel.
    assert np.isfinite([dq, dk]).all()


def test_bf16_one_token_attends_to_itself(bf16_isa, rng):
    q, k, v, dout = inputs(rng, 3, 48, "bf16")
    o, _, dq, dk, dv = run(q, k, v, dout, offsets([1, 1, 1]), 2, 0.3, dtype="bf16")
    np.testing.assert_array_equal(o, v)
    np.testing.assert_allclose(dv, dout, rtol=8e-3)
    np.testing.assert_allclose([dq, dk], 0, atol=2e-2)


def test_bf16_nan_stays_in_its_sequence_and_head(bf16_isa, rng):
    assert_nan_stays_in_its_sequence_and_head(rng, "bf16")


def test_bf16_dropout_drops_what_philox_says(bf16_isa):
    cu, heads, p, seed, stream = offsets([7, 33, 0, 64, 200]), 2, 0.3, 2**40 + 17, 5 << 40
    zeros = np.zeros((cu[-1], heads * 256), np.float32)
    v = np.zeros_like(zeros)  # identity: o is the dropped probabilities, dv of the identity too
    for start, stop in pairwise(cu):
        for h in range(heads):
            v[np.arange(start, stop), h * 256 + np.arange(stop - start)] = 1
    options = {"dropout": p, "seed": seed, "stream": stream, "dtype": "bf16"}
    o, _, _, _, dv = run(zeros, zeros, v, v, cu, heads, 1.0, **options)
    mask = reference.dropout_mask(cu, heads, p, seed, stream)
    for b, (start, stop) in enumerate(pairwise(cu)):
        for h in range(heads):
            block = slice(start, stop), slice(h * 256, h * 256 + stop - start)
            np.testing.assert_array_equal(o[block] != 0, mask[b][h] != 0)
            np.testing.assert_array_equal(dv[block] != 0, mask[b][h].T != 0)
            np.testing.assert_allclose(o[block], mask[b][h] / (stop - start), rtol=8e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("lengths", [[1100], [700, 40, 1, 300]])
def test_bf16_bits_do_not_depend_on_threads(bf16_isa, lengths, dropout, rng):
    cu = offsets(lengths)
    data = inputs(rng, cu[-1], 48, "bf16")
    options = {"dropout": dropout, "seed": 3, "stream": 4, "dtype": "bf16"}
    results = []
    for threads in (1, 2, 3, 8):
        engine.set_num_threads(threads)
        results.append(run(*data, cu, 1, 0.2, **options))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def coarse(q, k, v, cu, heads, scale):
    return ops.attention_fwd(q, k, v, cu, heads, scale, dtype="bf16", coarse=True)[0]


def root_mean_square(x):
    return np.sqrt(np.mean(np.square(x)))


@needs_amx
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("head_dim", [8, 16, 24, 32, 64, 128])
def test_coarse_exponentials_cost_little_more_than_rounding(amx, head_dim, scale, rng):
    cu = offsets(RAGGED)
    q, k, v, _ = inputs(rng, cu[-1], 2 * head_dim, "bf16")
    fine, _ = ops.attention_fwd(q, k, v, cu, 2, scale, dtype="bf16")
    wanted, _ = reference.forward(q, k, v, cu, 2, scale)
    o = coarse(q, k, v, cu, 2, scale)
    assert (o != fine).any()
    assert root_mean_square(o - wanted) < 1.3 * root_mean_square(fine - wanted)


@needs_amx
@pytest.mark.parametrize("head_dim", [8, 24, 32])
def test_coarse_at_every_small_length(amx, head_dim, rng):
    cu, scale = offsets(range(1, 131)), head_dim**-0.5
    q, k, v, _ = inputs(rng, cu[-1], 2 * head_dim, "bf16")
    wanted, _ = reference.forward(q, k, v, cu, 2, scale)
    np.testing.assert_allclose(coarse(q, k, v, cu, 2, scale), wanted, rtol=8e-3, atol=2e-2)


@needs_amx
@pytest.mark.parametrize("first", [-1.0, 1.0])
@pytest.mark.parametrize("size", [20, 100, 1000, 1e5])
def test_coarse_scores_of_any_size(amx, first, size, rng):
    cu = offsets([200, 33])
    q, k, v, _ = inputs(rng, cu[-1], 16, "bf16")
    q[:, 0], k[:, 0] = 1, 0
    k[cu[:-1], 0] = representable(np.float32(first * size), "bf16")
    wanted, _ = reference.forward(q, k, v, cu, 1, 1.0)
    np.testing.assert_allclose(coarse(q, k, v, cu, 1, 1.0), wanted, rtol=8e-3, atol=3e-2)


@needs_amx
def test_coarse_scores_far_below_zero(amx, rng):
    cu = offsets([1, 7, 33, 65])
    q, k, v, _ = inputs(rng, cu[-1], 32, "bf16")
    q, k = representable(q + 30, "bf16"), representable(k * 0.01 - 16, "bf16")
    wanted, _ = reference.forward(q, k, v, cu, 2, 0.25)
    np.testing.assert_allclose(coarse(q, k, v, cu, 2, 0.25), wanted, rtol=2e-2, atol=3e-2)


@needs_amx
@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_coarse_hides_nothing_that_is_not_finite(amx, what, where, rng):
    data = inputs(rng, 60, 32, "bf16")[:3]
    data[where][25, 3] = what  # second sequence, head 0
    o = coarse(*data, offsets([20, 30, 10]), 2, 0.25)
    rows = slice(25, 26) if where == 0 else slice(20, 50)
    assert not np.isfinite(o[rows, 3]).any()
    assert np.isfinite(np.delete(o, slice(20, 50), axis=0)).all()
    assert np.isfinite(o[:, 16:]).all()


@needs_amx
def test_coarse_bits_do_not_depend_on_threads_or_batch(amx, rng):
    cu = offsets([700, 40, 1, 300])
    q, k, v, _ = inputs(rng, cu[-1], 48, "bf16")
    engine.set_num_threads(1)
    one = coarse(q, k, v, cu, 2, 0.2)
    for start, stop in pairwise(cu):
        alone = coarse(q[start:stop], k[start:stop], v[start:stop], offsets([stop - start]), 2, 0.2)
        np.testing.assert_array_equal(alone, one[start:stop])
    for threads in (2, 3, 8):
        engine.set_num_threads(threads)
        np.testing.assert_array_equal(coarse(q, k, v, cu, 2, 0.2), one)


@pytest.mark.parametrize("dtype", DTYPES)
def test_coarse_is_fine_without_tiles(dtype, rng):
    engine.set_isa("portable")
    cu = offsets([33, 5])
    q, k, v, _ = inputs(rng, cu[-1], 32, dtype)
    o, lse = ops.attention_fwd(q, k, v, cu, 2, 0.25, dtype=dtype, coarse=True)
    np.testing.assert_array_equal(o, ops.attention_fwd(q, k, v, cu, 2, 0.25, dtype=dtype)[0])
    assert lse.shape == (0, 38)


def test_coarse_is_for_inference(rng):
    q, k, v, _ = inputs(rng, 4, 16)
    with pytest.raises(ValueError, match="coarse exponentials are for inference"):
        ops.attention_fwd(q, k, v, offsets([4]), 1, 1.0, dropout=0.1, coarse=True)
