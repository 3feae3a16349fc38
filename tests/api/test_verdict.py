"""Bootstrap intervals against resampling one at a time, and the sentences of the verdict."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide import bootstrap
from moltide.baselines import BaselineResult
from moltide.bootstrap import bootstrap_intervals, paired_bootstrap, resample_counts
from moltide.errors import ConfigError, DataError
from moltide.metrics import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    classification_metrics,
    regression_metrics,
)
from moltide.verdict import Verdict, exact_values, interval_text, make_verdict, panel_verdict

VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=25)


def evaluate(name, y, prediction, counts, n_classes=2):
    with np.errstate(invalid="ignore", divide="ignore"):
        return bootstrap._metric(name, y, prediction, n_classes)(counts)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_regression_metrics_of_counts_are_metrics_of_the_resampled_rows(data):
    y = np.array(data.draw(VALUES), float)
    prediction = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=len(y), max_size=len(y))))
    counts = next(resample_counts(len(y), 4, data.draw(st.integers(0, 99))))
    for name in REGRESSION_METRICS:
        found = evaluate(name, y, prediction.astype(float), counts)
        for row, value in zip(counts, found, strict=True):
            drawn = np.repeat(np.arange(len(y)), row.astype(int))
            expected = regression_metrics(y[drawn], prediction[drawn])[name]
            np.testing.assert_allclose(value, expected, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 4), st.integers(1, 25), st.integers(0, 1000))
def test_classification_metrics_of_counts_are_those_of_the_resampled_rows(classes, n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n).astype(float)
    prediction = np.round(rng.dirichlet(np.ones(classes), n), 1)
    counts = next(resample_counts(n, 3, seed))
    for name in CLASSIFICATION_METRICS:
        found = evaluate(name, y, prediction, counts, classes)
        for row, value in zip(counts, found, strict=True):
            drawn = np.repeat(np.arange(n), row.astype(int))
            expected = classification_metrics(y[drawn], prediction[drawn], classes)[name]
            np.testing.assert_allclose(value, expected, atol=1e-9)


def test_values_far_from_zero_are_not_lost_to_rounding(rng):
    y = 1e6 + rng.normal(size=50)
    prediction = 1e6 + rng.normal(size=50)
    for name in REGRESSION_METRICS:
        found = evaluate(name, y, prediction, np.ones((1, 50)))[0]
        assert found == pytest.approx(regression_metrics(y, prediction)[name], rel=1e-6)


@pytest.mark.parametrize("name", REGRESSION_METRICS)
def test_equal_values_are_equal_whatever_their_mean_rounds_to(rng, name):
    counts = next(resample_counts(37, 20, 0))
    varied, equal = rng.normal(size=37), np.full(37, 0.1)
    for y, prediction in ((varied, equal), (equal, varied), (equal, equal)):
        expected = regression_metrics(y, prediction)[name]
        found = evaluate(name, y, prediction, counts)
        if np.isnan(expected) or expected == 0:
            np.testing.assert_allclose(found, expected, atol=1e-12)
        else:
            assert np.isfinite(found).all()


def test_resamples_draw_n_rows_and_whole_groups():
    groups = np.array([4, 4, 9, 9, 9, 1])
    for counts in resample_counts(6, 50, 0, groups):
        assert (counts[:, 0] == counts[:, 1]).all()
        assert (counts[:, 2] == counts[:, 4]).all()
        drawn = counts[:, 0] + counts[:, 2] + counts[:, 5]
        assert (drawn == 3).all()
    counts = np.concatenate(list(resample_counts(6, 3000, 0)))
    assert (counts.sum(axis=1) == 6).all()
    # A row is drawn Binomial(6, 1/6) times.
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.07)
    np.testing.assert_allclose(counts.var(axis=0), 5 / 6, atol=0.1)


def test_blocks_do_not_change_the_draws(monkeypatch):
    whole = np.concatenate(list(resample_counts(20, 40, 3)))
    monkeypatch.setattr(bootstrap, "_BLOCK", 100)
    parts = np.concatenate(list(resample_counts(20, 40, 3)))
    np.testing.assert_array_equal(whole, parts)


def test_the_interval_is_the_percentile_interval_of_paired_resamples(rng):
    y = rng.normal(size=80)
    a, b = y + rng.normal(size=80), y + 1.5 * rng.normal(size=80)
    difference, low, high = paired_bootstrap(y, a, b, "pearson", n=500, seed=5)
    samples = []
    for row in np.concatenate(list(resample_counts(80, 500, 5))):
        drawn = np.repeat(np.arange(80), row.astype(int))
        values = [regression_metrics(y[drawn], p[drawn])["pearson"] for p in (a, b)]
        samples.append(values[0] - values[1])
    assert (low, high) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))
    point = [regression_metrics(y, p)["pearson"] for p in (a, b)]
    assert difference == pytest.approx(point[0] - point[1])


def test_intervals_cover_as_often_as_they_say(rng):
    covered = 0
    for trial in range(120):
        y = rng.normal(size=200)
        prediction = 0.6 * y + 0.8 * rng.normal(size=200)
        _, low, high = bootstrap_intervals(
            y, {"p": prediction}, ["pearson"], resamples=300, seed=trial
        )["p"]["pearson"]
        covered += low <= 0.6 <= high
    assert 104 <= covered <= 120


def test_intervals_share_resamples_and_leave_missing_values_out(rng):
    y = rng.normal(size=60)
    y[:20] = np.nan
    a = rng.normal(size=60)
    found = bootstrap_intervals(y, {"a": a, "b": a}, ["spearman", "mae"], resamples=100)
    assert found["a"] == found["b"]
    alone = bootstrap_intervals(y[20:], {"a": a[20:]}, ["spearman", "mae"], resamples=100)
    assert alone["a"] == found["a"]


def test_undefined_metrics_have_undefined_intervals():
    found = bootstrap_intervals([1.0, 1.0, 1.0], {"a": [1.0, 2.0, 3.0]}, ["spearman", "rmse"])["a"]
    assert np.isnan(found["spearman"]).all()
    assert np.isfinite(found["rmse"]).all()
    assert np.isnan(bootstrap_intervals([], {"a": []}, ["mae"])["a"]["mae"]).all()


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ConfigError, match="metric is 'rank'; allowed: spearman, pearson"):
        paired_bootstrap([1.0, 2.0], [1.0, 2.0], [1.0, 2.0], "rank")
    with pytest.raises(DataError, match="3 predictions for 2 measured values"):
        paired_bootstrap([1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0])


def baseline(name, label, test, valid=None):
    return BaselineResult(name, label, test, 0.1, "", valid)


@pytest.fixture
def assay(rng):
    """Labels of 400 test rows, and predictions from good to useless."""
    y = rng.normal(size=400)
    noisy = {s: y + s * rng.normal(size=400) for s in (0.3, 0.6, 1.5)}
    return y, noisy


def compare(y, prediction, others, **options) -> Verdict:
    return make_verdict(y, prediction, others, split="position", resamples=400, **options)


def test_the_three_sentences(assay):
    y, noisy = assay
    ridge = baseline("ridge", "ridge on one-hot", noisy[0.6])
    mean = baseline("mean", "mean of the training labels", np.zeros(400))
    won = compare(y, noisy[0.3], [mean, ridge])
    assert won.better is True
    assert won.low > 0
    numbers = f"{interval_text(won.difference, won.low, won.high)} Spearman"
    assert won.text == (
        f"The fine-tuned model beats ridge on one-hot by {numbers} on 400 held-out variants "
        "(split: position)."
    )
    lost = compare(y, noisy[1.5], [mean, ridge])
    assert lost.better is False
    assert lost.high < 0
    assert lost.text.startswith("The fine-tuned model is worse than ridge on one-hot by 0.")
    assert "-0." not in lost.text
    level = compare(y, noisy[0.6] + 1e-9, [mean, ridge])
    assert level.better is None
    assert level.text.startswith(
        "The fine-tuned model does not beat ridge on one-hot: the difference is 0.00"
    )


def test_values_are_those_of_the_metrics(assay):
    y, noisy = assay
    found = compare(y, noisy[0.3], [baseline("ridge", "ridge on one-hot", noisy[0.6])])
    assert found.model == pytest.approx(regression_metrics(y, noisy[0.3])["spearman"])
    assert found.baseline == pytest.approx(regression_metrics(y, noisy[0.6])["spearman"])
    assert found.difference == pytest.approx(found.model - found.baseline)
    assert (found.n_test, found.metric, found.baseline_name) == (400, "spearman", "ridge")


def test_an_error_is_better_when_it_is_lower(assay):
    y, noisy = assay
    found = compare(y, noisy[0.3], [baseline("ridge", "ridge", noisy[0.6])], metric="rmse")
    assert found.model < found.baseline
    assert found.better is True
    assert found.difference == pytest.approx(found.baseline - found.model)
    assert 0 < found.low <= found.difference <= found.high
    order = compare(
        y,
        noisy[0.3],
        [baseline("a", "a", noisy[1.5]), baseline("b", "b", noisy[0.6])],
        metric="mae",
    )
    assert order.baseline_name == "b"


def test_the_best_baseline_is_chosen_on_validation_rows_when_there_are_any(assay, rng):
    y, noisy = assay
    held = rng.normal(size=60)
    good, bad = held + 0.1 * rng.normal(size=60), rng.normal(size=60)
    others = [
        baseline("ridge", "ridge on one-hot", noisy[0.6], bad),
        baseline("nearest_neighbour", "nearest neighbour", noisy[1.5], good),
    ]
    found = compare(y, noisy[0.3], others, y_valid=held)
    assert (found.baseline_name, found.chosen_on) == ("nearest_neighbour", "validation")
    assert "beats the nearest neighbour by" in found.text
    assert "on the test rows ridge on one-hot is ahead of it" in found.note
    for y_valid in (None, held[:5]):  # none, or too few to choose by
        if y_valid is not None:
            for one in others:
                one.valid_predictions = one.valid_predictions[:5]
        found = compare(y, noisy[0.3], others, y_valid=y_valid)
        assert (found.baseline_name, found.chosen_on) == ("ridge", "test")
        assert "favours the baseline" in found.note


def test_baselines_that_are_not_available_are_passed_over(assay):
    y, noisy = assay
    none = BaselineResult("zero_shot", "zero-shot score", None, 0, "no wild type")
    found = compare(y, noisy[0.3], [none, baseline("ridge", "ridge", noisy[0.6])])
    assert found.baseline_name == "ridge"
    alone = compare(y, noisy[0.3], [none])
    assert alone.better is None
    assert alone.text.startswith("No baseline to compare with: the fine-tuned model has 0.9")
    assert alone.to_dict()["difference"] is None


def test_too_few_rows_say_so(assay):
    y, noisy = assay
    found = compare(y[:12], noisy[0.3][:12], [baseline("ridge", "ridge", noisy[1.5][:12])])
    assert found.better is None
    assert found.text.startswith("Too few held-out variants (12) for a verdict: ")
    grouped = compare(
        y, noisy[0.3], [baseline("ridge", "ridge", noisy[1.5])], groups=np.arange(400) % 4
    )
    assert grouped.better is None
    assert grouped.text.startswith("Too few held-out groups (4) for a verdict: ")


def test_groups_widen_the_interval(assay, rng):
    y, _ = assay
    groups = np.arange(400) // 20
    shared = np.repeat(rng.normal(size=20), 20)
    others = [baseline("ridge", "ridge", y + rng.normal(size=400))]
    plain = compare(y, y + 1.5 * shared, others)
    grouped = compare(y, y + 1.5 * shared, others, groups=groups)
    assert grouped.high - grouped.low > 1.3 * (plain.high - plain.low)


def test_bounds_and_missing_values_are_left_out(assay):
    y, noisy = assay
    ridge = [baseline("ridge", "ridge", noisy[0.6])]
    censor = np.zeros(400, int)
    censor[:100] = 1
    missing = y.copy()
    missing[:100] = np.nan
    found = compare(y, noisy[0.3], ridge, censor=censor)
    assert found.text.endswith(
        "300 held-out variants (split: position; 100 known only as a bound left out)."
    )
    without = compare(missing, noisy[0.3], ridge)
    assert without.text.endswith("300 held-out variants (split: position).")
    assert dataclasses.replace(found, text=without.text) == without
    assert found.n_test == 300
    # Bounds are better than nothing.
    assert not np.isnan(exact_values([1.0, 2.0, 3.0], [1, 1, -1])).any()


def test_classification(rng):
    y = rng.integers(0, 3, 300).astype(float)

    def predict(strength):
        raw = np.exp(rng.normal(size=(300, 3)) + strength * np.eye(3)[y.astype(int)])
        return raw / raw.sum(axis=1, keepdims=True)

    good, poor = predict(3.0), predict(0.5)
    found = compare(
        y, good, [baseline("ridge", "logistic ridge on one-hot", poor)], task="classification",
        n_classes=3, unit="sequences",
    )  # fmt: skip
    assert found.better is True
    assert "AUROC on 300 held-out sequences" in found.text
    assert found.model == pytest.approx(classification_metrics(y, good, 3)["auroc"])


def test_several_targets_in_one_sentence(assay):
    y, noisy = assay
    won = compare(y, noisy[0.3], [baseline("ridge", "ridge", noisy[0.6])])
    lost = compare(y, noisy[1.5], [baseline("ridge", "ridge", noisy[0.6])])
    level = compare(y, noisy[0.6] + 1e-9, [baseline("ridge", "ridge", noisy[0.6])])
    assert panel_verdict({"a": won}) == won.text
    assert panel_verdict({"a": won, "b": lost, "c": level}) == (
        "The fine-tuned model beats the best baseline on 1 of 3 targets, is worse on 1, and cannot "
        "be told from it on 1."
    )


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ((0.06, 0.02, 0.10), "0.060 [0.020, 0.100]"),
        ((-0.0004, -0.04, 0.04), "0.000 [-0.040, 0.040]"),
        ((-0.0123, -0.0161, -0.0081), "-0.012 [-0.016, -0.008]"),
        ((0.03, -0.0002, 0.06), "0.030 [0.000, 0.060]"),
        ((0.03, 0.0002, 0.06), "0.0300 [0.0002, 0.0600]"),
        ((3e-4, 2e-4, 4e-4), "0.00030 [0.00020, 0.00040]"),
        ((412.3, 300.2, 520.9), "412 [300, 521]"),
        ((0.5, float("nan"), float("nan")), "0.500"),
        ((0.0, 0.0, 0.0), "0.000"),
        ((float("nan"),) * 3, "undefined"),
    ],
)
def test_interval_text(interval, text):
    assert interval_text(*interval) == text


def test_to_dict_is_plain_json(assay):
    import json

    y, noisy = assay
    found = compare(y, noisy[0.3], [baseline("ridge", "ridge", noisy[0.6])])
    assert json.loads(json.dumps(found.to_dict()))["better"] is True
