"""Linear attention against its float64 reference, and that against finite differences."""

from __future__ import annotations

import functools
import resource

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_same_bits, representable
from reference import linear_attention as reference
from reference.finite_differences import gradient
from tolerances import TOLERANCES

ops = engine.ops
DTYPES = ["float32", "bf16"]
RAGGED = [1, 0, 5, 200, 17, 64, 65, 3, 0, 129]
LONG = [257, 1, 600]  # more than the rows that are at hand at a time
NAMES = ["q", "k", "v", "dout"]
EPS = 1e-6


def offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def inputs(rng, tokens, width, dtype="float32"):
    return [representable(rng.standard_normal((tokens, width)), dtype) for _ in NAMES]


def features(rng, head_dim, count):
    return rng.standard_normal((head_dim, count)).astype(np.float32)


def run(q, k, v, dout, w, cu, heads, eps=EPS, **options):
    """o, dq, dk, dv."""
    o = ops.linear_attention_fwd(q, k, v, w, cu, heads, eps, **options)
    return o, *ops.linear_attention_bwd(dout, q, k, v, w, cu, heads, eps, **options)


def expect(q, k, v, dout, w, cu, heads, eps=EPS, **options):
    o = reference.forward(q, k, v, w, cu, heads, eps, **options)
    return o, *reference.backward(dout, q, k, v, w, cu, heads, eps, **options)


def close(actual, wanted, dtype):
    relative, absolute = TOLERANCES["linear_attention"][dtype]
    for name, a, w in zip(["o", "dq", "dk", "dv"], actual, wanted, strict=True):
        size = np.sqrt(np.mean(w**2)) if w.size else 1
        np.testing.assert_allclose(a, w, relative, absolute * size, err_msg=name)


def test_reference_gradient_is_the_finite_difference(rng):
    cu, heads = offsets([3, 0, 1, 4]), 2
    q, k, v, dout = (rng.standard_normal((8, 8)) for _ in NAMES)
    w = rng.standard_normal((4, 6))
    q[1, :4] = -w[:, 0] * np.sign(w.T @ w[:, 0] @ np.eye(6)[0])  # one feature of a query is 0
    # With eps 5 some normalisers are held up, which then get no gradient.
    for eps in (EPS, 5.0):
        held = 0
        analytic = reference.backward(dout, q, k, v, w, cu, heads, eps)
        for i, d in enumerate(analytic):

            def value(x, i=i, eps=eps):
                args = [q, k, v]
                args[i] = x
                return float((reference.forward(*args, w, cu, heads, eps) * dout).sum())

            np.testing.assert_allclose(d, gradient(value, (q, k, v)[i]), rtol=1e-6, atol=1e-8)
            held += np.count_nonzero(d == 0)
        assert held or eps == EPS


@pytest.mark.parametrize("eps", [EPS, 5.0])
def test_gradient_is_the_finite_difference_of_the_op(vector_isa, eps, rng):
    """What the op returns forward fits what it returns backward, one coordinate at a time."""
    cu, heads, step = offsets([5, 1, 9]), 2, 2e-3
    q, k, v, dout = inputs(rng, 15, 16)
    w = features(rng, 8, 12)
    analytic = ops.linear_attention_bwd(dout, q, k, v, w, cu, heads, eps)
    tried = 0
    for i, d in enumerate(analytic):
        x = (q, k, v)[i]
        for row, column in zip(rng.integers(0, 15, 12), rng.integers(0, 16, 12), strict=True):
            head = slice(0, 8) if column < 8 else slice(8, 16)
            if i < 2 and (np.abs(x[row, head] @ w) <= step * np.abs(w[column % 8])).any():
                continue  # a feature would change its sign on the way
            values = []
            for sign in (1, -1):
                moved = [q.copy(), k.copy(), v.copy()]
                moved[i][row, column] += np.float32(sign * step)
                o = ops.linear_attention_fwd(*moved, w, cu, heads, eps).astype(np.float64)
                values.append((o * dout).sum())
            slope = (values[0] - values[1]) / (2 * step)
            assert abs(slope - d[row, column]) <= 2e-3 * np.abs(d).max()
            tried += 1
    assert tried > 20


@functools.cache
def ragged(head_dim, count, dtype, lengths=tuple(RAGGED)):
    rng = np.random.default_rng(head_dim * 1000 + count)
    cu = offsets(lengths)
    data = (*inputs(rng, cu[-1], 2 * head_dim, dtype), features(rng, head_dim, count), cu, 2)
    return data, expect(*data), expect(*data, dtype=np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [32, 11])
@pytest.mark.parametrize("head_dim", [4, 8, 16, 20, 24, 32, 64, 128])
def test_matches_reference(vector_isa, head_dim, count, dtype):
    data, exact, _ = ragged(head_dim, count, dtype)
    close(run(*data, dtype=dtype), exact, dtype)


@pytest.mark.parametrize("count", [2, 16, 17, 48, 64, 100, 256])
def test_any_number_of_features(vector_isa, count):
    data, exact, _ = ragged(16, count, "float32")
    close(run(*data), exact, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "count"), [(64, 32), (24, 50), (256, 256)])
def test_sequences_longer_than_a_tile(vector_isa, head_dim, count, dtype):
    data, exact, _ = ragged(head_dim, count, dtype, tuple(LONG))
    close(run(*data, dtype=dtype), exact, dtype)


@pytest.mark.parametrize("head_dim", [8, 64, 128])
def test_error_is_at_most_twice_that_of_numpy_in_the_same_precision(vector_isa, head_dim):
    data, exact, peer = ragged(head_dim, 32, "float32")
    for name, a, p, w in zip(["o", "dq", "dk", "dv"], run(*data), peer, exact, strict=True):
        error, allowed = np.sqrt(np.mean((a - w) ** 2)), np.sqrt(np.mean((p - w) ** 2))
        assert error <= 2 * allowed + 2.0**-24 * np.sqrt(np.mean(w**2)), name


def test_no_tokens_and_no_sequences(vector_isa, rng):
    empty, w = np.zeros((0, 32), np.float32), features(rng, 16, 8)
    for cu in (np.zeros(1, np.int32), np.zeros(4, np.int32)):
        for result in run(empty, empty, empty, empty, w, cu, 2):
            assert result.size == 0


def test_one_token_attends_to_itself(vector_isa, rng):
    q, k, v, dout = inputs(rng, 3, 48)
    o, _, _, dv = run(q, k, v, dout, features(rng, 24, 32), offsets([1, 1, 1]), 2)
    np.testing.assert_allclose(o, v, rtol=2e-6)
    np.testing.assert_allclose(dv, dout, rtol=2e-6)


def test_with_one_feature_queries_do_not_matter(vector_isa, rng):
    """It cancels where it is positive: the output is the mean of values, weighted by their keys."""
    cu = offsets([30])
    q, k, v, dout = inputs(rng, 30, 16)
    w = features(rng, 16, 1)
    o, dq, _, _ = run(q, k, v, dout, w, cu, 1)
    weights = np.maximum(k @ w, 0)
    mean = (weights * v).sum(0) / weights.sum()
    np.testing.assert_allclose(o, np.where(q @ w > 0, mean, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dq, 0, atol=1e-4)


def test_no_positive_feature_gives_zero(vector_isa, rng):
    """The weights of a query are then all 0, and the normaliser is eps."""
    cu = offsets([20])
    q, k, v, dout = inputs(rng, 20, 16)
    w = np.abs(features(rng, 16, 8))
    q[3] = -np.abs(q[3])
    o, dq, *_ = run(q, k, v, dout, w, cu, 1)
    np.testing.assert_array_equal(o[3], 0)
    np.testing.assert_array_equal(dq[3], 0)
    k = -np.abs(k)
    for result in run(q, k, v, dout, w, cu, 1):
        np.testing.assert_array_equal(result, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 63, 300])
def test_weights_are_what_values_are_multiplied_by(vector_isa, length, dtype, rng):
    heads, head_dim = 3, 20
    q, k, v, _ = inputs(rng, length, heads * head_dim, dtype)
    w = features(rng, head_dim, 32)
    probs = ops.linear_attention_probs(q, k, w, heads, dtype=dtype, pad=4)
    split = v.reshape(length, heads, head_dim).transpose(1, 0, 2)
    o = (probs @ split).transpose(1, 0, 2).reshape(length, -1)
    wanted = reference.forward(q, k, v, w, offsets([length]), heads, EPS)
    np.testing.assert_allclose(o, wanted, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(probs.sum(2), 1, rtol=1e-5)
    assert probs.min() >= 0


def test_weights_of_nothing(rng):
    empty = np.zeros((0, 32), np.float32)
    assert ops.linear_attention_probs(empty, empty, features(rng, 16, 8), 2).shape == (2, 0, 0)


def test_a_constant_value_comes_back(vector_isa, rng):
    """Weights sum to 1: the same value everywhere is the output, whatever the weights."""
    cu = offsets([300, 40])
    q, k, _, _ = inputs(rng, 340, 32)
    v = np.broadcast_to(rng.standard_normal(32), (340, 32)).astype(np.float32)
    o = ops.linear_attention_fwd(q, k, v, features(rng, 16, 32), cu, 2)
    np.testing.assert_allclose(o, v, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1e8])
def test_magnitudes(vector_isa, size):
    (q, k, v, dout, w, cu, heads), _, _ = ragged(16, 32, "float32")
    q, k = q * np.float32(size), k * np.float32(size)
    close(run(q, k, v, dout, w, cu, heads), expect(q, k, v, dout, w, cu, heads), "float32")


def test_nan_stays_in_its_sequence_and_is_not_hidden(vector_isa, rng):
    q, k, v, dout = inputs(rng, 60, 32)
    k[25, 3] = np.nan  # second sequence, head 0
    results = run(q, k, v, dout, features(rng, 16, 32), offsets([20, 30, 10]), 2)
    assert np.isnan(results[0][20:50, :16]).all()
    for x in results:
        assert np.isnan(x[20:50, :16]).any()
        assert not np.isnan(np.delete(x, slice(20, 50), axis=0)).any()
        assert not np.isnan(x[:, 16:]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("head_dim", "count"), [(16, 32), (24, 7)])
def test_bits_do_not_depend_on_the_batch(vector_isa, head_dim, count, dtype, rng):
    heads, lengths = 2, [33, 1, 150, 0, 64, 300, 7]
    cu, w = offsets(lengths), features(rng, head_dim, count)
    data = inputs(rng, cu[-1], heads * head_dim, dtype)
    batched = run(*data, w, cu, heads, dtype=dtype)
    order = rng.permutation(len(lengths))
    rows = np.concatenate([np.arange(cu[b], cu[b + 1]) for b in order])
    shuffled = run(
        *(x[rows] for x in data), w, offsets(np.take(lengths, order)), heads, dtype=dtype
    )
    for a, b in zip(batched, shuffled, strict=True):
        assert_same_bits(a[rows], b)
    for b, length in enumerate(lengths):
        part = slice(cu[b], cu[b + 1])
        alone = run(*(x[part] for x in data), w, offsets([length]), heads, dtype=dtype)
        for a, x in zip(batched, alone, strict=True):
            assert_same_bits(a[part], x)


def test_bits_do_not_depend_on_threads(rng):
    cu = offsets([700, 40, 1, 300])
    data = (*inputs(rng, cu[-1], 96), features(rng, 32, 32), cu, 3)
    results = []
    for threads in (1, 2, 3, 8):
        engine.set_num_threads(threads)
        results.append(run(*data))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_row_stride(vector_isa, dtype, rng):
    cu = offsets([40, 3])
    data = (*inputs(rng, 43, 48, dtype), features(rng, 24, 32), cu, 2)
    plain = run(*data, dtype=dtype)
    for pad in (96, 5):
        for a, b in zip(plain, run(*data, dtype=dtype, pad=pad), strict=True):
            assert_same_bits(a, b)


def test_long_sequences_in_linear_memory(rng):
    """Weights of 200,000 x 200,000 tokens would be 160 GB."""
    length = 200_000
    q, k, v, dout = inputs(rng, length, 8)
    w, cu = features(rng, 8, 16), offsets([length])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    o, dq, dk, dv = run(q, k, v, dout, w, cu, 1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, f"peak memory grew by {grown} KiB"
    q, k, v, dout, w = (x.astype(np.float64) for x in (q, k, v, dout, w))
    fq, fk = np.maximum(q @ w, 0), np.maximum(k @ w, 0)
    sums, total = fk.T @ v, fk.sum(0)
    normaliser = np.maximum(fq @ total, EPS)[:, None]
    wanted = fq @ sums / normaliser
    dn = -(dout * wanted).sum(1, keepdims=True) / normaliser
    dsums, dtotal = (fq / normaliser).T @ dout, (fq * dn).sum(0)
    pairs = [
        (o, wanted),
        (dq, ((dout @ sums.T / normaliser + dn * total) * (fq > 0)) @ w.T),
        (dk, ((v @ dsums.T + dtotal) * (fk > 0)) @ w.T),
        (dv, fk @ dsums),
    ]
    for got, exact in pairs:
        np.testing.assert_allclose(got, exact, rtol=2e-4, atol=2e-4 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "head dimension 6, allowed multiples of 4 from 4 to 256"),
        ({"heads": 5}, "24 columns are not a multiple of 5 heads"),
        ({"eps": 0.0}, "got eps 0, allowed finite numbers above 0"),
        ({"eps": np.nan}, "got eps nan"),
        ({"w": np.zeros((8, 257), np.float32)}, "got 257 random features, allowed 1 to 256"),
        ({"w": np.zeros((8, 0), np.float32)}, "got 0 random features"),
        ({"w": np.zeros((6, 4), np.float32)}, r"w: expected shape \(8, M\)"),
        ({"cu_seqlens": np.array([0, 4], np.int32)}, "runs from 0 to 4, expected 0 to 6"),
        ({"cu_seqlens": np.array([0, 5, 3, 6], np.int32)}, "sequence 1 has length -2"),
        ({"cu_seqlens": np.array([0], np.int32)}, "no sequences but 6 tokens"),
        ({"k": np.zeros((5, 24), np.float32)}, r"k is \(5, 24\), expected \(6, 24\)"),
        ({"dtype": "float16"}, "dtype: got 'float16', allowed: float32, bf16"),
    ],
)
def test_refuses_with_the_values(change, message):
    x = np.zeros((6, 24), np.float32)
    w = np.zeros((6 if change.get("heads") == 4 else 8, 4), np.float32)
    arguments = {"q": x, "k": x, "v": x, "w": w, "cu_seqlens": offsets([6]), "heads": 3}
    with pytest.raises(ValueError, match=message):
        ops.linear_attention_fwd(**(arguments | change))


@pytest.mark.parametrize(("head_dim", "count"), [(8, 8), (16, 5), (8, 20), (64, 32)])
def test_random_features_are_what_the_header_says(head_dim, count):
    w = ops.draw_orthogonal_features(2**40 + 3, 77, head_dim, count)
    wanted = reference.orthogonal_features(2**40 + 3, 77, head_dim, count)
    np.testing.assert_allclose(w, wanted, rtol=1e-5, atol=1e-5)
    for first in range(0, count, head_dim):
        block = w[:, first : first + head_dim]
        norms = np.linalg.norm(block, axis=0)
        np.testing.assert_allclose(
            (block / norms).T @ (block / norms), np.eye(len(norms)), atol=1e-5
        )


def test_random_features_are_normal_and_differ_by_stream():
    drawn = [ops.draw_orthogonal_features(1, stream, 16, 32) for stream in range(64)]
    values = np.stack(drawn)
    assert len(np.unique(values)) > 0.999 * values.size
    n = values.size
    assert abs(values.mean()) < 5 / np.sqrt(n)
    assert abs((values**2).mean() - 1) < 5 * np.sqrt(2 / n)
    assert abs((values**4).mean() - 3) < 5 * np.sqrt(96 / n)


def test_features_approximate_what_they_sample(rng):
    """E[(x.w)^+ (y.w)^+] over normal w is |x||y| (sin a + (pi - a) cos a) / 2 pi, the arc-cosine
    kernel of Cho and Saul 2009, a the angle between x and y."""
    x, y = rng.standard_normal((2, 16))
    w = np.concatenate([ops.draw_orthogonal_features(5, s, 16, 256) for s in range(100)], axis=1)
    estimate = np.mean(np.maximum(x @ w, 0) * np.maximum(y @ w, 0))
    nx, ny = np.linalg.norm(x), np.linalg.norm(y)
    angle = np.arccos(x @ y / (nx * ny))
    wanted = nx * ny * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    assert abs(estimate / wanted - 1) < 0.05
