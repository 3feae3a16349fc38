"""Attention with a pair bias against its float64 reference, and that against finite differences."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest
from attention_runs import DTYPES, NAMES, RAGGED, inputs, offsets

import moltide._engine as engine
from comparison import assert_same_bits, assert_within
from reference import attention_pair_bias as reference
from reference.attention import dropout_mask
from reference.finite_differences import gradient

ops = engine.ops
HEAD_DIMS = [4, 8, 12, 16, 20, 64, 256]
RESULTS = ["o", "scores", "dq", "dk", "dv", "dbias"]


def pair_inputs(rng, cu, heads, size=1.0):
    """A bias and a gradient of the scores, as the op takes them."""
    planes = heads * reference.pair_starts(cu)[-1]
    return (size * rng.standard_normal((2, planes))).astype(np.float32)


def run(q, k, v, dout, bias, dscores, cu, heads, scale, **options):
    starts = reference.pair_starts(cu)
    o, scores, statistics = ops.attention_pair_bias_fwd(
        q, k, v, bias, cu, starts, heads, scale, **options
    )
    backward = ops.attention_pair_bias_bwd(
        dout, q, k, v, scores, statistics, dscores, cu, starts, heads, scale, **options
    )
    return o, scores, *backward


def expect(q, k, v, dout, bias, dscores, cu, heads, scale, **options):
    matrices = reference.unplanes(bias, cu, heads)
    above = None if dscores is None else reference.unplanes(dscores, cu, heads)
    o, scores = reference.forward(q, k, v, matrices, cu, heads, scale, **options)
    dq, dk, dv, dbias = reference.backward(
        dout, above, q, k, v, matrices, cu, heads, scale, **options
    )
    return o, reference.planes(scores), dq, dk, dv, reference.planes(dbias)


def close(actual, wanted, dtype):
    for name, a, w in zip(RESULTS, actual, wanted, strict=True):
        kind = "float32" if name in ("scores", "dbias") else dtype
        assert_within(a, w, "attention_pair_bias", kind)


def test_reference_gradient_is_the_finite_difference(rng):
    cu, heads, scale = offsets([3, 0, 1, 4]), 2, 0.6
    keep = dropout_mask(cu, heads, 0.3, seed=5, stream=9)
    q, k, v, dout = (rng.standard_normal((8, 8)) for _ in NAMES)
    bias, above = ([rng.standard_normal((heads, n, n)) for n in np.diff(cu)] for _ in range(2))
    flat = reference.planes(bias)
    for mask in (None, keep):

        def loss(q, k, v, flat, mask=mask):
            matrices = reference.unplanes(flat, cu, heads)
            o, scores = reference.forward(q, k, v, matrices, cu, heads, scale, mask)
            pairs = sum((a * s).sum() for a, s in zip(above, scores, strict=True))
            return float((o * dout).sum() + pairs)

        dq, dk, dv, dbias = reference.backward(dout, above, q, k, v, bias, cu, heads, scale, mask)
        arguments = [q, k, v, flat]
        for i, analytic in enumerate((dq, dk, dv, reference.planes(dbias))):

            def value(x, i=i, loss=loss, arguments=arguments):
                return loss(*(x if j == i else a for j, a in enumerate(arguments)))

            np.testing.assert_allclose(
                analytic, gradient(value, arguments[i]), rtol=1e-6, atol=1e-8
            )


def test_two_layers_gradient_is_the_finite_difference(vector_isa, rng):
    """Scores of one layer as the bias of the next: the kernels' own chain, in float32."""
    cu, heads, scale = offsets([5, 1, 9]), 2, 0.5
    starts = reference.pair_starts(cu)
    first, second = (inputs(rng, 15, 16) for _ in range(2))
    bias, above = pair_inputs(rng, cu, heads)

    def loss(flat):
        matrices = reference.unplanes(flat, cu, heads)
        total = 0.0
        for q, k, v, dout in (first, second):
            o, matrices = reference.forward(q, k, v, matrices, cu, heads, scale)
            total += float((o * dout).sum())
        return total + float((reference.planes(matrices) * above).sum())

    kept, planes = [], bias
    for q, k, v, _ in (first, second):
        _, planes, statistics = ops.attention_pair_bias_fwd(
            q, k, v, planes, cu, starts, heads, scale
        )
        kept.append((planes, statistics))
    dscores = above
    for (q, k, v, dout), (scores, statistics) in zip((second, first), kept[::-1], strict=True):
        *_, dscores = ops.attention_pair_bias_bwd(
            dout, q, k, v, scores, statistics, dscores, cu, starts, heads, scale
        )
    np.testing.assert_allclose(dscores, gradient(loss, bias, 1e-4), rtol=1e-4, atol=1e-5)


@functools.cache
def ragged(head_dim, dtype):
    """Inputs over RAGGED with two heads, what float64 and what float32 make of them."""
    cu, scale = offsets(RAGGED), head_dim**-0.5
    rng = np.random.default_rng(head_dim)
    data = inputs(rng, cu[-1], 2 * head_dim, dtype)
    arguments = (*data, *pair_inputs(rng, cu, 2), cu, 2, scale)
    return arguments, expect(*arguments), expect(*arguments, dtype=np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_matches_reference(vector_isa, head_dim, dtype):
    arguments, exact, _ = ragged(head_dim, dtype)
    close(run(*arguments, dtype=dtype, pad=4), exact, dtype)


@pytest.mark.parametrize("head_dim", [8, 64])
def test_error_is_at_most_twice_that_of_numpy_in_float32(vector_isa, head_dim):
    arguments, exact, peer = ragged(head_dim, "float32")
    for name, a, p, w in zip(RESULTS, run(*arguments), peer, exact, strict=True):
        error, allowed = np.sqrt(np.mean((a - w) ** 2)), np.sqrt(np.mean((p - w) ** 2))
        assert error <= 2 * allowed + 2.0**-24 * np.sqrt(np.mean(w**2)), name


def test_narrow_types_add_one_rounding(isa, rng):
    """bf16 is how arguments and results are stored; between them all is float32."""
    cu, heads, scale = offsets([33, 5]), 4, 0.35
    data = (*inputs(rng, 38, 32, "bf16"), *pair_inputs(rng, cu, heads), cu, heads, scale)
    single, half = run(*data), run(*data, dtype="bf16")
    for name, a, b in zip(RESULTS, single, half, strict=True):
        rounded = a if name in ("scores", "dbias") else a.astype(ml_dtypes.bfloat16)
        assert_same_bits(rounded.astype(np.float32), b)


def test_plain_attention_where_the_bias_is_zero(vector_isa, rng):
    cu, heads, scale = offsets([40, 1, 9]), 3, 0.25
    q, k, v, dout = inputs(rng, 50, 48)
    zeros = np.zeros(heads * reference.pair_starts(cu)[-1], np.float32)
    ours = run(q, k, v, dout, zeros, None, cu, heads, scale)
    o, lse = ops.attention_fwd(q, k, v, cu, heads, scale)
    plain = o, *ops.attention_bwd(dout, q, k, v, o, lse, cu, heads, scale)
    for a, w in zip((ours[0], *ours[2:5]), plain, strict=True):
        np.testing.assert_allclose(a, w, rtol=1e-5, atol=4e-6)


def test_large_biases_and_minus_infinity(vector_isa, rng):
    """Scores pile up over layers: only differences within a row count. -inf forbids a key."""
    cu, heads, scale = offsets([20]), 1, 0.3
    q, k, v, dout = inputs(rng, 20, 8)
    bias, _ = pair_inputs(rng, cu, heads, 30.0)
    bias += 500
    matrix = bias.reshape(20, 20)  # [key][query]
    matrix[3, :] = -np.inf
    o, scores, dq, dk, dv, dbias = run(q, k, v, dout, bias, None, cu, heads, scale)
    with np.errstate(invalid="ignore"):
        wanted = expect(q, k, v, dout, bias, None, cu, heads, scale)
    np.testing.assert_allclose(o, wanted[0], rtol=1e-3, atol=1e-4)
    assert np.isfinite(np.concatenate([o, dq, dk, dv])).all()
    assert (dv[3] == 0).all()
    assert (scores.reshape(20, 20)[3] == -np.inf).all()
    assert (dbias.reshape(20, 20)[3] == 0).all()


def test_no_tokens_and_no_sequences(vector_isa):
    empty, nothing = np.zeros((0, 32), np.float32), np.zeros(0, np.float32)
    for cu in (np.zeros(1, np.int32), np.zeros(4, np.int32)):
        for result in run(empty, empty, empty, empty, nothing, nothing, cu, 2, 0.25):
            assert result.size == 0


def test_in_place(vector_isa, rng):
    cu, heads = offsets([7, 30]), 2
    q, k, v, _ = inputs(rng, 37, 16)
    bias, _ = pair_inputs(rng, cu, heads)
    arguments = q, k, v, bias, cu, reference.pair_starts(cu), heads, 0.3
    for a, b in zip(
        ops.attention_pair_bias_fwd(*arguments),
        ops.attention_pair_bias_fwd(*arguments, in_place=True),
        strict=True,
    ):
        assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 20])
def test_bits_do_not_depend_on_the_batch(vector_isa, head_dim, dtype, rng):
    heads, scale, lengths = 3, 0.3, [33, 1, 90, 0, 64, 7]
    cu = offsets(lengths)
    data = inputs(rng, cu[-1], heads * head_dim, dtype)
    pairs = pair_inputs(rng, cu, heads)
    starts = heads * reference.pair_starts(cu)
    batched = run(*data, *pairs, cu, heads, scale, dtype=dtype)
    for b, length in enumerate(lengths):
        rows, planes = slice(cu[b], cu[b + 1]), slice(starts[b], starts[b + 1])
        alone = run(
            *(x[rows] for x in data),
            *(x[planes] for x in pairs),
            offsets([length]),
            heads,
            scale,
            dtype=dtype,
        )
        for name, a, x in zip(RESULTS, batched, alone, strict=True):
            assert_same_bits(a[planes if name in ("scores", "dbias") else rows], x)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("lengths", [[300], [150, 40, 1, 20, 20, 20]])
def test_bits_do_not_depend_on_threads(lengths, dropout, rng):
    cu, heads = offsets(lengths), 8
    arguments = (*inputs(rng, cu[-1], 64), *pair_inputs(rng, cu, heads), cu, heads, 0.2)
    results = []
    for threads in (1, 2, 3, 8):
        engine.set_num_threads(threads)
        results.append(run(*arguments, dropout=dropout, seed=3, stream=4))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [8, 24])
def test_dropout_matches_reference(vector_isa, head_dim, dtype, rng):
    cu, heads, scale = offsets([1, 50, 75]), 2, head_dim**-0.5
    data = (
        *inputs(rng, cu[-1], heads * head_dim, dtype),
        *pair_inputs(rng, cu, heads),
        cu,
        heads,
        scale,
    )
    keep = dropout_mask(cu, heads, 0.25, 11, 3)
    close(run(*data, dropout=0.25, seed=11, stream=3, dtype=dtype), expect(*data, keep=keep), dtype)


@pytest.mark.parametrize("length", [1, 2, 63, 100])
def test_probabilities(vector_isa, length, rng):
    scores = (4 * rng.standard_normal((3, length, length))).astype(np.float32)
    probs = ops.attention_pair_bias_probs(scores)
    assert_within(probs, reference.probabilities(scores.transpose(0, 2, 1)), "attention_probs")
    assert ops.attention_pair_bias_probs(np.zeros((2, 0, 0), np.float32)).shape == (2, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "head dimension 6, allowed multiples of 4 from 4 to 256"),
        ({"heads": 5}, "24 columns are not a multiple of 5 heads"),
        ({"dropout": 1.0}, "got dropout 1, allowed 0 <= p < 1"),
        ({"scale": np.inf}, "got scale inf"),
        ({"cu_seqlens": np.array([0, 4], np.int32)}, "runs from 0 to 4, expected 0 to 6"),
        (
            {"pair_starts": np.array([0, 30]), "bias": np.zeros(90, np.float32)},
            "6 tokens and 30 pairs, expected 36",
        ),
        ({"pair_starts": np.array([0])}, "pair_starts: expected 2 elements, got 1"),
        ({"bias": np.zeros(7, np.float32)}, "bias: expected 108 elements, got 7"),
        ({"k": np.zeros((5, 24), np.float32)}, r"k is float32 \(5, 24\), expected \(6, 24\)"),
    ],
)
def test_refuses_with_the_values(change, message):
    x = np.zeros((6, 24), np.float32)
    arguments = {
        "q": x,
        "k": x,
        "v": x,
        "bias": np.zeros(108, np.float32),
        "cu_seqlens": offsets([6]),
        "pair_starts": np.array([0, 36]),
        "heads": 3,
        "scale": 1.0,
    }
    arguments |= change
    if change.get("heads") == 4:
        arguments["bias"] = np.zeros(144, np.float32)
    with pytest.raises(ValueError, match=message):
        ops.attention_pair_bias_fwd(**arguments)
