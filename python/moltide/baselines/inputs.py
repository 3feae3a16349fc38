"""What every baseline is fitted to, checked once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.features import make_features
from moltide.baselines.linear import IntArray, Problem
from moltide.baselines.row_tables import MoleculeTables
from moltide.errors import ConfigError, DataError
from moltide.kinds import KINDS, PROTEIN

Embed = Callable[[list[str]], npt.ArrayLike]
Score = Callable[[list[str]], npt.ArrayLike]


@dataclass
class Inputs:
    """Sequences and labels: known rows are the training rows, then the validation rows.

    `rows` are the numbers of known rows among all that were given, where these are a sample.
    """

    known: list[str]
    test: list[str]
    problems: list[Problem]
    n_valid: int
    embed: Embed | str | None = None
    zero_shot: Score | str | None = None
    kind: str = PROTEIN
    rows: IntArray | None = None
    tables: MoleculeTables | None = None

    @property
    def n_train(self) -> int:
        return len(self.known) - self.n_valid

    @property
    def task(self) -> str:
        return self.problems[0].task

    @functools.cached_property
    def features(self) -> tuple[Any, Any, Any]:
        """Features of sequences as fitted, and the tables of the known and of the test rows."""
        made = make_features(self.known, self.test, self.kind)
        return made, made.transform(self.known), made.transform(self.test)

    def molecules(self, table: str) -> tuple[Any, Any]:
        """A table of `MoleculeTables`, by name, for the known and for the test rows; what a sample
        asked for is not computed again for a larger one."""
        assert self.tables is not None
        rows = np.arange(len(self.known)) if self.rows is None else self.rows
        first = len(self.tables) - len(self.test)
        test = np.arange(first, len(self.tables))
        found = self.tables.of(table, np.concatenate([rows, test]))
        return found[: len(rows)], found[len(rows) :]

    def sample(self, n: int) -> Inputs:
        """With `n` of the training rows; smaller samples lie within larger ones."""
        if n >= self.n_train:
            return self
        order = np.random.default_rng(self.problems[0].seed).permutation(self.n_train)
        kept = np.concatenate([np.sort(order[:n]), np.arange(self.n_train, len(self.known))])
        problems = [problem.take(kept) for problem in self.problems]
        known = [self.known[i] for i in kept]
        rows = kept if self.rows is None else self.rows[kept]
        return dataclasses.replace(self, known=known, problems=problems, rows=rows)


def checked_inputs(
    train: Sequence[str],
    y_train: npt.ArrayLike,
    test: Sequence[str],
    task: str,
    n_classes: int | None,
    valid: Sequence[str] | None,
    y_valid: npt.ArrayLike | None,
    weights: npt.ArrayLike | None,
    groups: npt.ArrayLike | None,
    seed: int,
    kind: str,
) -> tuple[Inputs, bool]:
    """The inputs, and whether labels came as one column of shape (n,).

    Raises:
        DataError, ConfigError: see `fit_baselines`.
    """
    if task not in ("regression", "classification"):
        raise ConfigError(f"task is {task!r}; allowed: 'regression', 'classification'")
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind!r}; allowed: {', '.join(map(repr, KINDS))}")
    if len(train) == 0:
        raise DataError("baselines need at least one training row, got 0")
    y = np.asarray(y_train, np.float64)
    flat = y.ndim == 1
    y = y.reshape(len(y), -1)
    if len(y) != len(train):
        raise DataError(f"y_train has {len(y)} rows for {len(train)} training sequences")
    held = np.zeros((0, y.shape[1]))
    if valid is not None and y_valid is not None:
        held = np.asarray(y_valid, np.float64).reshape(len(valid), -1)
        if held.shape[1] != y.shape[1]:
            raise DataError(f"y_valid has {held.shape[1]} targets, y_train {y.shape[1]}")
    labels = np.concatenate([y, held])
    empty = [j for j in range(labels.shape[1]) if np.isnan(y[:, j]).all()]
    if empty:
        raise DataError(f"target {empty[0]} has no measured value among {len(y)} training rows")
    if n_classes is None:
        n_classes = 0 if task == "regression" else int(np.nanmax(labels)) + 1
    weight = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != (len(y),):
        raise DataError(f"weights have shape {weight.shape}, expected ({len(y)},)")
    weight = np.concatenate([weight / weight.mean(), np.ones(len(held))])
    cluster = None
    if groups is not None:
        first = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
        cluster = np.concatenate([first, first.max() + 1 + np.arange(len(held))])
    is_valid = np.arange(len(labels)) >= len(y)
    problems = [
        Problem(labels[:, j], weight, is_valid, cluster, task, n_classes, seed)
        for j in range(labels.shape[1])
    ]
    known = [*train, *(valid if len(held) and valid is not None else [])]
    return Inputs(known, list(test), problems, len(held), kind=kind), flat
