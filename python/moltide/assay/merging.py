"""Rows of one sequence become one entry; contradictions are listed, left out or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay.ledger import Ledger, rows_text
from moltide.assay.measure import MergedTarget, Readings, merge_target
from moltide.assay.options import ReadOptions
from moltide.assay.source import Source
from moltide.assay.summary import TargetSummary
from moltide.assay.values import CensorArray, FloatArray

IntArray = npt.NDArray[np.int64]


@dataclass
class MergedRows:
    """n entries with k targets; `members` are the 0-based data rows behind each entry.

    `copies` are rows that repeat an earlier one in every field but their part of a split.
    """

    members: list[list[int]]
    targets: FloatArray
    censor: CensorArray
    counts: IntArray
    sds: list[float | None]
    summaries: list[TargetSummary]
    copies: list[int]


def merge_rows(
    source: Source,
    sequences: Sequence[str],
    readings: Sequence[Readings],
    options: ReadOptions,
    ledger: Ledger,
    parts: Sequence[str] = (),
) -> MergedRows:
    """Merge the rows in use by sequence (or keep them apart), for every target.

    Entries left without any value (ties between classes, contradictions left out) go to the
    ledger with their rows. `parts` are split columns, in which copies of a row may differ.

    Raises:
        DataError: contradicting readings, when `on_conflict` is "error".
    """
    import pandas as pd

    used = ledger.used()
    codes, uniques = pd.factorize(
        np.array([sequences[i] for i in used], dtype=object), use_na_sentinel=False
    )
    groups = codes.astype(np.int64)
    how = options.replicates
    cells = pd.DataFrame({c: source.texts(c) for c in source.columns if c not in parts})
    copies = cells.iloc[used].duplicated().to_numpy(dtype=bool)
    merged = [merge_target(one, used, groups, len(uniques), how, copies) for one in readings]
    members = _members(used, groups, len(uniques))
    _locate_conflicts(source, merged, members, options)
    conflicts = [set(one.conflicts) for one in merged]
    if how == "keep":
        merged = _kept_apart(readings, used, merged)
        members = [[int(row)] for row in used]
        group_of = groups
    else:
        group_of = np.arange(len(uniques))
    if options.on_conflict == "set_aside":
        for one, wrong in zip(merged, conflicts, strict=True):
            one.values[np.isin(group_of, list(wrong))] = np.nan
    targets = np.stack([one.values for one in merged], axis=1)
    empty = np.isnan(targets).all(axis=1)
    left_out = [row for group in np.flatnonzero(empty) for row in members[group]]
    ledger.leave_out(left_out, "contradicting readings")
    keep = np.flatnonzero(~empty)
    return MergedRows(
        [members[group] for group in keep],
        targets[keep],
        np.stack([one.censor for one in merged], axis=1)[keep],
        np.stack([one.count for one in merged], axis=1)[keep],
        [one.sd for one in merged],
        [one.summary for one in merged],
        [int(row) for row in used[copies]],
    )


def _members(used: IntArray, groups: IntArray, n: int) -> list[list[int]]:
    members: list[list[int]] = [[] for _ in range(n)]
    for row, group in zip(used.tolist(), groups.tolist(), strict=True):
        members[group].append(row)
    return members


def _locate_conflicts(
    source: Source, merged: list[MergedTarget], members: list[list[int]], options: ReadOptions
) -> None:
    """Write conflicts into the summaries as row numbers; refuse them when asked to."""
    for one in merged:
        summary = one.summary
        summary.conflicts = [
            [source.row(i) for i in members[group]] for group in one.reading_conflicts
        ]
        summary.bound_conflicts = [
            [source.row(i) for i in members[group]] for group in one.bound_conflicts
        ]
        found = summary.conflicts + summary.bound_conflicts
        if found and options.on_conflict == "error":
            listed = "; ".join(rows_text(rows) for rows in found[:5])
            raise source.fail(
                f"target {summary.name!r}: sequences whose readings contradict each "
                f"other: {len(found):,} ({listed})"
            )


def _kept_apart(
    readings: Sequence[Readings],
    used: IntArray,
    by_sequence: list[MergedTarget],
) -> list[MergedTarget]:
    """Every row its own entry; noise and conflicts stay those found across rows."""
    alone = np.arange(len(used), dtype=np.int64)
    merged = [merge_target(one, used, alone, len(used), "mean") for one in readings]
    for one, across in zip(merged, by_sequence, strict=True):
        one.sd, one.summary = across.sd, across.summary
    return merged
