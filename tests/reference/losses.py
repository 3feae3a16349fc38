"""Float64 losses: (weighted sum, gradient of the sum). NaN targets and label -1 are no terms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, log_softmax

Array = NDArray[np.float64]


def _terms(target: Array, weight: Array | None) -> tuple[NDArray[np.bool_], Array]:
    """Which terms are present, and what each weighs (0 where missing)."""
    target = np.asarray(target, np.float64)
    present = ~np.isnan(target)
    rows = np.ones(len(target)) if weight is None else np.asarray(weight, np.float64)
    return present, np.where(present, rows[:, None], 0.0)


def loss_weight(target: Array, weight: Array | None = None) -> float:
    return float(_terms(target, weight)[1].sum())


def _pointwise(loss: Array, gradient: Array, weights: Array) -> tuple[float, Array]:
    used = weights > 0
    return float((loss[used] * weights[used]).sum()), np.where(used, gradient * weights, 0.0)


def mse(pred: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    present, weights = _terms(target, weight)
    d = np.where(present, pred - target, 0.0)
    return _pointwise(d * d, 2 * d, weights)


def huber(
    pred: Array, target: Array, delta: float, weight: Array | None = None
) -> tuple[float, Array]:
    present, weights = _terms(target, weight)
    d = np.where(present, pred - target, 0.0)
    inside = np.abs(d) <= delta
    loss = np.where(inside, d * d / 2, delta * (np.abs(d) - delta / 2))
    return _pointwise(loss, np.clip(d, -delta, delta), weights)


def bce(logits: Array, target: Array, weight: Array | None = None) -> tuple[float, Array]:
    present, weights = _terms(target, weight)
    y = np.where(present, target, 0.0)
    x = np.asarray(logits, np.float64)
    loss = np.logaddexp(0.0, x) - x * y
    sigmoid = np.exp(-np.logaddexp(0.0, -x))
    return _pointwise(loss, sigmoid - y, weights)


def cross_entropy(
    logits: Array, label: NDArray[np.int32], weight: Array | None = None
) -> tuple[float, Array]:
    x = np.asarray(logits, np.float64)
    rows = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    rows = np.where(label >= 0, rows, 0.0)
    log_p = log_softmax(x, axis=1)
    onehot = np.zeros_like(x)
    used = np.flatnonzero(label >= 0)
    onehot[used, label[used]] = 1.0
    loss = -(log_p * onehot).sum(axis=1)
    gradient = np.where(rows[:, None] > 0, (np.exp(log_p) - onehot) * rows[:, None], 0.0)
    return float((loss * rows)[rows > 0].sum()), gradient


def mixed(
    pred: Array,
    target: Array,
    censor: NDArray[np.int8] | None,
    column: list[str],
    delta: float,
    log_sigma: Array,
    weight: Array | None = None,
) -> tuple[float, Array, Array]:
    """(sum, gradient of pred, gradient of log_sigma) of columns of several losses; weight (n, k).

    A term's gradient is that of its loss times its weight, so each value stands alone here.
    """
    total, dpred, dlog_sigma = 0.0, np.zeros_like(pred), np.zeros(len(column))
    for i, c in np.ndindex(pred.shape):
        x, y, w = pred[i : i + 1, c : c + 1], target[i : i + 1, c : c + 1], np.ones(1)
        if weight is not None:
            w = weight[i : i + 1, c]
        if column[c] == "tobit":
            kind = None if censor is None else censor[i : i + 1, c : c + 1]
            value, d, dlog = tobit(x, y, kind, log_sigma[c : c + 1], w)
            dlog_sigma[c] += dlog[0]
        elif column[c] == "huber":
            value, d = huber(x, y, delta, w)
        else:
            value, d = {"mse": mse, "bce": bce}[column[c]](x, y, w)
        total += value
        dpred[i, c] = d[0, 0]
    return total, dpred, dlog_sigma


def known_above(target: Array, censor: NDArray[np.int8] | None = None) -> NDArray[np.bool_]:
    """(n, n) of one column: True at (i, j) when the true value of row i is surely above row j's."""
    target = np.asarray(target, np.float64)
    kind = np.zeros(len(target), np.int8) if censor is None else np.asarray(censor)
    low = np.where(kind < 0, -np.inf, target)  # each true value lies in [low, high]
    high = np.where(kind > 0, np.inf, target)
    open_end = (kind != 0)[:, None] | (kind != 0)[None, :]
    above = (low[:, None] > high[None, :]) | ((low[:, None] == high[None, :]) & open_end)
    return above & np.isfinite(low)[:, None] & np.isfinite(high)[None, :]


def ranking(
    pred: Array,
    target: Array,
    censor: NDArray[np.int8] | None = None,
    weight: Array | None = None,
) -> tuple[float, Array, int, float]:
    """RankNet over every pair of known order: (sum, gradient, number of pairs, sum of weights)."""
    pred = np.asarray(pred, np.float64)
    rows = np.ones(len(pred)) if weight is None else np.asarray(weight, np.float64)
    total, pairs, pair_weight = 0.0, 0, 0.0
    gradient = np.zeros_like(pred)
    for c in range(pred.shape[1]):
        above = known_above(target[:, c], None if censor is None else censor[:, c])
        w = np.where(above, rows[:, None] * rows[None, :], 0.0)
        margin = pred[:, None, c] - pred[None, :, c]
        total += float((w * np.logaddexp(0.0, -margin)).sum())
        slope = -w * np.exp(-np.logaddexp(0.0, margin))
        gradient[:, c] = slope.sum(axis=1) - slope.sum(axis=0)
        pairs += int(above.sum())
        pair_weight += float(w.sum())
    return total, gradient, pairs, pair_weight


def log_normal_cdf(z: Array) -> tuple[Array, Array]:
    """log Phi(z) and phi(z) / Phi(z), through the scaled complementary error function."""
    z = np.asarray(z, np.float64)
    with np.errstate(over="ignore", divide="ignore"):
        ratio = np.sqrt(2 / np.pi) / erfcx(-z / np.sqrt(2))
    return log_ndtr(z), ratio


def tobit(
    pred: Array,
    target: Array,
    censor: NDArray[np.int8] | None,
    log_sigma: Array,
    weight: Array | None = None,
) -> tuple[float, Array, Array]:
    """(sum, gradient of pred, gradient of log_sigma) of the censored Gaussian likelihood."""
    present, weights = _terms(target, weight)
    kind = np.zeros(pred.shape, np.int8) if censor is None else np.asarray(censor)
    sigma = np.exp(np.asarray(log_sigma, np.float64))
    z = (np.where(present, target, 0.0) - pred) / sigma
    side = np.where(kind > 0, -1.0, 1.0)  # "> t": log Phi((pred - t) / sigma); "< t" the mirror
    log_cdf, ratio = log_normal_cdf(side * z)
    exact = kind == 0
    density = z * z / 2 + log_sigma + np.log(2 * np.pi) / 2
    loss = np.where(exact, density, -log_cdf)
    dz = np.where(exact, z, -side * ratio)
    total, dpred = _pointwise(loss, -dz / sigma, weights)
    dlog_sigma = _pointwise(loss, np.where(exact, 1.0, 0.0) - dz * z, weights)[1].sum(axis=0)
    return total, dpred, dlog_sigma
