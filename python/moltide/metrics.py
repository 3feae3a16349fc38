"""How good predictions are, defined for every input: missing, censored, constant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from moltide.errors import DataError

FloatArray = npt.NDArray[np.float64]
REGRESSION_METRICS = ("spearman", "pearson", "rmse", "mae", "r2")
CLASSIFICATION_METRICS = ("auroc", "auprc", "mcc", "accuracy")


def pearson(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Pearson correlation. Constant predictions order nothing: 0. Constant `y` or n < 2: NaN."""
    a, b = _vector(y), _vector(prediction)
    if len(a) < 2 or np.ptp(a) == 0:
        return float("nan")
    if np.ptp(b) == 0:
        return 0.0
    # Scaling by the spread first keeps values near the limits of float64 from overflowing.
    a = (a - a.mean()) / np.ptp(a)
    b = (b - b.mean()) / np.ptp(b)
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def spearman(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Spearman rank correlation, ties at their mean rank. Constant inputs as in `pearson`."""
    from scipy.stats import rankdata

    a, b = _vector(y), _vector(prediction)
    if len(a) < 2:
        return float("nan")
    return pearson(rankdata(a), rankdata(b))


def regression_metrics(
    y: npt.ArrayLike, prediction: npt.ArrayLike, censor: npt.ArrayLike | None = None
) -> dict[str, float]:
    """Spearman, Pearson, RMSE, MAE and R2 (1 - squared error / squared deviation from the mean).

    Args:
        y: (n,) measured values, NaN = not measured (left out).
        prediction: (n,) finite predictions.
        censor: (n,) +1 for "above y", -1 for "below y", 0 exact. Bounds are left out of the five
            metrics above, and `concordance`, `n` and `n_censored` are added.

    Returns:
        The five metrics. Constant predictions: both correlations 0. Constant `y`: correlations
        and R2 NaN. No exact value: all NaN.

    Raises:
        DataError: lengths differ, or a prediction that is needed is not finite.
    """
    truth, guess = _matched(y, prediction)
    known = ~np.isnan(truth)
    bounds = np.zeros(len(truth), dtype=np.int8)
    if censor is not None:
        bounds = np.asarray(censor, dtype=np.int8).reshape(-1)
        if len(bounds) != len(truth):
            raise DataError(f"{len(bounds)} censoring marks for {len(truth)} values")
    _require_finite(guess[known])
    exact = known & (bounds == 0)
    a, b = truth[exact], guess[exact]
    metrics = dict.fromkeys(REGRESSION_METRICS, float("nan"))
    if len(a):
        residual = a - b
        deviation = a - a.mean()
        metrics["spearman"] = spearman(a, b)
        metrics["pearson"] = pearson(a, b)
        metrics["rmse"] = float(np.sqrt(np.mean(residual**2)))
        metrics["mae"] = float(np.mean(np.abs(residual)))
        if np.ptp(a) > 0:
            metrics["r2"] = float(1 - (residual @ residual) / (deviation @ deviation))
    if censor is not None:
        metrics["concordance"] = concordance(truth[known], guess[known], bounds[known])
        metrics["n"] = float(exact.sum())
        metrics["n_censored"] = float((known & (bounds != 0)).sum())
    return metrics


def concordance(
    y: npt.ArrayLike, prediction: npt.ArrayLike, censor: npt.ArrayLike | None = None
) -> float:
    """Share of comparable pairs that the prediction puts in the right order (Harrell's C).

    A pair is comparable when the data say which is larger: two different exact values, or a bound
    and a value on its far side (`>5` is larger than 3; `>5` and 7 cannot be compared). Predicted
    ties count half. 0.5 is chance; NaN without a comparable pair. O(n^2) time, O(n) memory.
    """
    a, b = _vector(y), _vector(prediction)
    c = np.zeros(len(a), dtype=np.int8) if censor is None else np.asarray(censor).reshape(-1)
    # Each value is known to lie between `low` and `high`.
    low = np.where(c < 0, -np.inf, a)
    high = np.where(c > 0, np.inf, a)
    comparable = right = 0.0
    for i in range(len(a)):
        # Pairs in which i is surely the smaller one; an open end meets its bound from outside.
        beyond = (low > high[i]) | ((low == high[i]) & ((c > 0) | (c[i] < 0)))
        beyond[i] = False
        comparable += float(beyond.sum())
        right += float((b[beyond] > b[i]).sum()) + 0.5 * float((b[beyond] == b[i]).sum())
    return right / comparable if comparable else float("nan")


def classification_metrics(
    y: npt.ArrayLike, probability: npt.ArrayLike, n_classes: int = 2
) -> dict[str, float]:
    """AUROC, AUPRC (average precision), Matthews correlation and accuracy.

    Args:
        y: (n,) class index, NaN = not measured (left out).
        probability: (n,) of class 1 when there are two classes, or (n, n_classes).
        n_classes: number of classes.

    Returns:
        Two classes: AUROC and AUPRC of class 1. More: their mean over the classes that occur
        among `y` and are not all of it (one against the rest). With a single class in `y` both
        are NaN. MCC of constant predictions is 0. The predicted class is the likeliest.

    Raises:
        DataError: shapes that do not fit, a class index outside its range, values not finite.
    """
    from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

    truth, scores = _vector(y), np.asarray(probability, dtype=np.float64)
    if scores.ndim == 1 and n_classes == 2:
        scores = np.stack([1 - scores, scores], axis=1)
    if scores.shape != (len(truth), n_classes):
        raise DataError(
            f"probabilities of shape {np.shape(probability)} for {len(truth)} labels and "
            f"{n_classes} classes"
        )
    known = ~np.isnan(truth)
    truth, scores = truth[known], scores[known]
    _require_finite(scores)
    labels = truth.astype(np.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= n_classes or (labels != truth).any()):
        raise DataError(f"labels must be 0 to {n_classes - 1}")
    metrics = dict.fromkeys(CLASSIFICATION_METRICS, float("nan"))
    if not len(labels):
        return metrics
    predicted = scores.argmax(axis=1)
    metrics["accuracy"] = float((predicted == labels).mean())
    present = np.unique(labels)
    one_label = len(np.union1d(present, predicted)) == 1
    metrics["mcc"] = 0.0 if one_label else float(matthews_corrcoef(labels, predicted))
    if len(present) < 2:
        return metrics
    judged = [1] if n_classes == 2 else present.tolist()
    metrics["auroc"] = float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in judged]))
    metrics["auprc"] = float(
        np.mean([average_precision_score(labels == k, scores[:, k]) for k in judged])
    )
    return metrics


def mean_metrics(per_target: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the targets that have it, NaN ones left out (all NaN: NaN)."""
    listed = list(per_target)
    result = {}
    for name in dict.fromkeys(name for one in listed for name in one):
        values = np.array([one[name] for one in listed if name in one], dtype=np.float64)
        result[name] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
    return result


def _vector(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _matched(y: npt.ArrayLike, prediction: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    truth, guess = _vector(y), _vector(prediction)
    if len(truth) != len(guess):
        raise DataError(f"{len(guess)} predictions for {len(truth)} measured values")
    return truth, guess


def _require_finite(values: FloatArray) -> None:
    finite = np.isfinite(values)
    wrong = np.flatnonzero(~(finite if finite.ndim == 1 else finite.all(axis=1)))
    if len(wrong):
        raise DataError(f"{len(wrong)} predictions are not finite (first at index {wrong[0]})")
