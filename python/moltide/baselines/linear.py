"""Ridge and ridge-penalised logistic regression with the penalty chosen by held-out error."""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.result import BoolArray, FloatArray, TargetFit

IntArray = npt.NDArray[np.int64]
Pairs = list[tuple[IntArray, IntArray]]

#: Up to this many columns the normal equations are formed; denser tables are cut down to it.
MAX_COLUMNS = 2500
#: Rows with fewer entries than this (variants of one wild type) go to conjugate gradients.
FEW_ENTRIES = 30
#: Fewer measured validation rows than this choose nothing: cross-validation does.
MIN_VALID = 50
FOLDS = 5


@dataclass
class Problem:
    """One target: labels of the known (train, then validation) rows, NaN where not measured."""

    y: FloatArray
    weights: FloatArray
    is_valid: BoolArray
    groups: IntArray | None
    task: str
    n_classes: int
    seed: int

    def take(self, rows: IntArray) -> Problem:
        """The same for some of the known rows."""
        groups = None if self.groups is None else self.groups[rows]
        y, weights, is_valid = self.y[rows], self.weights[rows], self.is_valid[rows]
        return Problem(y, weights, is_valid, groups, self.task, self.n_classes, self.seed)

    @property
    def measured(self) -> BoolArray:
        return ~np.isnan(self.y)

    @property
    def fit_rows(self) -> IntArray:
        return np.flatnonzero(self.measured)

    @property
    def train_rows(self) -> IntArray:
        return np.flatnonzero(self.measured & ~self.is_valid)

    @property
    def valid_rows(self) -> IntArray:
        return np.flatnonzero(self.measured & self.is_valid)

    def choices(self) -> tuple[Pairs, str]:
        """(fit rows, check rows) pairs by which a setting is chosen, and how to say so."""
        if len(self.valid_rows) >= MIN_VALID and len(self.train_rows) > 1:
            pairs = [(self.train_rows, self.valid_rows)]
            return pairs, f"chosen on {len(self.valid_rows):,} validation rows"
        rows = self.fit_rows
        folds = min(FOLDS, len(rows))
        if folds < 2:
            return [], "not chosen: fewer than two measured rows"
        return list(self._folds(rows, folds)), f"chosen by {folds}-fold cross-validation"

    def _folds(self, rows: IntArray, folds: int) -> Iterator[tuple[IntArray, IntArray]]:
        from sklearn.model_selection import GroupKFold, KFold

        groups = None if self.groups is None else self.groups[rows]
        if groups is not None and len(np.unique(groups)) >= folds:
            splits = GroupKFold(folds).split(rows, groups=groups)
        else:
            splits = KFold(folds, shuffle=True, random_state=self.seed).split(rows)
        for fit, check in splits:
            yield rows[fit], rows[check]

    def rows_text(self) -> str:
        """What the final fit is fitted to."""
        count = f"{len(self.fit_rows):,} rows"
        return f"train + validation ({count})" if len(self.valid_rows) else f"train ({count})"

    def loss(self, prediction: FloatArray, rows: IntArray) -> float:
        """Weighted squared error or log loss over `rows`; `prediction` is in the order of rows."""
        y, weights = self.y[rows], self.weights[rows]
        if self.task == "regression":
            return float(np.average((prediction - y) ** 2, weights=weights))
        chosen = prediction[np.arange(len(rows)), y.astype(np.int64)]
        return float(np.average(-np.log(np.clip(chosen, 1e-9, 1.0)), weights=weights))

    def constant(self, n: int, rows: IntArray) -> FloatArray:
        """The weighted mean, or class frequencies, of `rows` repeated `n` times."""
        if self.task == "regression":
            value = np.average(self.y[rows], weights=self.weights[rows]) if len(rows) else np.nan
            return np.full(n, value)
        classes = self.y[rows].astype(np.int64)
        counts = np.bincount(classes, self.weights[rows], minlength=self.n_classes)
        total = counts.sum()
        share = counts / total if total > 0 else np.full(self.n_classes, 1.0 / self.n_classes)
        return np.tile(share, (n, 1))


@dataclass
class _Moments:
    """Weighted sums over some rows: all that a ridge needs to know of them. They add up."""

    gram: FloatArray  # (p, p) X' W X
    cross: FloatArray  # (p,) X' W y
    columns: FloatArray  # (p,) X' w
    weight: float
    target: float

    @classmethod
    def of(cls, x: Any, y: FloatArray, weights: FloatArray) -> _Moments:
        from scipy import sparse

        scaled = (
            x.multiply(weights[:, None]).tocsr() if sparse.issparse(x) else x * weights[:, None]
        )
        gram = x.T @ scaled
        return cls(
            np.asarray(gram.toarray() if sparse.issparse(gram) else gram, np.float64),
            np.asarray(scaled.T @ y, np.float64),
            np.asarray(x.T @ weights, np.float64),
            float(weights.sum()),
            float(weights @ y),
        )

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.columns + other.columns,
            self.weight + other.weight,
            self.target + other.target,
        )

    def ridges(self, penalties: FloatArray) -> Iterator[tuple[FloatArray, float]]:
        """(coefficients (p,), intercept) at each penalty."""
        from scipy import linalg

        centre, offset = self.columns / self.weight, self.target / self.weight
        gram = self.gram - self.weight * np.outer(centre, centre)
        cross = self.cross - self.target * centre
        diagonal = gram.diagonal().copy()
        for penalty in penalties:
            np.fill_diagonal(gram, diagonal + penalty)
            coefficients = linalg.solve(gram, cross, assume_a="pos")
            yield coefficients, offset - float(centre @ coefficients)


class _RidgeSums:
    """Moments of the row sets of one choice and its fits; every row is summed up once."""

    def __init__(self, known: Any, problem: Problem, sets: list[IntArray]) -> None:
        rows = problem.fit_rows
        inside = np.stack([np.isin(rows, one) for one in sets], axis=1)
        kinds, kind = np.unique(inside, axis=0, return_inverse=True)
        self._parts = []
        for k in range(len(kinds)):
            own = rows[kind.ravel() == k]
            self._parts.append((own, _Moments.of(known[own], problem.y[own], problem.weights[own])))

    def of(self, rows: IntArray) -> _Moments:
        """The moments of one of the sets."""
        found = [moments for own, moments in self._parts if np.isin(own[0], rows)]
        return functools.reduce(operator.add, found)


def fit_linear(known: Any, test: Any, problem: Problem, penalties: FloatArray) -> TargetFit:
    """Fit on train + validation rows at the penalty with the least held-out error.

    `known` (n_known, p) and `test` (n_test, p) are CSR or dense; `penalties` ascend. Validation
    predictions come from a fit on the training rows alone.
    """
    pairs, how = problem.choices()
    sums = None
    few = len(problem.fit_rows) < known.shape[1]
    if problem.task == "regression" and not few and not _prefers_gradients(known):
        sets = [fit for fit, _ in pairs]
        sums = _RidgeSums(known, problem, [*sets, problem.train_rows, problem.fit_rows])
    best = _best_penalty(known, problem, pairs, penalties, sums)
    chosen = penalties[best : best + 1]
    valid = None
    if problem.is_valid.any():
        target = known[np.flatnonzero(problem.is_valid)]
        valid = next(iter(_path(known, problem, problem.train_rows, target, chosen, sums)))
    prediction = next(iter(_path(known, problem, problem.fit_rows, test, chosen, sums)))
    penalty = float(chosen[0])
    note = f"penalty {penalty:.3g}, {how}; fitted on {problem.rows_text()}"
    return TargetFit(prediction, valid, note, {"penalty": penalty, "chosen": how})


def choose_penalty(known: Any, problem: Problem, penalties: FloatArray) -> tuple[int, str]:
    """(index of the penalty with the least held-out error, how it was chosen), for classes."""
    pairs, how = problem.choices()
    return _best_penalty(known, problem, pairs, penalties, None), how


def _best_penalty(
    known: Any, problem: Problem, pairs: Pairs, penalties: FloatArray, sums: _RidgeSums | None
) -> int:
    losses = np.zeros(len(penalties))
    for fit, check in pairs:
        losses += [
            problem.loss(prediction, check) * len(check)
            for prediction in _path(known, problem, fit, known[check], penalties, sums)
        ]
    # Among equal losses the strongest penalty; with nothing to choose by, the middle one.
    if not pairs:
        return len(penalties) // 2
    return int(np.flatnonzero(losses <= losses.min() * (1 + 1e-12))[-1])


def most_variable(known: Any) -> IntArray:
    """Columns of a CSR table that a linear fit uses: all, or the most variable if there are many.

    Tables with few entries a row keep every column: they are cheap at any width.
    """
    n, p = known.shape
    if p <= MAX_COLUMNS or known.nnz < FEW_ENTRIES * n:
        return np.arange(p)
    mean = np.asarray(known.mean(axis=0), np.float64).ravel()
    square = np.asarray(known.multiply(known).mean(axis=0), np.float64).ravel()
    order = np.argsort(-(square - mean**2), kind="stable")
    return np.sort(order[:MAX_COLUMNS])


def _path(
    features: Any,
    problem: Problem,
    rows: IntArray,
    target: Any,
    penalties: FloatArray,
    sums: _RidgeSums | None,
) -> Iterator[FloatArray]:
    """Predictions for `target` after a fit on `rows`, one for each penalty in turn.

    A ridge with `sums` solves the normal equations of its columns; of fewer rows than columns,
    those of its rows; where either is too wide, it follows gradients.
    """
    y, weights = problem.y[rows], problem.weights[rows]
    if len(rows) < 2 or np.all(y == y[0]):
        for _ in penalties:
            yield problem.constant(target.shape[0], rows)
    elif problem.task != "regression":
        yield from _logistic_path(
            features[rows], y.astype(np.int64), weights, target, penalties, problem.n_classes
        )
    elif sums is not None:
        for coefficients, intercept in sums.of(rows).ridges(penalties):
            yield np.asarray(target @ coefficients, np.float64) + intercept
    elif _prefers_gradients(features):
        yield from _gradient_path(features[rows], y, weights, target, penalties)
    else:
        yield from _row_path(features[rows], y, weights, target, penalties)


def _row_path(
    x: Any, y: FloatArray, weights: FloatArray, target: Any, penalties: FloatArray
) -> Iterator[FloatArray]:
    """The ridge of few rows: its coefficients are sums of them, as many unknowns as rows."""
    from scipy import linalg, sparse

    def dense(rows: Any) -> FloatArray:
        return np.asarray(rows.toarray() if sparse.issparse(rows) else rows, np.float64)

    offset = float(weights @ y / weights.sum())
    root, table = np.sqrt(weights), dense(x)
    centre = weights @ table / weights.sum()
    table = (table - centre) * root[:, None]
    gram, moment = table @ table.T, (y - offset) * root
    diagonal = gram.diagonal().copy()
    for penalty in penalties:
        np.fill_diagonal(gram, diagonal + penalty)
        coefficients = table.T @ linalg.solve(gram, moment, assume_a="pos")
        yield np.asarray(target @ coefficients, np.float64) + (
            offset - float(centre @ coefficients)
        )


def _prefers_gradients(x: Any) -> bool:
    """Whether conjugate gradients beat the normal equations: wide tables with few entries a row."""
    from scipy import sparse

    n, p = x.shape
    few = sparse.issparse(x) and x.nnz < FEW_ENTRIES * n
    return bool(sparse.issparse(x) and p > 256 and (p > MAX_COLUMNS or few))


def _gradient_path(
    x: Any, y: FloatArray, weights: FloatArray, target: Any, penalties: FloatArray
) -> Iterator[FloatArray]:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=penalties, solver="sparse_cg", tol=1e-6)
    repeated = np.tile(y[:, None], (1, len(penalties)))
    model.fit(x, repeated, sample_weight=weights)
    prediction = np.asarray(model.predict(target), np.float64)
    yield from prediction.reshape(target.shape[0], -1).T


def logistic_fits(x: Any, y: IntArray, weights: FloatArray, penalties: FloatArray) -> Iterator[Any]:
    """scikit-learn's logistic regression (one object, fitted anew) at each penalty, from the last
    to the first: from strong to weak each start is close to its solution."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=300, tol=1e-4, warm_start=True)
    for penalty in penalties[::-1]:
        model.C = 1.0 / float(penalty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged to the last digit is good enough
            model.fit(x, y, sample_weight=weights)
        yield model


def _logistic_path(
    x: Any, y: IntArray, weights: FloatArray, target: Any, penalties: FloatArray, n_classes: int
) -> Iterator[FloatArray]:
    fitted = []
    for model in logistic_fits(x, y, weights, penalties):
        probability = np.zeros((target.shape[0], n_classes))
        probability[:, model.classes_] = model.predict_proba(target)
        fitted.append(probability)
    yield from fitted[::-1]
