"""Random forest (Breiman 2001): many deep trees, with settings that need no choosing."""

from __future__ import annotations

from typing import Any

import numpy as np

from moltide.baselines.linear import IntArray, Problem
from moltide.baselines.result import FloatArray, TargetFit

TREES = 100
# Share of the columns that a split looks at; of classes their square root (Svetnik 2003; regression
# wants more of them).
COLUMNS = 0.2
_BLOCK = 4096


def fit_forest(known: Any, test: Any, problem: Problem) -> TargetFit:
    """A forest of the measured train + validation rows of `known`, predicting `test` (CSR float32).

    Classes weigh as much as each other, however rare. Validation predictions come from a forest of
    the training rows alone. The same bits whatever the number of threads: each tree has a seed of
    its own, and trees are added up in order.
    """
    valid = None
    if problem.is_valid.any():
        queries = known[np.flatnonzero(problem.is_valid)]
        valid = _fitted(known, queries, problem, problem.train_rows)
    prediction = _fitted(known, test, problem, problem.fit_rows)
    regression = problem.task == "regression"
    tried = f"{COLUMNS:.0%} of the columns" if regression else "the root of the columns"
    note = f"{TREES} trees, {tried} at a split; fitted on {problem.rows_text()}"
    if not regression:
        note += ", classes of equal weight"
    return TargetFit(prediction, valid, note, {"trees": TREES})


def balancing(problem: Problem, rows: IntArray) -> FloatArray:
    """Weights of `rows`, such that every class among them weighs the same; the mean stays."""
    weights = problem.weights[rows]
    if problem.task == "regression":
        return weights
    classes = problem.y[rows].astype(np.int64)
    total = np.bincount(classes, weights, minlength=problem.n_classes)
    share = weights.sum() / max(1, int((total > 0).sum()))
    each = np.divide(share, total, out=np.zeros(len(total)), where=total > 0)
    balanced: FloatArray = weights * each[classes]
    return balanced


def _fitted(known: Any, target: Any, problem: Problem, rows: IntArray) -> FloatArray:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    from moltide._engine import num_threads

    y = problem.y[rows]
    if len(rows) < 2 or np.all(y == y[0]):
        return problem.constant(target.shape[0], rows if len(rows) else problem.fit_rows)
    given = {"random_state": problem.seed, "n_jobs": num_threads()}
    regression = problem.task == "regression"
    if regression:
        model = RandomForestRegressor(TREES, max_features=COLUMNS, **given)
    else:
        model = RandomForestClassifier(TREES, max_features="sqrt", **given)
        y = y.astype(np.int64)
    model.fit(known[rows].toarray(), y, sample_weight=balancing(problem, rows))
    # Threads would add up the trees in the order in which they finish.
    model.n_jobs = 1
    out = np.zeros_like(problem.constant(target.shape[0], rows))
    for start in range(0, target.shape[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        table = target[block].toarray()
        if regression:
            out[block] = model.predict(table)
        else:
            out[block, model.classes_] = model.predict_proba(table)
    return out
