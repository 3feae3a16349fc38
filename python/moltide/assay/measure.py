"""The measured side of a table: cells to readings, readings to one value a sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moltide.assay.columns import Target
from moltide.assay.labels import detect_task, encode_labels, order_classes, read_labels
from moltide.assay.ledger import Ledger, problems_text, shorten
from moltide.assay.options import ReadOptions
from moltide.assay.replicates import Merged, best_correlation, merge_labels, merge_readings
from moltide.assay.source import Source
from moltide.assay.summary import TargetSummary
from moltide.assay.transforms import Scale
from moltide.assay.values import (
    MISSING_WORDS,
    RELATIONS,
    CensorArray,
    FloatArray,
    parse_numbers,
    relation_word,
)
from moltide.errors import DataError
from moltide.options import option

BAD_VALUE = "target is no number"
NO_VALUE = "no measured target"


@dataclass
class Readings:
    """One target by row: `values` and `censor` are (rows, columns of the target); `classes` has the
    names of the class indices, None for numbers. `cell_units` has for each column the units that
    stand in cells, `powers` (rows, columns) the power of ten of each value's unit in mol/L."""

    target: Target
    values: FloatArray
    censor: CensorArray
    missing_words: Counter[str] = field(default_factory=Counter)
    approximate: int = 0
    said: list[str] = field(default_factory=list)
    classes: list[str] | None = None
    cell_units: list[dict[int, str]] = field(default_factory=list)
    scale: Scale = field(default_factory=lambda: Scale(""))
    powers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def choose_tasks(
    source: Source, targets: Sequence[Target], options: ReadOptions
) -> tuple[list[str], list[str]]:
    """The task of each target, detected or asked for, and what there is to say."""
    if options.task != "auto":
        return [options.task] * len(targets), [f"task: {options.task} (named)"]
    found = []
    for target in targets:
        texts = source.texts(target.columns[0])
        found.append(detect_task(texts, parse_numbers(texts, True), target.name))
    return [task for task, _ in found], [sentence for _, sentence in found]


def read_numbers(source: Source, target: Target, options: ReadOptions, ledger: Ledger) -> Readings:
    """Readings of a regression target, with bounds from the cells or a relation column.

    Raises:
        DataError: infinities, or text that is neither a number nor a word for missing.
    """
    columns = [parse_numbers(source.texts(column), True) for column in target.columns]
    result = Readings(
        target,
        np.stack([numbers.values for numbers in columns], axis=1),
        np.stack([numbers.censor for numbers in columns], axis=1),
        cell_units=[numbers.units for numbers in columns],
    )
    result.powers = np.zeros(result.values.shape, np.int64)
    for column, numbers in zip(target.columns, columns, strict=True):
        infinite = [index for index in numbers.infinite if ledger.alive[index]]
        if infinite and options.on_bad_row == "error":
            listed = problems_text(
                [(source.row(i), shorten(source.texts(column)[i])) for i in infinite]
            )
            raise source.fail(
                f"column {column!r}: infinite values: {len(infinite):,} ({listed}); write a "
                "bound such as >10, empty them if they mean not measured, or leave these rows out "
                f"({option('on_bad_row', 'set_aside')})"
            )
        ledger.leave_out(infinite, "target is infinite")
        bad = [index for index in numbers.bad if ledger.alive[index]]
        if bad and options.on_bad_row == "error":
            listed = problems_text([(source.row(i), shorten(source.texts(column)[i])) for i in bad])
            raise source.fail(
                f"column {column!r}: cells that are no numbers: {len(bad):,} ({listed}); empty "
                "them if they mean not measured, or leave these rows out "
                f"({option('on_bad_row', 'set_aside')})"
            )
        ledger.leave_out(bad, BAD_VALUE)
        result.missing_words += numbers.missing_words
        result.approximate += numbers.approximate
        if numbers.decimal_comma:
            result.said.append(f"column {column!r}: decimal commas read as points")
    if target.relation is not None:
        _apply_relations(source, result, options, ledger)
    return result


def _apply_relations(
    source: Source, readings: Readings, options: ReadOptions, ledger: Ledger
) -> None:
    column = readings.target.relation or ""
    texts = source.texts(column)
    unknown = []
    for index, text in enumerate(texts):
        word = relation_word(text)
        if word not in RELATIONS:
            unknown.append(index)
            continue
        measured = ~np.isnan(readings.values[index])
        if RELATIONS[word]:
            readings.censor[index, measured & (readings.censor[index] == 0)] = RELATIONS[word]
        readings.approximate += int(measured.sum()) * (word in ("~", "≈"))
    unknown = [index for index in unknown if ledger.alive[index]]
    if unknown and options.on_bad_row == "error":
        listed = problems_text([(source.row(i), shorten(texts[i])) for i in unknown])
        raise source.fail(
            f"relation column {column!r}: cells that are none of = < > <= >= ~: {len(unknown):,} "
            f"({listed})"
        )
    ledger.leave_out(unknown, "relation unreadable")


def read_classes(source: Source, target: Target, alone: bool) -> Readings:
    """Class indices of a target; `alone`: it is the only one.

    Raises:
        DataError: a single class, more than two beside other targets, or many labels that each
            occur once (numbers or names rather than classes).
    """
    labels = [read_labels(source.texts(column)) for column in target.columns]
    said = [label for one in labels for label in one if label is not None]
    classes, name = order_classes(said), target.name
    if len(classes) < 2:
        only = f"only {classes[0]!r}" if classes else "nothing"
        raise source.fail(f"target {name!r} holds {only}: two classes are needed to learn")
    if len(classes) > 50 and len(classes) * 5 > len(said):
        raise source.fail(
            f"target {name!r} holds {len(classes):,} different labels in {len(said):,} rows: these "
            f"are no classes (for numbers say {option('task', 'regression')})"
        )
    if len(classes) > 2 and not alone:
        raise source.fail(
            f"target {name!r} has {len(classes)} classes ({', '.join(classes[:6])}); beside other "
            f"targets two are allowed. Fit it alone ({option('target', name)}) and the others "
            "without it"
        )
    values = np.stack([encode_labels(column, classes) for column in labels], axis=1)
    words = Counter(
        text
        for column in target.columns
        for text in source.texts(column)
        if text.lower() in MISSING_WORDS
    )
    censor = np.zeros(values.shape, dtype=np.int8)
    return Readings(target, values, censor, words, classes=classes)


@dataclass
class MergedTarget:
    """One target by sequence, (groups,) each, and what is said about it."""

    values: FloatArray
    censor: CensorArray
    count: npt.NDArray[np.int64]
    sd: float | None
    summary: TargetSummary
    reading_conflicts: list[int]
    bound_conflicts: list[int]

    @property
    def conflicts(self) -> list[int]:
        return sorted({*self.reading_conflicts, *self.bound_conflicts})


def merge_target(
    readings: Readings,
    used: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    n_groups: int,
    how: str,
    copies: npt.NDArray[np.bool_] | None = None,
) -> MergedTarget:
    """Bring the readings of the rows in use (`used`, with their `groups`) to one value a group.

    Of the rows in use `copies` marks those that repeat another in every field.
    """
    values, censor = readings.values[used], readings.censor[used]
    known = ~np.isnan(values)
    group_of = np.broadcast_to(groups[:, None], values.shape)[known]
    if readings.classes is not None:
        labels = merge_labels(group_of, n_groups, values[known])
        merged = Merged(labels.values, np.zeros(n_groups, dtype=np.int8), labels.count)
        merged.conflicts = labels.conflicts
    else:
        fresh = None if copies is None else np.broadcast_to(~copies[:, None], values.shape)[known]
        merged = merge_readings(group_of, n_groups, values[known], censor[known], how, fresh)
    summary = TargetSummary(
        readings.target.name,
        readings=int(known.sum()),
        measured=0,
        missing=0,
        missing_words=dict(readings.missing_words),
        approximate=readings.approximate,
        scale=readings.scale,
        replicate_sd=merged.sd,
        replicate_freedom=merged.sd_freedom,
        replicate_sequences=merged.sd_groups,
    )
    if summary.noise_sd is not None:
        exact = merged.censor == 0
        summary.best_correlation = best_correlation(
            merged.values[exact], merged.count[exact], summary.noise_sd
        )
    return MergedTarget(
        merged.values,
        merged.censor,
        merged.count,
        merged.sd,
        summary,
        merged.conflicts,
        merged.bound_conflicts,
    )


def describe(
    summary: TargetSummary, values: FloatArray, censor: CensorArray, classes: list[str] | None
) -> None:
    """Fill in the counts of the final values (after rows were set aside)."""
    known = values[~np.isnan(values)]
    summary.measured = len(known)
    summary.missing = len(values) - len(known)
    if classes is not None:
        counts = np.bincount(known.astype(np.int64), minlength=len(classes))
        summary.class_counts = {name: int(n) for name, n in zip(classes, counts, strict=True)}
        return
    summary.censored_above = int((censor > 0).sum())
    summary.censored_below = int((censor < 0).sum())
    exact = values[~np.isnan(values) & (censor == 0)]
    if len(exact):
        summary.minimum, summary.maximum = float(exact.min()), float(exact.max())
        summary.median = float(np.median(exact))


def require_variation(source: Source, summary: TargetSummary) -> None:
    """Refuse a target that says the same for every sequence, or nothing at all."""
    if summary.measured == 0:
        raise source.fail(f"target {summary.name!r} has no measured value in the rows in use")
    if summary.class_counts is not None:
        present = [name for name, n in summary.class_counts.items() if n]
        if len(present) < 2:
            raise source.fail(
                f"target {summary.name!r} is {present[0]!r} for every sequence "
                "in use: nothing to learn"
            )
    elif summary.minimum == summary.maximum and not (
        summary.censored_above + summary.censored_below
    ):
        raise DataError(
            f"{source.name}: target {summary.name!r} is {summary.minimum:g} for "
            "every sequence in use: nothing to learn"
        )
