"""Metrics against SciPy, scikit-learn and their definitions, and where they are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sk

from moltide.errors import DataError
from moltide.metrics import (
    classification_metrics,
    concordance,
    mean_metrics,
    pearson,
    regression_metrics,
    spearman,
)

numbers = st.integers(-50, 50).map(lambda i: i / 4)
pairs = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float64, n, elements=numbers), hnp.arrays(np.float64, n, elements=numbers)
    )
)


@settings(deadline=None)
@given(pairs)
def test_regression_agrees_with_scipy_and_sklearn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    y, p = pair
    found = regression_metrics(y, p)
    assert found["rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(y, p)))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, p))
    if np.ptp(y) == 0:
        assert math.isnan(found["spearman"])
        assert math.isnan(found["pearson"])
        assert math.isnan(found["r2"])
        return
    assert found["r2"] == pytest.approx(sk.r2_score(y, p))
    if np.ptp(p) == 0:
        assert found["spearman"] == found["pearson"] == 0
        return
    assert found["spearman"] == pytest.approx(stats.spearmanr(y, p).statistic, abs=1e-12)
    assert found["pearson"] == pytest.approx(stats.pearsonr(y, p).statistic, abs=1e-12)


def test_missing_values_are_left_out() -> None:
    y = np.array([1, np.nan, 2, 4, np.nan, 3])
    p = np.array([1.5, np.nan, 2, 3, 9, 3.5])
    known = ~np.isnan(y)
    assert regression_metrics(y, p) == regression_metrics(y[known], p[known])
    nothing = regression_metrics([np.nan, np.nan], [1, 2])
    assert all(math.isnan(value) for value in nothing.values())


def test_bounds_count_only_in_the_concordance() -> None:
    y, p = np.array([1.0, 2, 3, 10, 0]), np.array([1.1, 2.5, 2.4, 0, 5])
    censor = np.array([0, 0, 0, 1, -1])
    found = regression_metrics(y, p, censor)
    plain = regression_metrics(y[:3], p[:3])
    assert {name: found[name] for name in plain} == plain
    assert found["n"] == 3
    assert found["n_censored"] == 2
    # 3 exact pairs, 2 right; >10 above the three and below <0's reach: 4 wrong; <0: 3 wrong.
    assert found["concordance"] == pytest.approx(2 / 10)


@settings(deadline=None)
@given(pairs, st.data())
def test_concordance_is_its_definition(
    pair: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    y, p = pair
    c = data.draw(hnp.arrays(np.int8, len(y), elements=st.integers(-1, 1)))
    right = total = 0.0
    for i in range(len(y)):
        for j in range(len(y)):
            # j is surely larger than i.
            if i == j or c[j] < 0 or c[i] > 0:
                continue
            if y[j] > y[i] or (y[j] == y[i] and (c[j] > 0 or c[i] < 0)):
                total += 1
                right += 1 if p[j] > p[i] else 0.5 if p[j] == p[i] else 0
    found = concordance(y, p, c)
    assert math.isnan(found) if total == 0 else found == pytest.approx(right / total)


def test_concordance_without_bounds_follows_kendall() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=80), rng.normal(size=80)
    tau = stats.kendalltau(y, p).statistic
    assert concordance(y, p) == pytest.approx((tau + 1) / 2)


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_classification_agrees_with_sklearn(n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 30)])
    p = rng.dirichlet(np.ones(n_classes), len(y)).round(2)
    found = classification_metrics(y, p, n_classes)
    guess = p.argmax(axis=1)
    assert found["accuracy"] == sk.accuracy_score(y, guess)
    assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(y, guess))
    if n_classes == 2:
        assert found["auroc"] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
        assert found["auprc"] == pytest.approx(sk.average_precision_score(y, p[:, 1]))
    else:
        one_hot = np.eye(n_classes)[y]
        assert found["auroc"] == pytest.approx(sk.roc_auc_score(one_hot, p, average="macro"))
        assert found["auprc"] == pytest.approx(sk.average_precision_score(one_hot, p))


def test_binary_probabilities_in_one_column() -> None:
    y, p = np.array([0, 1, 1, 0, np.nan]), np.array([0.2, 0.8, 0.4, 0.3, 0.9])
    both = np.stack([1 - p, p], axis=1)
    assert classification_metrics(y, p) == classification_metrics(y, both)
    assert classification_metrics(y, p)["accuracy"] == 0.75


def test_constant_and_single_class() -> None:
    constant = classification_metrics([0, 1, 1, 0], [0.5] * 4)
    assert constant["auroc"] == 0.5
    assert constant["mcc"] == 0
    single = classification_metrics([1, 1, 1], [0.9, 0.8, 0.7])
    assert math.isnan(single["auroc"])
    assert math.isnan(single["auprc"])
    assert single["accuracy"] == 1
    empty = classification_metrics([np.nan], [0.5])
    assert all(math.isnan(value) for value in empty.values())


def test_constant_predictions_and_single_values() -> None:
    assert pearson([1, 2, 3], [5, 5, 5]) == 0
    assert spearman([1, 2, 3], [5, 5, 5]) == 0
    assert math.isnan(spearman([4, 4, 4], [1, 2, 3]))
    assert math.isnan(spearman([1], [2]))
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)


def test_misfits_are_refused() -> None:
    with pytest.raises(DataError, match="2 predictions for 3 measured values"):
        regression_metrics([1, 2, 3], [1, 2])
    with pytest.raises(DataError, match=r"1 predictions are not finite \(first at index 1\)"):
        regression_metrics([1, 2], [1, np.inf])
    with pytest.raises(DataError, match="1 censoring marks for 2 values"):
        regression_metrics([1, 2], [1, 2], [0])
    with pytest.raises(DataError, match=r"shape \(3,\) for 3 labels and 3 classes"):
        classification_metrics([0, 1, 2], [0.1, 0.2, 0.3], 3)
    with pytest.raises(DataError, match="labels must be 0 to 1"):
        classification_metrics([0, 2], [0.1, 0.2])


def test_mean_over_targets_leaves_out_the_undefined() -> None:
    mean = mean_metrics(
        [{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": math.nan}, {"a": math.nan, "b": math.nan}]
    )
    assert mean["a"] == 2
    assert math.isnan(mean["b"])
    assert mean_metrics([]) == {}
