"""Bootstrap intervals of metrics, thousands of resamples at once.

A resample of n rows is a row of counts. Every metric here is written for counts (ranks, areas
and correlations of the resampled table follow from sums and cumulative sums of counts), so a block
of resamples is one array operation. At counts of one each equals `moltide.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from moltide.errors import ConfigError, DataError
from moltide.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS

FloatArray = npt.NDArray[np.float64]
#: (value, low, high)
Interval = tuple[float, float, float]
_Metric = Callable[[FloatArray], FloatArray]
_BLOCK = 3_000_000


def resample_counts(
    n: int, resamples: int, seed: int, groups: npt.ArrayLike | None = None
) -> Iterator[FloatArray]:
    """Blocks (b, n) of how often each row is drawn; `groups` (n,) are drawn whole."""
    members = np.arange(n)
    if groups is not None:
        members = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    units = int(members.max()) + 1 if n else 0
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // max(1, n, units))
    for start in range(0, resamples, size):
        block = min(size, resamples - start)
        drawn = generator.integers(0, units, (block, units))
        drawn += np.arange(block)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=block * units).reshape(block, units)
        yield counts[:, members].astype(np.float64)


def bootstrap_intervals(
    y: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    metrics: Sequence[str],
    *,
    n_classes: int = 2,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
) -> dict[str, dict[str, Interval]]:
    """Value and percentile interval of each metric for each prediction, on shared resamples.

    Args:
        y: (n,) labels, NaN = not measured (left out); class index for classification metrics.
        predictions: by name, (n,) or (n, n_classes).
        metrics: names of `moltide.metrics`.
        groups: (n,) clusters that are resampled whole.

    Raises:
        ConfigError: an unknown metric.
        DataError: lengths that differ.
    """
    names = list(predictions)
    truth, tables, kept = _measured(y, [predictions[name] for name in names], groups)
    out: dict[str, dict[str, Interval]] = {name: {} for name in names}
    for metric in metrics:
        values, samples = _samples(truth, tables, metric, n_classes, resamples, seed, kept)
        for name, value, sample in zip(names, values, samples, strict=True):
            out[name][metric] = (float(value), *percentile_interval(sample, level))
    return out


def paired_bootstrap(
    y: npt.ArrayLike,
    prediction_a: npt.ArrayLike,
    prediction_b: npt.ArrayLike,
    metric: str = "spearman",
    *,
    n: int = 2000,
    seed: int = 0,
    groups: npt.ArrayLike | None = None,
    n_classes: int = 2,
    level: float = 0.95,
) -> Interval:
    """metric(a) - metric(b) and its percentile interval, both judged on the same resamples.

    Arguments as in `bootstrap_intervals`; the interval is NaN where resamples leave the metric
    undefined more than one time in ten.
    """
    truth, tables, kept = _measured(y, [prediction_a, prediction_b], groups)
    values, samples = _samples(truth, tables, metric, n_classes, n, seed, kept)
    return (float(values[0] - values[1]), *percentile_interval(samples[0] - samples[1], level))


def percentile_interval(samples: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Central percentile interval; NaN if over a tenth of the samples is undefined."""
    known = samples[~np.isnan(samples)]
    if len(known) < 0.9 * len(samples) or len(known) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def _measured(
    y: npt.ArrayLike, predictions: Sequence[npt.ArrayLike], groups: npt.ArrayLike | None
) -> tuple[FloatArray, list[FloatArray], npt.ArrayLike | None]:
    truth = np.asarray(y, np.float64).reshape(-1)
    known = ~np.isnan(truth)
    tables = []
    for prediction in predictions:
        table = np.asarray(prediction, np.float64)
        if len(table) != len(truth):
            raise DataError(f"{len(table)} predictions for {len(truth)} measured values")
        tables.append(table[known])
    return truth[known], tables, None if groups is None else np.asarray(groups)[known]


def _samples(
    y: FloatArray,
    predictions: list[FloatArray],
    metric: str,
    n_classes: int,
    resamples: int,
    seed: int,
    groups: npt.ArrayLike | None,
) -> tuple[FloatArray, FloatArray]:
    """(m,) values on the data and (m, resamples) values on resamples."""
    if metric not in (*REGRESSION_METRICS, *CLASSIFICATION_METRICS):
        allowed = ", ".join((*REGRESSION_METRICS, *CLASSIFICATION_METRICS))
        raise ConfigError(f"metric is {metric!r}; allowed: {allowed}")
    if len(y) == 0:
        return np.full(len(predictions), np.nan), np.full((len(predictions), resamples), np.nan)
    evaluate = [_metric(metric, y, prediction, n_classes) for prediction in predictions]
    once = np.ones((1, len(y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.array([one(once)[0] for one in evaluate])
        blocks = [
            np.stack([one(counts) for one in evaluate])
            for counts in resample_counts(len(y), resamples, seed, groups)
        ]
    return values, np.concatenate(blocks, axis=1)


def _metric(name: str, y: FloatArray, prediction: FloatArray, n_classes: int) -> _Metric:
    if name == "spearman":
        return _spearman(y, prediction)
    if name == "pearson":
        return _pearson(y, prediction)
    if name in ("rmse", "mae"):
        error = np.abs(y - prediction)
        if name == "mae":
            return lambda c: c @ error / c.sum(axis=1)
        return lambda c: np.sqrt(c @ error**2 / c.sum(axis=1))
    if name == "r2":
        return _r2(y, prediction)
    scores = prediction
    if scores.ndim == 1:
        scores = np.stack([1 - scores, scores], axis=1)
    labels = y.astype(np.int64)
    if name in ("mcc", "accuracy"):
        return _confusion_metric(name, labels, scores.argmax(axis=1), n_classes)
    present = np.unique(labels)
    judged = [1] if n_classes == 2 else present.tolist()
    area = _auroc if name == "auroc" else _auprc
    parts = [area(labels == k, scores[:, k]) for k in judged]
    return lambda c: _nanmean(np.stack([part(c) for part in parts]))


def _spearman(y: FloatArray, prediction: FloatArray) -> _Metric:
    rank_y, rank_p = _Ranks(y), _Ranks(prediction)

    def evaluate(counts: FloatArray) -> FloatArray:
        # The mean rank is known, so the centred sums need one pass over each product.
        middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
        b = rank_p(counts) - middle
        weighted = counts * b
        spread_b = np.einsum("ij,ij->i", weighted, b)
        a = rank_y(counts) - middle
        product = np.einsum("ij,ij->i", weighted, a)
        spread_a = np.einsum("ij,ij,ij->i", counts, a, a)
        value = np.clip(product / np.sqrt(spread_a * spread_b), -1.0, 1.0)
        return np.where(spread_a == 0, np.nan, np.where(spread_b == 0, 0.0, value))

    return evaluate


def _nanmean(values: FloatArray) -> FloatArray:
    known = ~np.isnan(values)
    total: FloatArray = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return total


class _Ranks:
    """Mid-ranks of a fixed vector under row counts: (b, n) counts to (b, n) ranks."""

    def __init__(self, values: FloatArray) -> None:
        _, group = np.unique(values, return_inverse=True)
        self.group = group.reshape(-1)
        self.order = np.argsort(self.group, kind="stable")
        ordered = self.group[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def sums(self, counts: FloatArray) -> FloatArray:
        """Counts of each distinct value, ascending."""
        if len(self.starts) == len(self.order):
            return counts[:, self.order]
        return np.add.reduceat(counts[:, self.order], self.starts, axis=1)

    def __call__(self, counts: FloatArray) -> FloatArray:
        held = self.sums(counts)
        middle = np.cumsum(held, axis=1) - 0.5 * held + 0.5
        return middle[:, self.group]


def _correlation(counts: FloatArray, a: FloatArray, b: FloatArray) -> FloatArray:
    """Weighted Pearson correlation per row: constant `b` gives 0, constant `a` NaN."""
    total = counts.sum(axis=1, keepdims=True)
    a = a - (counts * a).sum(axis=1, keepdims=True) / total
    b = b - (counts * b).sum(axis=1, keepdims=True) / total
    spread_a = (counts * a * a).sum(axis=1)
    spread_b = (counts * b * b).sum(axis=1)
    # Rounding leaves a constant column a little spread: relative to the largest deviation, none.
    scale_a = 1e-20 * total[:, 0] * np.maximum(np.abs(a).max(axis=1), 1e-150) ** 2
    scale_b = 1e-20 * total[:, 0] * np.maximum(np.abs(b).max(axis=1), 1e-150) ** 2
    value = (counts * a * b).sum(axis=1) / np.sqrt(spread_a * spread_b)
    value = np.where(spread_b <= scale_b, 0.0, np.clip(value, -1.0, 1.0))
    return np.where(spread_a <= scale_a, np.nan, value)


def _pearson(y: FloatArray, prediction: FloatArray) -> _Metric:
    a, b = _centred(y), _centred(prediction)
    powers = np.stack([a, b, a * a, b * b, a * b], axis=1)
    floor = 1e-6 * powers.max(axis=0)[2:4]

    def evaluate(counts: FloatArray) -> FloatArray:
        total = counts.sum(axis=1)
        mean_a, mean_b, square_a, square_b, product = (counts @ powers).T / total
        spread_a, spread_b = square_a - mean_a**2, square_b - mean_b**2
        value: FloatArray = (product - mean_a * mean_b) / np.sqrt(spread_a * spread_b)
        # Sums of powers lose a spread far below the largest deviation: those rows are done anew.
        doubtful = ~((spread_a > floor[0]) & (spread_b > floor[1]))
        value[doubtful] = _correlation(counts[doubtful], a[None, :], b[None, :])
        return np.clip(value, -1.0, 1.0)

    return evaluate


def _centred(values: FloatArray) -> FloatArray:
    """Deviations from the mean; of equal values exactly zero, which their mean may miss."""
    return np.zeros_like(values) if np.ptp(values) == 0 else values - values.mean()


def _r2(y: FloatArray, prediction: FloatArray) -> _Metric:
    centred, squared = _centred(y), (y - prediction) ** 2
    powers = np.stack([centred, centred**2, squared], axis=1)
    floor = 1e-6 * powers[:, 1].max()

    def evaluate(counts: FloatArray) -> FloatArray:
        total = counts.sum(axis=1)
        mean, square, error = (counts @ powers).T / total
        spread = square - mean**2
        doubtful = ~(spread > floor)
        exact = centred - mean[doubtful, None]
        spread[doubtful] = (counts[doubtful] * exact**2).sum(axis=1) / total[doubtful]
        tiny = np.zeros(len(total))
        tiny[doubtful] = 1e-20 * np.abs(exact).max(axis=1, initial=0.0) ** 2
        return np.where(spread <= tiny, np.nan, 1.0 - error / spread)

    return evaluate


def _auroc(positive: npt.NDArray[np.bool_], score: FloatArray) -> _Metric:
    ranks = _Ranks(score)

    def evaluate(counts: FloatArray) -> FloatArray:
        held = counts[:, positive]
        ones = held.sum(axis=1)
        zeros = counts.sum(axis=1) - ones
        rank_sum = (held * ranks(counts)[:, positive]).sum(axis=1)
        area: FloatArray = (rank_sum - ones * (ones + 1) / 2) / (ones * zeros)
        return area

    return evaluate


def _auprc(positive: npt.NDArray[np.bool_], score: FloatArray) -> _Metric:
    ranks = _Ranks(-score)

    def evaluate(counts: FloatArray) -> FloatArray:
        everything = np.cumsum(ranks.sums(counts), axis=1)
        hits = ranks.sums(counts * positive)
        found = np.cumsum(hits, axis=1)
        precision = np.where(everything > 0, found / np.maximum(everything, 1e-300), 0.0)
        total = found[:, -1]
        value = (hits * precision).sum(axis=1) / total
        return np.where(total == counts.sum(axis=1), np.nan, value)

    return evaluate


def _confusion_metric(
    name: str, labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], n_classes: int
) -> _Metric:
    cells = np.eye(n_classes**2)[labels * n_classes + predicted]

    def evaluate(counts: FloatArray) -> FloatArray:
        table = (counts @ cells).reshape(-1, n_classes, n_classes)
        total = counts.sum(axis=1)
        correct = np.trace(table, axis1=1, axis2=2)
        if name == "accuracy":
            share: FloatArray = correct / total
            return share
        truth, guess = table.sum(axis=2), table.sum(axis=1)
        covariance = correct * total - (truth * guess).sum(axis=1)
        spread = (total**2 - (truth**2).sum(axis=1)) * (total**2 - (guess**2).sum(axis=1))
        return np.where(spread > 0, covariance / np.sqrt(np.maximum(spread, 1e-300)), 0.0)

    return evaluate
