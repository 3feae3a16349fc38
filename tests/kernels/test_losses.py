"""The losses against their float64 references, and those against finite differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import moltide._engine as engine
from comparison import assert_within
from reference import losses as reference
from reference.finite_differences import gradient

ops = engine.ops
SHAPES = [(1, 1), (2, 3), (7, 1), (33, 5), (130, 2)]


def data(rng, n, k, missing=True):
    """pred, target (some NaN), weight (a zero among them), all float32."""
    pred = rng.normal(size=(n, k)).astype(np.float32)
    target = rng.normal(size=(n, k)).astype(np.float32)
    weight = rng.uniform(0.2, 2, size=n).astype(np.float32)
    if missing:
        target[rng.random((n, k)) < 0.2] = np.nan
        weight[n // 2] = 0
    return pred, target, weight


def censoring(rng, shape):
    return rng.choice(np.array([-1, 0, 1], np.int8), size=shape, p=[0.2, 0.6, 0.2])


POINTWISE = {
    "mse": (ops.mse, reference.mse),
    "huber": (partial(ops.huber, delta=0.7), partial(reference.huber, delta=0.7)),
    "bce": (ops.bce, reference.bce),
}


def pointwise_target(name, target):
    return 1 / (1 + np.exp(-3 * target)) if name == "bce" else target


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_matches_reference(name, shape, rng):
    op, expect = POINTWISE[name]
    pred, target, weight = data(rng, *shape)
    target = pointwise_target(name, target).astype(np.float32)
    for w in (None, weight):
        total, d = op(pred, target, weight=w, scale=0.25)
        want, want_d = expect(pred.astype(float), target.astype(float), weight=w)
        assert_within(total, want, "pointwise_loss")
        assert_within(d, 0.25 * want_d, "pointwise_loss")
        assert (d[np.isnan(target)] == 0).all()
        assert ops.loss_weight(target, w) == pytest.approx(reference.loss_weight(target, w))
    assert ops.target_count(target) == np.isfinite(target).sum()


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_reference_gradient(name, rng):
    _, expect = POINTWISE[name]
    pred, target, weight = (a.astype(float) for a in data(rng, 5, 2))
    target = pointwise_target(name, target)
    _, d = expect(pred, target, weight=weight)
    fd = gradient(lambda p: expect(p, target, weight=weight)[0], pred)
    np.testing.assert_allclose(d, fd, rtol=1e-6, atol=1e-8)


def test_extreme_logits_stay_finite():
    x = np.array([[1000.0, -1000.0, 1000.0, -1000.0, 0.0]], np.float32)
    y = np.array([[1.0, 0.0, 0.0, 1.0, 1.0]], np.float32)
    total, d = ops.bce(x, y)
    assert total == pytest.approx(2000 + np.log(2))
    np.testing.assert_array_equal(d, [[0, 0, 1, -1, -0.5]])


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 15), (5, 16), (4, 17), (37, 33), (3, 130)])
def test_cross_entropy_matches_reference(shape, dtype, isa, rng):
    n, v = shape
    logits = (4 * rng.normal(size=shape)).astype(np.float32)
    label = rng.integers(-1, v, size=n).astype(np.int32)
    weight = rng.uniform(0, 2, size=n).astype(np.float32)
    for w in (None, weight):
        total, d = ops.cross_entropy(logits, label, w, scale=0.5, dtype=dtype)
        want, want_d = reference.cross_entropy(logits.astype(float), label, w)
        assert_within(total, want, "cross_entropy")
        assert_within(d, 0.5 * want_d, "cross_entropy", dtype)
        assert (d[label < 0] == 0).all()
        counted = np.ones(n) if w is None else w.astype(float)
        assert ops.label_weight(label, w) == pytest.approx(counted[label >= 0].sum())


def test_cross_entropy_reference_gradient(rng):
    logits = rng.normal(size=(4, 6))
    label = np.array([0, 5, -1, 3], np.int32)
    weight = np.array([1.0, 0.3, 1.0, 2.0])
    _, d = reference.cross_entropy(logits, label, weight)
    fd = gradient(lambda x: reference.cross_entropy(x, label, weight)[0], logits)
    np.testing.assert_allclose(d, fd, rtol=1e-6, atol=1e-8)


def test_cross_entropy_extreme_logits(isa):
    logits = np.array([[9e4, -9e4, 0.0], [-np.inf, 1.0, 1.0], [5.0, 5.0, -3e38]], np.float32)
    total, d = ops.cross_entropy(logits, np.array([1, 2, 0], np.int32))
    assert total == pytest.approx(1.8e5 + 2 * np.log(2))
    np.testing.assert_allclose(
        d, [[1, -1, 0], [0, 0.5, -0.5], [-0.5, 0.5, 0]], rtol=1e-6, atol=1e-7
    )
    bad = np.full((1, 20), np.nan, np.float32)
    assert np.isnan(ops.cross_entropy(bad, np.array([0], np.int32))[0])


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_cross_entropy_row_is_the_same_bits_alone(dtype, isa, rng):
    logits = rng.normal(size=(300, 33)).astype(np.float32)
    label = rng.integers(0, 33, size=300).astype(np.int32)
    engine.set_num_threads(3)
    total, d = ops.cross_entropy(logits, label, dtype=dtype)
    engine.set_num_threads(1)
    total_1, d_1 = ops.cross_entropy(logits, label, dtype=dtype)
    assert total == total_1
    np.testing.assert_array_equal(d, d_1)
    for row in (0, 1, 17, 299):
        alone = ops.cross_entropy(logits[row : row + 1], label[row : row + 1], dtype=dtype)[1]
        np.testing.assert_array_equal(alone[0], d[row])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("censored", [False, True])
def test_ranking_matches_reference(shape, censored, rng):
    pred, target, weight = data(rng, *shape)
    target = np.round(2 * target) / 2  # ties: pairs without an order
    censor = censoring(rng, shape) if censored else None
    for w in (None, weight):
        total, d, pairs, pair_weight = ops.ranking(pred, target, censor, w, scale=0.1)
        want, want_d, want_pairs, want_weight = reference.ranking(pred, target, censor, w)
        assert_within(total, want, "ranking")
        assert_within(d, 0.1 * want_d, "ranking")
        assert pairs == want_pairs
        assert pair_weight == pytest.approx(want_weight)


def test_ranking_reference_gradient(rng):
    pred, target, weight = (a.astype(float) for a in data(rng, 7, 2))
    censor = censoring(rng, (7, 2))
    _, d, pairs, _ = reference.ranking(pred, target, censor, weight)
    assert pairs > 5
    fd = gradient(lambda p: reference.ranking(p, target, censor, weight)[0], pred)
    np.testing.assert_allclose(d, fd, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("first", "second", "above"),
    [
        ((2, 0), (1, 0), True),
        ((1, 0), (1, 0), False),
        ((2, 1), (1, 0), True),  # > 2 against 1
        ((1, 1), (1, 0), True),  # > 1 against 1
        ((0, 1), (1, 0), False),  # > 0 against 1: either way
        ((1, 1), (1, -1), True),  # > 1 against < 1
        ((2, 1), (1, 1), False),
        ((2, 0), (1, -1), True),  # 2 against < 1
        ((2, -1), (1, 0), False),  # < 2 against 1: either way
        ((2, -1), (1, -1), False),
    ],
)
def test_known_order(first, second, above):
    target = np.array([[first[0]], [second[0]]], np.float32)
    censor = np.array([[first[1]], [second[1]]], np.int8)
    d, pairs = ops.ranking(np.zeros((2, 1), np.float32), target, censor)[1:3]
    assert pairs == int(above)
    np.testing.assert_array_equal(d[:, 0], [-0.5, 0.5] if above else [0, 0])


# log Phi(z) and phi(z) / Phi(z) to 20 digits, computed at 60.
NORMAL = [
    (-40.0, -804.60844201375378817, 40.024968847207263723),
    (-37.5, -707.66898931750719107, 37.526628874883653599),
    (-20.0, -203.91715537109726394, 20.049753068527850542),
    (-5.5, -17.779376352625260511, 5.6714103138973056227),
    (-5.0, -15.064998393988725736, 5.1865039671258421156),
    (-4.75, -13.798571593147466594, 4.9450301392146927386),
    (-1.0, -1.8410216450092635058, 1.5251352761609812091),
    (-0.125, -0.79792614275302409024, 0.8791278957566339919),
    (0.0, -0.69314718055994530942, 0.79788456080286535588),
    (0.5, -0.36894641528865639307, 0.50916043383703348583),
    (3.0, -0.0013508099647481937988, 0.0044378390421256637933),
    (8.0, -6.2209605742717860585e-16, 5.0522710835368954309e-15),
]


@pytest.mark.parametrize(("z", "log_cdf", "ratio"), NORMAL)
def test_log_normal_cdf(z, log_cdf, ratio):
    np.testing.assert_allclose(ops.log_normal_cdf(z), (log_cdf, ratio), rtol=1e-14)


def test_log_normal_cdf_is_smooth_everywhere():
    z = np.concatenate([np.linspace(-60, 12, 5001), -5 + np.linspace(-1e-6, 1e-6, 11)])
    ours = np.array([ops.log_normal_cdf(x) for x in z])
    np.testing.assert_allclose(ours.T, reference.log_normal_cdf(z), rtol=2e-13)
    value, ratio = ops.log_normal_cdf(-1e150)
    assert value == pytest.approx(-5e299)
    assert ratio == pytest.approx(1e150)


@pytest.mark.parametrize("shape", SHAPES)
def test_tobit_matches_reference(shape, rng):
    pred, target, weight = data(rng, *shape)
    pred *= 12  # deep into both tails
    censor = censoring(rng, shape)
    log_sigma = rng.uniform(-1, 0.5, size=shape[1]).astype(np.float32)
    before = rng.normal(size=shape[1]).astype(np.float32)
    for kinds, w in ((censor, weight), (None, None)):
        total, d, dlog = ops.tobit(pred, target, kinds, log_sigma, before, w, scale=0.5)
        want, want_d, want_dlog = reference.tobit(
            pred.astype(float), target.astype(float), kinds, log_sigma.astype(float), w
        )
        assert_within(total, want, "tobit")
        assert_within(d, 0.5 * want_d, "tobit")
        assert_within(dlog, before + 0.5 * want_dlog, "tobit")


def test_tobit_reference_gradient(rng):
    pred, target, weight = (a.astype(float) for a in data(rng, 9, 2))
    censor = censoring(rng, (9, 2))
    assert {-1, 0, 1} <= set(censor[~np.isnan(target)])
    log_sigma = np.array([-0.4, 0.3])
    _, d, dlog = reference.tobit(pred, target, censor, log_sigma, weight)
    fd = gradient(lambda p: reference.tobit(p, target, censor, log_sigma, weight)[0], pred)
    fd_log = gradient(lambda s: reference.tobit(pred, target, censor, s, weight)[0], log_sigma)
    np.testing.assert_allclose(d, fd, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dlog, fd_log, rtol=1e-6, atol=1e-8)


def test_tobit_far_outside_its_limit_pulls_straight_back():
    pred = np.array([[1000.0], [-1000.0], [1000.0], [-1000.0]], np.float32)
    censor = np.array([[-1], [1], [1], [-1]], np.int8)
    zero = np.zeros(1, np.float32)
    total, d, _ = ops.tobit(pred, np.zeros_like(pred), censor, zero, dlog_sigma=zero)
    np.testing.assert_allclose(d[:, 0], [1000, -1000, 0, 0], rtol=1e-5)
    assert total == pytest.approx(1e6, rel=1e-4)


KINDS = ["bce", "mse", "tobit", "huber", "bce"]


def mixed_data(rng, n):
    """pred, target, censor and a weight for each of them, in columns of `KINDS`."""
    k = len(KINDS)
    pred, target, _ = data(rng, n, k)
    for c, kind in enumerate(KINDS):
        target[:, c] = pointwise_target(kind, target[:, c])
    censor = censoring(rng, (n, k))
    censor[:, [c for c, kind in enumerate(KINDS) if kind != "tobit"]] = 0
    weight = rng.uniform(0.2, 3, size=(n, k)).astype(np.float32)
    weight[rng.random((n, k)) < 0.1] = 0
    return pred, target, censor, weight, rng.uniform(-1, 0.5, size=k).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 33])
def test_mixed_matches_reference(n, rng):
    pred, target, censor, weight, log_sigma = mixed_data(rng, n)
    for kinds, w in ((censor, weight), (None, None)):
        total, d, dlog, weighed = ops.mixed(pred, target, kinds, KINDS, 0.7, log_sigma, w, 0.5)
        want, want_d, want_dlog = reference.mixed(
            pred.astype(float), target.astype(float), kinds, KINDS, 0.7, log_sigma.astype(float),
            None if w is None else w.astype(float),
        )  # fmt: skip
        assert_within(total, want, "tobit")
        assert_within(d, 0.5 * want_d, "tobit")
        assert_within(dlog, 0.5 * want_dlog, "tobit")
        present = ~np.isnan(target)
        counted = present if w is None else np.where(present, w.astype(float), 0.0)
        assert weighed == pytest.approx(counted.sum())


def test_mixed_reference_gradient(rng):
    pred, target, censor, weight, log_sigma = (
        a if a.dtype == np.int8 else a.astype(float) for a in mixed_data(rng, 6)
    )

    def loss(p, s):
        return reference.mixed(p, target, censor, KINDS, 0.7, s, weight)

    _, d, dlog = loss(pred, log_sigma)
    fd = gradient(lambda p: loss(p, log_sigma)[0], pred)
    fd_log = gradient(lambda s: loss(pred, s)[0], log_sigma)
    np.testing.assert_allclose(d, fd, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dlog, fd_log, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["mse", "huber", "bce", "tobit"])
def test_mixed_columns_of_one_kind_are_its_loss_to_the_bit(kind, rng):
    pred, target, weight = data(rng, 40, 3)
    target = pointwise_target(kind, target).astype(np.float32)
    censor = censoring(rng, (40, 3)) if kind == "tobit" else None
    log_sigma, zero = np.array([0.1, -0.4, 0.3], np.float32), np.zeros(3, np.float32)
    each = np.repeat(weight[:, None], 3, axis=1)
    found = ops.mixed(pred, target, censor, [kind] * 3, 0.7, log_sigma, each, 0.3)
    if kind == "tobit":
        want = ops.tobit(pred, target, censor, log_sigma, zero, weight, 0.3)
        np.testing.assert_array_equal(found[2], want[2])
    else:
        want = POINTWISE[kind][0](pred, target, weight=weight, scale=0.3)
    assert found[0] == want[0]
    np.testing.assert_array_equal(found[1], want[1])


def test_two_passes_accumulate_into_dlog_sigma(rng):
    pred, target, _ = data(rng, 12, 2)
    log_sigma = np.zeros(2, np.float32)
    zero = np.zeros(2, np.float32)
    one = ops.tobit(pred[:5], target[:5], None, log_sigma, dlog_sigma=zero)[2]
    two = ops.tobit(pred[5:], target[5:], None, log_sigma, dlog_sigma=one)[2]
    whole = ops.tobit(pred, target, None, log_sigma, dlog_sigma=zero)[2]
    assert_within(two, whole, "tobit")


def test_threads_and_instruction_sets_do_not_change_a_bit(rng):
    pred, target, weight = data(rng, 200, 2)
    censor = censoring(rng, (200, 2))
    zero = np.zeros(2, np.float32)

    def everything():
        return [
            *ops.ranking(pred, target, censor, weight),
            *ops.tobit(pred, target, censor, zero, zero, weight),
            *ops.mse(pred, target, weight),
            *ops.mixed(pred, target, censor, ["tobit"] * 2, 1.0, zero, pred**2),
        ]

    engine.set_num_threads(1)
    expected = everything()
    for threads in (2, 5):
        engine.set_num_threads(threads)
        for isa in engine.available_isas():
            engine.set_isa(isa)
            for a, b in zip(everything(), expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_no_rows():
    empty = np.zeros((0, 3), np.float32)
    none = np.zeros(3, np.float32)
    assert ops.mse(empty, empty)[0] == 0
    assert ops.bce(empty, empty)[0] == 0
    assert ops.huber(empty, empty, 1.0)[0] == 0
    assert ops.cross_entropy(empty, np.zeros(0, np.int32))[0] == 0
    assert ops.ranking(empty, empty)[0::2] == (0, 0)
    total, d, dlog = ops.tobit(empty, empty, None, none, dlog_sigma=none)
    assert total == 0
    assert d.shape == (0, 3)
    np.testing.assert_array_equal(dlog, none)
    assert ops.loss_weight(empty) == 0
    assert ops.mixed(empty, empty, None, ["mse", "bce", "huber"])[0] == 0


def test_all_missing_is_no_loss():
    pred = np.ones((4, 2), np.float32)
    nan = np.full((4, 2), np.nan, np.float32)
    for total, d in (ops.mse(pred, nan), ops.bce(pred, nan), ops.ranking(pred, nan)[:2]):
        assert total == 0
        assert (d == 0).all()


ONE = np.ones((2, 1), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.mse(ONE, np.ones((3, 1), np.float32)),
            r"target is float32 \(3, 1\).*\(2, 1\)",
        ),
        (lambda: ops.mse(ONE, ONE * np.inf), "row 0, column 0 is infinite"),
        (lambda: ops.mse(ONE, ONE, np.array([1, -2], np.float32)), "weight of row 1 is -2"),
        (lambda: ops.mse(ONE, ONE, np.array([1, np.nan], np.float32)), "weight of row 1 is nan"),
        (lambda: ops.huber(ONE, ONE, 0.0), "delta is 0"),
        (lambda: ops.bce(ONE, ONE + 0.5), "row 0, column 0 is 1.5"),
        (lambda: ops.cross_entropy(ONE, np.array([0, 1], np.int32)), "label of row 1 is 1"),
        (lambda: ops.cross_entropy(ONE, np.array([0, -2], np.int32)), "label of row 1 is -2"),
        (lambda: ops.ranking(ONE, ONE, np.full((2, 1), 2, np.int8)), "censor of row 0.* is 2"),
        (
            lambda: ops.tobit(
                ONE,
                ONE,
                np.full((2, 1), 3, np.int8),
                np.zeros(1, np.float32),
                dlog_sigma=np.zeros(1, np.float32),
            ),
            "censor of row 0, column 0 is 3",
        ),
        (
            lambda: ops.mixed(ONE, ONE, None, ["mse"], weight=-ONE),
            "weight of row 0, column 0 is -1",
        ),
        (
            lambda: ops.mixed(ONE, ONE, np.ones((2, 1), np.int8), ["mse"]),
            r"row 0, column 0 is a bound \(censor 1\); allowed in columns of tobit",
        ),
        (lambda: ops.mixed(ONE, ONE, None, ["tobit"]), "column 0 is of tobit.* no log_sigma"),
        (lambda: ops.mixed(ONE, ONE, None, ["huber"], 0.0), "huber delta is 0"),
        (lambda: ops.mixed(ONE, ONE, None, ["mae"]), "'mae', allowed mse, huber, bce, tobit"),
        (lambda: ops.mixed(ONE, ONE, None, ["mse"] * 2), "expected 1 losses, got 2"),
    ],
)
def test_refusals_name_the_row_and_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
