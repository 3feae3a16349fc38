"""Ridge and ridge-penalised logistic regression with the penalty chosen by held-out error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.result import BoolArray, FloatArray, TargetFit

IntArray = npt.NDArray[np.int64]

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

    def choices(self) -> tuple[list[tuple[IntArray, IntArray]], str]:
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


def fit_linear(known: Any, test: Any, problem: Problem, penalties: FloatArray) -> TargetFit:
    """Fit on train + validation rows at the penalty with the least held-out error.

    `known` (n_known, p) and `test` (n_test, p) are CSR or dense; `penalties` ascend. Validation
    predictions come from a fit on the training rows alone.
    """
    best, how = choose_penalty(known, problem, penalties)
    chosen = penalties[best : best + 1]
    valid = None
    if problem.is_valid.any():
        target = known[np.flatnonzero(problem.is_valid)]
        valid = next(iter(_path(known, problem, problem.train_rows, target, chosen)))
    prediction = next(iter(_path(known, problem, problem.fit_rows, test, chosen)))
    penalty = float(chosen[0])
    note = f"penalty {penalty:.3g}, {how}; fitted on {_rows_text(problem)}"
    return TargetFit(prediction, valid, note, {"penalty": penalty, "chosen": how})


def choose_penalty(known: Any, problem: Problem, penalties: FloatArray) -> tuple[int, str]:
    """(index of the penalty with the least held-out error, how it was chosen)."""
    pairs, how = problem.choices()
    losses = np.zeros(len(penalties))
    for fit, check in pairs:
        losses += [
            problem.loss(prediction, check) * len(check)
            for prediction in _path(known, problem, fit, known[check], penalties)
        ]
    # Among equal losses the strongest penalty; with nothing to choose by, the middle one.
    if not pairs:
        return len(penalties) // 2, how
    return int(np.flatnonzero(losses <= losses.min() * (1 + 1e-12))[-1]), how


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


def _rows_text(problem: Problem) -> str:
    count = f"{len(problem.fit_rows):,} rows"
    return f"train + validation ({count})" if len(problem.valid_rows) else f"train ({count})"


def _path(
    features: Any, problem: Problem, rows: IntArray, target: Any, penalties: FloatArray
) -> Iterator[FloatArray]:
    """Predictions for `target` after a fit on `rows`, one for each penalty in turn."""
    y, weights = problem.y[rows], problem.weights[rows]
    if len(rows) < 2 or np.all(y == y[0]):
        for _ in penalties:
            yield problem.constant(target.shape[0], rows)
        return
    if problem.task == "regression":
        yield from _ridge_path(features[rows], y, weights, target, penalties)
    else:
        yield from _logistic_path(
            features[rows], y.astype(np.int64), weights, target, penalties, problem.n_classes
        )


def _ridge_path(
    x: Any, y: FloatArray, weights: FloatArray, target: Any, penalties: FloatArray
) -> Iterator[FloatArray]:
    from scipy import sparse

    n, p = x.shape
    if sparse.issparse(x) and p > 256 and (p > MAX_COLUMNS or x.nnz < FEW_ENTRIES * n):
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=penalties, solver="sparse_cg", tol=1e-6)
        repeated = np.tile(y[:, None], (1, len(penalties)))
        model.fit(x, repeated, sample_weight=weights)
        prediction = np.asarray(model.predict(target), np.float64)
        yield from prediction.reshape(target.shape[0], -1).T
        return
    # Normal equations: one Gram matrix serves every penalty, and stays small however many rows.
    from scipy import linalg

    total = weights.sum()
    centre = np.asarray(x.T @ weights, np.float64) / total
    offset = float(weights @ y / total)
    scaled = x.multiply(weights[:, None]).tocsr() if sparse.issparse(x) else x * weights[:, None]
    gram = x.T @ scaled
    gram = np.asarray(gram.toarray() if sparse.issparse(gram) else gram, np.float64)
    gram -= total * np.outer(centre, centre)
    moment = np.asarray(scaled.T @ (y - offset), np.float64)
    diagonal = gram.diagonal().copy()
    for penalty in penalties:
        np.fill_diagonal(gram, diagonal + penalty)
        coefficients = linalg.solve(gram, moment, assume_a="pos")
        yield np.asarray(target @ coefficients, np.float64) + (offset - centre @ coefficients)


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
