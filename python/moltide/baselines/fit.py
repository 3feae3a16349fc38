"""`fit_baselines`: all of a kind, on every target, from sequences and labels alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from moltide.baselines import dense, molecules, nucleotides
from moltide.baselines.features import features_for
from moltide.baselines.inputs import Embed, Inputs, Score, checked_inputs
from moltide.baselines.limits import (
    FIRST_ROWS,
    SHARES,
    USUAL_FIRST_ROWS,
    TimeLimit,
    fit_within,
    passable,
    rows_in_memory,
    sampled,
    too_many_passes,
)
from moltide.baselines.linear import Problem, fit_linear, most_variable
from moltide.baselines.neighbour import between_features, fit_neighbours
from moltide.baselines.result import NAMES_OF, BaselineResult, FloatArray, TargetFit
from moltide.baselines.row_tables import MoleculeTables
from moltide.baselines.zero_shot import fit_zero_shot
from moltide.errors import ConfigError, DataError
from moltide.kinds import MOLECULE, PROTEIN

SEQUENCE_PENALTIES = np.logspace(-2, 4, 13)
EMBEDDING_PENALTIES = dense.PENALTIES
LOGISTIC_PENALTIES = np.logspace(-2, 3, 6)
_ZERO_SHOT_ROWS = 2000


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
    kind: str = PROTEIN,
    tables: MoleculeTables | None = None,
) -> list[BaselineResult]:
    """Fit the baselines of a kind of sequence, `NAMES_OF[kind]`.

    Proteins: mean, ridge on the sequence and on embeddings, nearest neighbour, zero-shot score.
    RNA: these, and ridge on GC content and length, and on k-mer frequencies. Molecules: mean,
    random forest and gradient boosting on Morgan counts, ridge on RDKit descriptors, nearest
    neighbours by Tanimoto similarity, ridge on embeddings.

    Every setting (penalty, number of neighbours, rounds) is chosen on the validation rows when at
    least 50 of them are measured, else by 5-fold cross-validation over train + validation; the
    final fit uses train + validation, as a person without a validation set to spare would. A
    fine-tuned model that only stops early on validation rows therefore sees no more labels than
    these do.
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
        names: subset of `NAMES_OF[kind]`; None is all.
        limit: the time for all of them. One that would take more than its share is fitted to a
            sample of the training rows or left out, and `BaselineResult.cut_short` says so.
        progress: called as progress(done, total, label) before each baseline and at the end.
        kind: what the sequences are, one of `moltide.kinds.KINDS`; molecules are SMILES.
        tables: of all molecules (training, validation, test rows), where several calls share them.

    Returns:
        One `BaselineResult` per name, in the order of `NAMES_OF[kind]`.

    Raises:
        DataError: no training rows, lengths that differ, a target with no label at all, or SMILES
            that RDKit cannot read.
        ConfigError: an unknown task, kind or baseline name.
        MissingDependencyError: molecules without RDKit.
    """
    inputs, flat = checked_inputs(
        train_sequences, y_train, test_sequences, task, n_classes, valid_sequences, y_valid,
        weights, groups, seed, kind,
    )  # fmt: skip
    inputs.embed, inputs.zero_shot = embed, zero_shot
    if kind == MOLECULE:
        inputs.tables = tables or MoleculeTables([*inputs.known, *inputs.test])
    wanted = _wanted(names, kind)
    note = _censor_note(censor)
    results = []
    end = time.perf_counter() + (0.0 if limit is None else limit.seconds)
    for done, name in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted), _label(name, inputs))
        start = time.perf_counter()
        given, too_large = _in_memory(name, inputs)
        if limit is None:
            fits, cut_short = _fit_one(name, given), too_large
        else:
            share = SHARES.get(name, 1.0) * (end - start)
            fits, cut_short = _fit_within(name, given, limit, share, inputs.n_train)
            cut_short = cut_short or too_large
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


def _wanted(names: Sequence[str] | None, kind: str) -> list[str]:
    unknown = sorted(set(names or ()) - set(NAMES_OF[kind]))
    if unknown:
        raise ConfigError(
            f"unknown baseline {', '.join(map(repr, unknown))}; "
            f"allowed: {', '.join(NAMES_OF[kind])}"
        )
    return [name for name in NAMES_OF[kind] if names is None or name in names]


def _censor_note(censor: npt.ArrayLike | None) -> str:
    count = 0 if censor is None else int((np.asarray(censor) != 0).sum())
    return f"; {count:,} censored labels taken at their bound" if count else ""


def _label(name: str, inputs: Inputs) -> str:
    regression = inputs.task == "regression"
    ridge = "ridge" if regression else "logistic ridge"
    if name == "ridge":
        return f"{ridge} on {features_for(inputs.known, inputs.test).description}"
    labels = {
        "mean": "mean of the training labels" if regression else "class frequencies",
        "ridge_embeddings": f"{ridge} on frozen embeddings",
        "nearest_neighbour": "nearest neighbour",
        "zero_shot": "zero-shot score",
        "composition": f"{ridge} on GC content and length",
        "ridge_kmers": f"{ridge} on k-mer frequencies",
        "morgan_forest": "random forest on Morgan counts",
        "morgan_boosting": "gradient boosting on Morgan counts",
        "descriptors_ridge": f"{ridge} on RDKit descriptors",
    }
    return labels[name]


def _fit_one(name: str, inputs: Inputs) -> list[TargetFit] | str:
    """A fit per target, or the reason why there is none."""
    if name == "mean":
        return [_mean(problem, len(inputs.test)) for problem in inputs.problems]
    if name == "ridge_embeddings":
        return _embeddings(inputs)
    if name == "zero_shot":
        return _zero_shot(inputs)
    if name == "composition":
        return nucleotides.fit_composition(inputs)
    if name == "ridge_kmers":
        return nucleotides.fit_frequencies(inputs)
    if inputs.kind == MOLECULE:
        return molecules.FITS[name](inputs)
    made, known, test = inputs.features
    if name == "nearest_neighbour":
        unit = "Hamming distance" if made.description == "one-hot" else "k-mer distance"
        metric = between_features(unit)
        return [fit_neighbours(known, test, problem, metric) for problem in inputs.problems]
    regression = inputs.task == "regression"
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


def _in_memory(name: str, inputs: Inputs) -> tuple[Inputs, str]:
    """The inputs, or the sample that a baseline has memory for and a word on it."""
    a_row = molecules.bytes_a_row(name, len(inputs.problems)) if inputs.kind == MOLECULE else 0
    n = inputs.n_train
    rows = rows_in_memory(n, inputs.n_valid, a_row)
    if rows == n:
        return inputs, ""
    return inputs.sample(rows), f"{sampled(rows, n)}, for lack of memory"


def _fit_within(
    name: str, inputs: Inputs, limit: TimeLimit, seconds: float, whole: int
) -> tuple[list[TargetFit] | str, str]:
    """`_fit_one` in about `seconds`, and what was cut short for it, of `whole` training rows."""

    def fit(rows: int) -> list[TargetFit] | str:
        return _fit_one(name, inputs.sample(rows))

    n, others = inputs.n_train, inputs.n_valid + len(inputs.test)
    if name not in ("mean", "ridge_embeddings", "zero_shot"):
        fits, rows = fit_within(seconds, n, fit, FIRST_ROWS.get(name, USUAL_FIRST_ROWS))
        return fits, sampled(rows, whole) if rows < n else ""
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


def _embeddings(inputs: Inputs) -> list[TargetFit] | str:
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
    regression = inputs.task == "regression"
    penalties = EMBEDDING_PENALTIES if regression else LOGISTIC_PENALTIES * 10
    fits = [fit_linear(table[:n_known], table[n_known:], p, penalties) for p in inputs.problems]
    for fit in fits:
        fit.note += f"; {table.shape[1]:,} standardised dimensions"
    return fits


def _zero_shot(inputs: Inputs) -> list[TargetFit] | str:
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
