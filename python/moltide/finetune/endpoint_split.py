"""A split in which every target of a table has values in every part, where there is one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from moltide.splits import make_split
from moltide.splits.parts import PARTS, checked_fractions, fill_by_group
from moltide.tasks import CLASSIFICATION
from moltide.verdict import MIN_TEST

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.splits import Split

# Splits drawn before the best of them is taken.
_DRAWS = 20
# Values of a target that a part should hold; of each class one at least.
_WANTED = {"train": 2, "valid": 5, "test": 5}


def split_endpoints(table: AssayTable, how: str, seed: int) -> Split:
    """`make_split`; of several targets the first of up to 20 draws in which each has values of
    every part (both classes, five values where it has that many), else the draw that lacks least.

    A split that is not drawn (a column, times, positions) is what it is. Notes say of which targets
    the test part cannot judge.

    Raises:
        DataError, ConfigError: see `make_split`.
    """
    split = make_split(table, how, seed)
    if len(table.target_names) == 1:
        return split
    best, lacking = split, missing(table, split)
    draws = 1
    for draw in range(1, _DRAWS):
        if not lacking:
            break
        other = _redrawn(table, split, how, seed + 1_000_003 * draw)
        if other is None:
            continue
        if np.array_equal(other.labels, split.labels):
            break  # nothing is drawn
        draws += 1
        found = missing(table, other)
        if len(found) < len(lacking):
            best, lacking = other, found
    notes = list(best.notes)
    if best is not split:
        notes.append(
            f"the best of {draws} draws, so that targets have values in every part (seed "
            f"{best.seed})"
        )
    return dataclasses.replace(best, notes=[*notes, *_said(table, best, lacking)])


def _redrawn(table: AssayTable, split: Split, how: str, seed: int) -> Split | None:
    """The same kind of split with another seed; None where groups cannot be dealt out so."""
    if split.groups is None:
        return make_split(table, how, seed)
    # Groups are known by now, and take most of the time to find.
    shares = checked_fractions(None, len(set(table.sequences)))
    labels = fill_by_group(split.groups, shares, np.random.default_rng(seed))
    if labels is None or not all((labels == part).any() for part in PARTS):
        return None
    dealt = (f"{part} {len(np.unique(split.groups[labels == part])):,}" for part in PARTS)
    first, _, _ = split.notes[0].partition("; in ")
    notes = [f"{first}; in {', '.join(dealt)}", *split.notes[1:]]
    return dataclasses.replace(split, labels=labels, seed=seed, notes=notes)


def missing(table: AssayTable, split: Split) -> list[tuple[int, str]]:
    """(target, part) for each part that holds too few values of a target."""
    found = []
    for part, wanted in _WANTED.items():
        values = table.targets[split.index(part)]
        for j in range(values.shape[1]):
            known = values[:, j][~np.isnan(values[:, j])]
            levels = 2 if part == "train" or table.task_of(j) == CLASSIFICATION else 1
            if len(known) < wanted or len(np.unique(known)) < levels:
                found.append((j, part))
    return found


def _said(table: AssayTable, split: Split, lacking: list[tuple[int, str]]) -> list[str]:
    notes = []
    test = table.targets[split.index("test")]
    for j, name in enumerate(table.target_names):
        n = int((~np.isnan(test[:, j])).sum())
        if n < MIN_TEST:
            rows = "row" if n == 1 else "rows"
            notes.append(f"target {name!r}: {n} test {rows}, too few to be judged")
        elif (j, "test") in lacking:
            notes.append(f"target {name!r}: one class in the test part, which cannot be judged")
        if (j, "valid") in lacking:
            notes.append(f"target {name!r}: hardly a validation value, so no interval of its own")
    return notes
