"""Distance-weighted nearest neighbours, exact, through one matrix product per block of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.linear import IntArray, Problem
from moltide.baselines.result import FloatArray, TargetFit

#: Numbers of neighbours tried; all rows as near as the k-th count, so row order is immaterial.
NEIGHBOURS = (1, 3, 10, 30)
QUERIES = 2000
_BLOCK = 16_000_000


@dataclass(frozen=True)
class Metric:
    """Attributes:
    unit, weighted: the distance, and what neighbours weigh, in words.
    blocks: (rows of the first table, their distances to all of the second, float32), in order.
    weigh: weights above 0 of neighbours at these distances.
    """

    unit: str
    weighted: str
    blocks: Callable[[Any, Any], Iterator[tuple[slice, npt.NDArray[np.float32]]]]
    weigh: Callable[[npt.NDArray[np.float32]], FloatArray]


class Distances:
    """Half the squared Euclidean distances between rows of two feature tables, block by block."""

    def __init__(self, query: Any, known: Any) -> None:
        work = np.asarray(query.getnnz(axis=0), np.float64) @ known.getnnz(axis=0)
        dense_work = float(query.shape[0]) * known.shape[0] * known.shape[1]
        # A sparse multiply-add costs about a hundred dense ones.
        self.dense = 100 * work > dense_work and known.shape[0] * known.shape[1] <= 150_000_000
        self.query_norm = _half_norms(query)
        self.known_norm = _half_norms(known)
        self.query = query
        self.known = np.ascontiguousarray(known.toarray().T) if self.dense else known.T.tocsr()

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """(rows, distances (rows, n_known) float32), in row order."""
        n, size = self.query.shape[0], max(1, _BLOCK // max(1, len(self.known_norm)))
        for start in range(0, n, size):
            rows = slice(start, min(n, start + size))
            block = self.query[rows]
            product = (block.toarray() if self.dense else block) @ self.known
            product = product if self.dense else product.toarray()
            distance = np.subtract(self.known_norm, product, out=product)
            distance += self.query_norm[rows, None]
            yield rows, np.maximum(distance, 0, out=distance)


def _half_norms(rows: Any) -> npt.NDArray[np.float32]:
    return 0.5 * np.asarray(rows.multiply(rows).sum(axis=1), np.float32).ravel()


def between_features(unit: str) -> Metric:
    """Of CSR tables of sequence features."""
    return Metric(
        unit,
        "1 / (distance + 0.5)",
        lambda query, known: Distances(query, known).blocks(),
        lambda near: 1.0 / (near.astype(np.float64) + 0.5),
    )


def between_molecules() -> Metric:
    """Of packed fingerprints: 1 - Tanimoto similarity."""
    from moltide.chem.fingerprints import similarity_blocks

    def blocks(query: Any, known: Any) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        for rows, similarity in similarity_blocks(query, known):
            yield rows, np.subtract(1, similarity, out=similarity)

    # A neighbour like a tenth of the molecule says next to nothing, as one like half of it does.
    return Metric(
        "Tanimoto similarity",
        "the fourth power of their similarity",
        blocks,
        lambda near: np.maximum(1.0 - near.astype(np.float64), 0.01) ** 4,
    )


def _average(
    distance: npt.NDArray[np.float32],
    problem: Problem,
    rows: IntArray,
    sizes: tuple[int, ...],
    metric: Metric,
) -> list[FloatArray]:
    """Predictions from `distance` (m, len(rows)) for each number of neighbours."""
    positions = [min(k, len(rows)) - 1 for k in sizes]
    nearest = np.partition(distance, sorted(set(positions)), axis=1)[:, positions]
    query, column = np.nonzero(distance <= nearest.max(axis=1, keepdims=True))
    near = distance[query, column]
    weight = problem.weights[rows][column] * metric.weigh(near)
    label = problem.y[rows][column]
    out = []
    for index in range(len(sizes)):
        used = np.where(near <= nearest[query, index], weight, 0.0)
        total = np.bincount(query, used, minlength=len(distance))
        total[total == 0] = 1.0
        if problem.task == "regression":
            out.append(np.bincount(query, used * label, minlength=len(distance)) / total)
            continue
        cell = query * problem.n_classes + label.astype(np.int64)
        votes = np.bincount(cell, used, minlength=len(distance) * problem.n_classes)
        share = votes.reshape(len(distance), -1) / total[:, None]
        count = np.bincount(query, used > 0, minlength=len(distance))[:, None]
        prior = problem.constant(1, rows)
        out.append((share * count + prior) / (count + 1))  # one pseudo-count: never exactly 0
    return out


def _choose(known: Any, problem: Problem, metric: Metric) -> tuple[int, str]:
    """The number of neighbours with the least error on validation or left-out rows."""
    generator = np.random.default_rng(problem.seed)
    if len(problem.valid_rows) >= 50 and len(problem.train_rows) > 1:
        rows, queries, left_out = problem.train_rows, problem.valid_rows, False
        how = "chosen on validation rows"
    else:
        rows = queries = problem.fit_rows
        left_out, how = True, "chosen by leaving rows out"
    if len(rows) < 2:
        return NEIGHBOURS[0], "not chosen: fewer than two measured rows"
    if len(queries) > QUERIES:
        queries = np.sort(generator.choice(queries, QUERIES, replace=False))
    losses = np.zeros(len(NEIGHBOURS))
    for block, distance in metric.blocks(known[queries], known[rows]):
        asked = queries[block]
        if left_out:
            group = np.arange(len(problem.y)) if problem.groups is None else problem.groups
            same = group[asked][:, None] == group[rows][None, :]
            distance = np.where(same, np.float32(1e9), distance)
        for index, prediction in enumerate(_average(distance, problem, rows, NEIGHBOURS, metric)):
            losses[index] += problem.loss(prediction, asked) * len(asked)
    return NEIGHBOURS[int(losses.argmin())], how


def fit_neighbours(known: Any, test: Any, problem: Problem, metric: Metric) -> TargetFit:
    """Nearest neighbours among the measured known rows; tables are what the metric takes."""
    size, how = _choose(known, problem, metric)
    valid = None
    if problem.is_valid.any():
        queries = known[np.flatnonzero(problem.is_valid)]
        valid = _predict(queries, known, problem, problem.train_rows, size, metric)
    prediction = _predict(test, known, problem, problem.fit_rows, size, metric)
    note = f"{size} nearest by {metric.unit} (ties included), weighted by {metric.weighted}, {how}"
    return TargetFit(prediction, valid, note, {"neighbours": size, "chosen": how})


def _predict(
    queries: Any, known: Any, problem: Problem, rows: IntArray, size: int, metric: Metric
) -> FloatArray:
    if len(rows) == 0:
        return problem.constant(queries.shape[0], problem.fit_rows)
    out = np.zeros_like(problem.constant(queries.shape[0], rows))
    for block, distance in metric.blocks(queries, known[rows]):
        out[block] = _average(distance, problem, rows, (size,), metric)[0]
    return out
