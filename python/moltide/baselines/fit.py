"""`fit_baselines`: all five, on every target, from sequences and labels alone."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.features import features_for, make_features
from moltide.baselines.limits import (
    SHARES,
    TimeLimit,
    fit_within,
    passable,
    sampled,
    too_many_passes,
)
from moltide.baselines.linear import Problem, fit_linear, most_variable
from moltide.baselines.neighbour import fit_neighbours
from moltide.baselines.result import BASELINE_NAMES, BaselineResult, FloatArray, TargetFit
from moltide.baselines.zero_shot import fit_zero_shot
from moltide.errors import ConfigError, DataError

Embed = Callable[[list[str]], npt.ArrayLike]
Score = Callable[[list[str]], npt.ArrayLike]

SEQUENCE_PENALTIES = np.logspace(-2, 4, 13)
EMBEDDING_PENALTIES = np.logspace(-1, 6, 15)
LOGISTIC_PENALTIES = np.logspace(-2, 3, 6)
_ZERO_SHOT_ROWS = 2000


@dataclass
class _Inputs:
    """What every baseline is fitted to: known rows are the training rows, then the validation
    rows."""

    known: list[str]
    test: list[str]
    problems: list[Problem]
    n_valid: int
    embed: Embed | str | None
    zero_shot: Score | str | None

    @property
    def n_train(self) -> int:
        return len(self.known) - self.n_valid

    @functools.cached_property
    def features(self) -> tuple[Any, Any, Any]:
        """Features of sequences as fitted, and the tables of the known and of the test rows."""
        made = make_features(self.known, self.test)
        return made, made.transform(self.known), made.transform(self.test)

    def sample(self, n: int) -> _Inputs:
        """With `n` of the training rows; smaller samples lie within larger ones."""
        if n >= self.n_train:
            return self
        order = np.random.default_rng(self.problems[0].seed).permutation(self.n_train)
        kept = np.concatenate([np.sort(order[:n]), np.arange(self.n_train, len(self.known))])
        problems = [problem.take(kept) for problem in self.problems]
        known = [self.known[i] for i in kept]
        return dataclasses.replace(self, known=known, problems=problems)


def fit_baselines(
    train_sequences: Sequence[str],
    y_train: npt.ArrayLike,
    test_sequences: Sequence[str],
    *,
    task: str = "regression",
    n_classes: int | None = None,
    valid_sequences: Sequence[str] | None = None,
    y_valid: npt.ArrayLike | None = None,
    embed: Embed | str | None = None,
    zero_shot: Score | str | None = None,
    weights: npt.ArrayLike | None = None,
    censor: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    limit: TimeLimit | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[BaselineResult]:
    """Fit mean, ridge, ridge on embeddings, nearest neighbour and zero-shot baselines.

    Every setting (penalty, number of neighbours) is chosen on the validation rows when at least
    50 of them are measured, else by 5-fold cross-validation over train + validation; the final
    fit uses train + validation, as a person without a validation set to spare would. A fine-tuned
    model that only stops early on validation rows therefore sees no more labels than these do.
    Censored labels (">10") enter at their bound. Missing labels (NaN) leave the row out of that
    target only.

    Args:
        train_sequences: n_train strings of residues.
        y_train: (n_train,) or (n_train, k) float; class indices for classification.
        test_sequences: n_test strings.
        task: "regression" or "classification".
        n_classes: number of classes; None takes the largest index + 1.
        valid_sequences, y_valid: validation rows, same layout as train.
        embed: maps a list of sequences to (n, C) frozen embeddings; a string is the reason why
            there are none.
        zero_shot: maps a list of sequences to (n,) scores, higher for a higher target (class 1);
            a string is the reason why there are none.
        weights: (n_train,) sample weights; validation rows weigh 1 (their mean).
        censor: (n_train,) or (n_train, k) of -1 "<", 0, +1 ">": counted in the notes.
        groups: (n_train,) cluster numbers, kept together in cross-validation.
        names: subset of `BASELINE_NAMES`; None is all.
        limit: the time for all of them. One that would take more than its share is fitted to a
            sample of the training rows or left out, and `BaselineResult.cut_short` says so.
        progress: called as progress(done, total, label) before each baseline and at the end.

    Returns:
        One `BaselineResult` per name, in the order of `BASELINE_NAMES`.

    Raises:
        DataError: no training rows, lengths that differ, or a target with no label at all.
        ConfigError: an unknown task or baseline name.
    """
    wanted = _wanted(names)
    inputs, flat = _inputs(
        train_sequences, y_train, test_sequences, task, n_classes, valid_sequences, y_valid,
        weights, groups, seed, embed, zero_shot,
    )  # fmt: skip
    note = _censor_note(censor)
    results = []
    end = time.perf_counter() + (0.0 if limit is None else limit.seconds)
    for done, name in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted), _label(name, inputs))
        start = time.perf_counter()
        if limit is None:
            fits, cut_short = _fit_one(name, inputs), ""
        else:
            share = SHARES.get(name, 1.0) * (end - start)
            fits, cut_short = _fit_within(name, inputs, limit, share)
        seconds = time.perf_counter() - start
        if not isinstance(fits, str) and name != "mean":
            _note_constant(fits)
        label = _label(name, inputs)
        if isinstance(fits, str):
            results.append(BaselineResult(name, label, None, seconds, fits, cut_short=cut_short))
        else:
            results.append(_pack(name, label, fits, seconds, note, flat, cut_short))
    if progress is not None:
        progress(len(wanted), len(wanted), "baselines done")
    return results


def _wanted(names: Sequence[str] | None) -> list[str]:
    unknown = sorted(set(names or ()) - set(BASELINE_NAMES))
    if unknown:
        raise ConfigError(
            f"unknown baseline {', '.join(map(repr, unknown))}; "
            f"allowed: {', '.join(BASELINE_NAMES)}"
        )
    return [name for name in BASELINE_NAMES if names is None or name in names]


def _inputs(
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
    embed: Embed | str | None,
    zero_shot: Score | str | None,
) -> tuple[_Inputs, bool]:
    if task not in ("regression", "classification"):
        raise ConfigError(f"task is {task!r}; allowed: 'regression', 'classification'")
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
    return _Inputs(known, list(test), problems, len(held), embed, zero_shot), flat


def _censor_note(censor: npt.ArrayLike | None) -> str:
    count = 0 if censor is None else int((np.asarray(censor) != 0).sum())
    return f"; {count:,} censored labels taken at their bound" if count else ""


def _label(name: str, inputs: _Inputs) -> str:
    regression = inputs.problems[0].task == "regression"
    ridge = "ridge" if regression else "logistic ridge"
    if name == "ridge":
        return f"{ridge} on {features_for(inputs.known, inputs.test).description}"
    labels = {
        "mean": "mean of the training labels" if regression else "class frequencies",
        "ridge_embeddings": f"{ridge} on frozen embeddings",
        "nearest_neighbour": "nearest neighbour",
        "zero_shot": "zero-shot score",
    }
    return labels[name]


def _fit_one(name: str, inputs: _Inputs) -> list[TargetFit] | str:
    """A fit per target, or the reason why there is none."""
    if name == "mean":
        return [_mean(problem, len(inputs.test)) for problem in inputs.problems]
    if name == "ridge_embeddings":
        return _embeddings(inputs)
    if name == "zero_shot":
        return _zero_shot(inputs)
    made, known, test = inputs.features
    if name == "nearest_neighbour":
        unit = "Hamming distance" if made.description == "one-hot" else "k-mer distance"
        return [fit_neighbours(known, test, problem, unit) for problem in inputs.problems]
    regression = inputs.problems[0].task == "regression"
    penalties = SEQUENCE_PENALTIES if regression else LOGISTIC_PENALTIES
    columns = most_variable(known)
    text = f"; {made.n_variable_:,} columns"
    if len(columns) < known.shape[1]:
        known, test = known[:, columns], test[:, columns]
        text = f"; the {len(columns):,} most variable of {made.n_variable_:,} columns"
    fits = [fit_linear(known, test, problem, penalties) for problem in inputs.problems]
    for fit in fits:
        fit.note += text
        fit.settings["columns"] = min(len(columns), made.n_variable_)
        fit.settings["rows"] = len(inputs.known)
    return fits


def _fit_within(
    name: str, inputs: _Inputs, limit: TimeLimit, seconds: float
) -> tuple[list[TargetFit] | str, str]:
    """`_fit_one` in about `seconds`, and what was cut short for it."""

    def fit(rows: int) -> list[TargetFit] | str:
        return _fit_one(name, inputs.sample(rows))

    n, others = inputs.n_train, inputs.n_valid + len(inputs.test)
    if name in ("ridge", "nearest_neighbour"):
        fits, rows = fit_within(seconds, n, fit)
        return fits, sampled(rows, n)
    passing = {"ridge_embeddings": inputs.embed, "zero_shot": inputs.zero_shot}.get(name)
    if not callable(passing):
        return fit(n), ""
    if name == "zero_shot" and limit.scoring_passes is not None:
        why = too_many_passes(limit, seconds)
        return (why, why) if why else (fit(n), "")
    most, what = (n, "embedding") if name == "ridge_embeddings" else (_ZERO_SHOT_ROWS, "scoring")
    possible = passable(limit, seconds, min(n, most), others, what)
    if isinstance(possible, str):
        return possible, possible
    rows = possible if possible < min(n, most) else n
    return fit(rows), sampled(rows, n)


def _note_constant(fits: list[TargetFit]) -> None:
    """Features that say nothing about the test rows look like a poor fit unless it is said."""
    for fit in fits:
        if len(fit.test) > 1 and np.ptp(fit.test, axis=0).max() < 1e-12:
            fit.note += "; the same prediction for every test row"


def _mean(problem: Problem, n_test: int) -> TargetFit:
    rows = problem.fit_rows
    n_valid = int(problem.is_valid.sum())
    valid = problem.constant(n_valid, problem.train_rows) if n_valid else None
    return TargetFit(problem.constant(n_test, rows), valid, f"of {len(rows):,} labels")


def _embeddings(inputs: _Inputs) -> list[TargetFit] | str:
    embed = inputs.embed
    if embed is None or isinstance(embed, str):
        return embed or "no encoder was given"
    n_known = len(inputs.known)
    table = np.asarray(embed([*inputs.known, *inputs.test]), np.float64)
    if table.ndim != 2 or len(table) != n_known + len(inputs.test):
        expected = n_known + len(inputs.test)
        raise DataError(f"embed returned shape {table.shape}, expected ({expected}, C)")
    centre, scale = table[:n_known].mean(axis=0), table[:n_known].std(axis=0)
    table = (table - centre) / np.where(scale > 1e-12, scale, 1.0)
    regression = inputs.problems[0].task == "regression"
    penalties = EMBEDDING_PENALTIES if regression else LOGISTIC_PENALTIES * 10
    fits = [fit_linear(table[:n_known], table[n_known:], p, penalties) for p in inputs.problems]
    for fit in fits:
        fit.note += f"; {table.shape[1]:,} standardised dimensions"
    return fits


def _zero_shot(inputs: _Inputs) -> list[TargetFit] | str:
    score = inputs.zero_shot
    if score is None or isinstance(score, str):
        return score or "needs a wild type and variants of its length"
    if inputs.problems[0].task != "regression" and inputs.problems[0].n_classes != 2:
        return f"one score cannot rank {inputs.problems[0].n_classes} classes"
    # A sample of the training rows sets the scale; all validation rows are predicted.
    step = max(1, -(-inputs.n_train // _ZERO_SHOT_ROWS))
    train = np.arange(0, inputs.n_train, step)
    held = np.arange(inputs.n_train, len(inputs.known))
    asked = [*(inputs.known[i] for i in train), *(inputs.known[i] for i in held), *inputs.test]
    values = np.asarray(score(asked), np.float64).ravel()
    if len(values) != len(asked):
        raise DataError(f"zero_shot returned {len(values)} scores for {len(asked)} sequences")
    fits = []
    for problem in inputs.problems:
        test = values[len(train) + len(held) :]
        fit = fit_zero_shot(train, values[: len(train)], test, problem)
        apply = fit.settings.pop("apply")
        if len(held):
            fit.valid = apply(values[len(train) : len(train) + len(held)])
        fits.append(fit)
    return fits


def _pack(
    name: str,
    label: str,
    fits: list[TargetFit],
    seconds: float,
    note: str,
    flat: bool,
    cut_short: str,
) -> BaselineResult:
    note = f"; {cut_short}{note}" if cut_short else note
    if flat:
        fit = fits[0]
        return BaselineResult(
            name, label, fit.test, seconds, fit.note + note, fit.valid, fit.settings, cut_short
        )
    valid = None
    if all(fit.valid is not None for fit in fits):
        valid = np.stack([fit.valid for fit in fits if fit.valid is not None], axis=1)
    targets = [{**fit.settings, "note": fit.note + note} for fit in fits]
    test: FloatArray = np.stack([fit.test for fit in fits], axis=1)
    notes = dict.fromkeys(fit.note + note for fit in fits)
    return BaselineResult(
        name, label, test, seconds, " | ".join(notes), valid, {"targets": targets}, cut_short
    )
