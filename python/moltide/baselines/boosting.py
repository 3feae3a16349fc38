"""Gradient boosting of small trees (Friedman 2001), stopped where held-out rows are fitted best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from moltide.baselines.forest import balancing
from moltide.baselines.linear import IntArray, Problem
from moltide.baselines.result import FloatArray, TargetFit

ROUNDS = 400
RATE, LEAVES, LEAF_ROWS, PENALTY = 0.1, 15, 5, 1.0
# Columns of counts have few values.
_BINS = 16
_BLOCK = 4096
Result = TypeVar("Result")


def fit_boosting(known: Any, test: Any, problems: Sequence[Problem]) -> list[TargetFit]:
    """For each target trees fitted to the measured rows of `known`, predicting `test`, both CSR.

    The number of rounds, up to `ROUNDS`, is the one with the least held-out error. Classes weigh as
    much as each other in fitting, and probabilities are put back to the classes' shares. Targets
    and folds are fitted side by side, each on one thread, whose sums have an order.
    """
    chosen = _chosen_rounds(known, problems)
    jobs = []
    for problem, (rounds, _) in zip(problems, chosen, strict=True):
        queries = known[np.flatnonzero(problem.is_valid)]
        jobs.append(_job(_fitted, known, queries, problem, problem.train_rows, rounds))
        jobs.append(_job(_fitted, known, test, problem, problem.fit_rows, rounds))
    found = iter(_in_threads(jobs))
    fits = []
    for problem, (rounds, how) in zip(problems, chosen, strict=True):
        valid, prediction = next(found), next(found)
        note = f"{rounds} rounds of {LEAVES} leaves, {how}; fitted on {problem.rows_text()}"
        if problem.task != "regression":
            note += ", classes of equal weight"
        held = valid if problem.is_valid.any() else None
        fits.append(TargetFit(prediction, held, note, {"rounds": rounds, "chosen": how}))
    return fits


def _job(function: Callable[..., Result], *given: Any) -> Callable[[], Result]:
    return lambda: function(*given)


def _in_threads(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """What each gives, in order; several at a time, and each on one thread."""
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    from moltide._engine import num_threads

    def run(job: Callable[[], Result]) -> Result:
        # The limit is the thread's own.
        with threadpool_limits(1, "openmp"):
            return job()

    with ThreadPoolExecutor(max(1, min(num_threads(), len(jobs)))) as pool:
        return list(pool.map(run, jobs))


def _chosen_rounds(known: Any, problems: Sequence[Problem]) -> list[tuple[int, str]]:
    """For each target the number of rounds with the least held-out error, and how it was chosen."""
    jobs, of = [], []
    for index, problem in enumerate(problems):
        for fit, check in problem.choices()[0]:
            jobs.append(_job(_losses, known, problem, fit, check))
            of.append(index)
    sums = np.zeros((len(problems), ROUNDS))
    for index, losses in zip(of, _in_threads(jobs), strict=True):
        sums[index] += losses
    # Where nothing was learned, all are alike: the first.
    rounds = sums.argmin(axis=1) + 1
    return [(int(n), one.choices()[1]) for n, one in zip(rounds, problems, strict=True)]


def _losses(known: Any, problem: Problem, fit: IntArray, check: IntArray) -> FloatArray:
    """(ROUNDS,) error on the rows `check`, times their number."""
    stages = _stages(known[fit], known[check], problem, fit)
    if stages is None:
        return np.zeros(ROUNDS)
    return np.array([problem.loss(one, check) * len(check) for one in stages])


def _stages(x: Any, target: Any, problem: Problem, rows: IntArray) -> Iterator[FloatArray] | None:
    """Predictions for `target` after each round of a fit on `rows`, whose features are `x`; None
    where there is nothing to learn."""
    columns = _columns(x)
    if not _learnable(problem, rows) or not len(columns):
        return None
    model = _model(ROUNDS, problem)
    y, weights = _labels(problem, rows)
    model.fit(_dense(x, columns), y, sample_weight=weights)
    table = _dense(target, columns)
    if problem.task == "regression":
        return (np.asarray(one, np.float64) for one in model.staged_predict(table))
    back = _shares(problem, rows)
    return (back(one, model.classes_) for one in model.staged_predict_proba(table))


def _fitted(known: Any, target: Any, problem: Problem, rows: IntArray, rounds: int) -> FloatArray:
    out = problem.constant(target.shape[0], rows if len(rows) else problem.fit_rows)
    if not target.shape[0] or not _learnable(problem, rows):
        return out
    x = known[rows]
    columns = _columns(x)
    if not len(columns):
        return out
    model = _model(rounds, problem)
    y, weights = _labels(problem, rows)
    model.fit(_dense(x, columns), y, sample_weight=weights)
    back = _shares(problem, rows)
    for start in range(0, target.shape[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        table = _dense(target[block], columns)
        if problem.task == "regression":
            out[block] = model.predict(table)
        else:
            out[block] = back(model.predict_proba(table), model.classes_)
    return out


def _learnable(problem: Problem, rows: IntArray) -> bool:
    return len(rows) >= 2 * LEAF_ROWS and not np.all(problem.y[rows] == problem.y[rows[0]])


def _columns(x: Any) -> IntArray:
    """What no leaf could tell apart is left out."""
    present = x.getnnz(axis=0)
    return np.flatnonzero(present >= LEAF_ROWS)


def _dense(x: Any, columns: IntArray) -> FloatArray:
    table: FloatArray = x[:, columns].astype(np.float64).toarray()
    return table


def _labels(problem: Problem, rows: IntArray) -> tuple[Any, FloatArray]:
    y = problem.y[rows]
    return y if problem.task == "regression" else y.astype(np.int64), balancing(problem, rows)


def _model(rounds: int, problem: Problem) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    regression = problem.task == "regression"
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return kind(
        max_iter=rounds,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=LEAF_ROWS,
        l2_regularization=PENALTY,
        max_bins=_BINS,
        early_stopping=False,
        random_state=problem.seed,
    )


def _shares(problem: Problem, rows: IntArray) -> Callable[[Any, Any], FloatArray]:
    """Probabilities of a model of balanced classes, as its classes are shared out among `rows`."""
    prior = problem.constant(1, rows)[0]

    def back(probability: Any, classes: Any) -> FloatArray:
        out = np.zeros((len(probability), problem.n_classes))
        out[:, classes] = np.asarray(probability, np.float64) * prior[classes]
        out /= out.sum(axis=1, keepdims=True)
        return out

    return back
