"""account.csv, duplicates.csv and activity_cliffs.csv: every row, every repeat, every contradiction
of structure and activity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.assay.spread import ranges_of
from moltide.chem.cliffs import SIMILARITY, TargetCliffs, TargetValues, find_cliffs
from moltide.finetune.results import number, to_csv
from moltide.kinds import MOLECULE

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.assay.measure import Readings
    from moltide.splits import Split

_BOUND = {-1: "<", 0: "", 1: ">"}
# A difference that two readings of the same molecule hardly ever show: three of its SDs.
_NOISE_SDS = 3.0
_ENOUGH = 10  # repeated molecules that tell the noise
# Of values that are no logarithms: robust SDs (1.4826 times the median distance from the median).
_SPREADS = 2.0
OTHER_CLASS = "another class"


def account_csv(table: AssayTable) -> str:
    """One line a row of the source: its state, where it went or why not, its text as given, and its
    readings in the unit that was fitted. Of molecules also the standard form; of sequences the text
    stands there where the row is set aside alone, since files of long ones would double.

    Raises:
        ValueError: a table that was not read from a source.
    """
    account = table.account
    if account is None:
        raise ValueError("no account of a table that was made, not read")
    molecules = table.kind == MOLECULE
    header = ["row", "state", "merged_into", "reason", "given"]
    header += ["sequence"] if molecules else []
    header += table.target_names

    def rows() -> Iterator[list[Any]]:
        for index, one in enumerate(account.states()):
            cells = [one.row, one.state, "" if one.into is None else one.into, one.reason]
            cells.append(one.given if molecules or one.entry < 0 else "")
            if molecules:
                cells.append(table.sequences[one.entry] if one.entry >= 0 else "")
            yield [*cells, *(_reading(readings, index) for readings in account.readings)]

    return to_csv(header, rows())


@dataclass(frozen=True)
class Duplicate:
    """Readings of a target in the rows of one entry; `spread` is that of the exact ones, 0 of
    classes. `contradiction` is "" where they agree as well as others."""

    entry: int
    target: int
    readings: list[str]
    spread: float
    contradiction: str


def duplicates(table: AssayTable) -> list[Duplicate]:
    """Entries with two or more readings of a target, from several rows."""
    account, found = table.account, []
    if account is None:
        return []
    members = [[row - account.first_row for row in rows] for rows in table.rows]
    for j, readings in enumerate(account.readings):
        summary = table.summary.targets[j]
        spreads = ranges_of(readings.values, readings.censor, members, account.copies)
        contradicting = {tuple(rows) for rows in summary.conflicts}
        against_bound = {tuple(rows) for rows in summary.bound_conflicts}
        for i, rows in enumerate(members):
            texts = [_reading(readings, row) for row in rows] if len(rows) > 1 else []
            texts = [text for text in texts if text]
            if len(texts) > 1:
                key = tuple(table.rows[i])
                why = "a bound" if key in against_bound else ""
                why = "readings" if key in contradicting else why
                spread = float(np.nan_to_num(spreads[i])) if readings.classes is None else 0.0
                found.append(Duplicate(i, j, texts, spread, why))
    return found


def duplicates_csv(table: AssayTable) -> str:
    """One line a sequence and target with two or more readings in its rows."""
    header = [
        "rows", "sequence", "target", "readings", "value", "spread", "contradiction",
    ]  # fmt: skip
    rows = (
        [
            ";".join(map(str, table.rows[one.entry])),
            table.sequences[one.entry],
            table.target_names[one.target],
            "; ".join(one.readings),
            shown_value(table, one.target, one.entry),
            "" if table.classes_of(one.target) else number(one.spread),
            one.contradiction,
        ]
        for one in duplicates(table)
    )
    return to_csv(header, rows)


def _reading(readings: Readings, index: int) -> str:
    """What a row says of a target; several columns with `|` between."""
    cells = []
    for value, bound in zip(readings.values[index], readings.censor[index], strict=True):
        if np.isnan(value):
            continue
        text = number(value) if readings.classes is None else readings.classes[int(value)]
        cells.append(f"{_BOUND[int(bound)]}{text}")
    return "|".join(cells)


def cliffs_of(
    table: AssayTable,
    similarity: float = SIMILARITY,
    progress: Callable[[int, int], None] | None = None,
) -> list[TargetCliffs]:
    """The activity cliffs of a table of molecules, one entry a target.

    A pair is a cliff from a difference of 1 where values are logarithms, else of two robust SDs of
    the values; where repeats tell the noise, of three SDs of the difference of two readings at
    least. Classes must differ.
    """
    columns = range(len(table.target_names))
    targets = [_values_of(table, j) for j in columns]
    return find_cliffs(table.sequences, targets, similarity, progress)


def _values_of(table: AssayTable, column: int) -> TargetValues:
    name, values = table.target_names[column], table.targets[:, column]
    censor = table.censor[:, column]
    if table.classes_of(column):
        return TargetValues(name, values, censor, 0.5, OTHER_CLASS)
    if table.summary.targets[column].tenfold:
        limit, words = 1.0, "1 (tenfold)"
    else:
        known = values[~np.isnan(values) & (censor == 0)]
        width = 1.4826 * float(np.median(np.abs(known - np.median(known)))) if len(known) else 0.0
        limit = _SPREADS * (width or float(known.std() if len(known) else 0.0))
        words = f"{limit:.3g} ({_SPREADS:g} robust SDs of the values)"
    spread = table.summary.targets[column].spread
    if spread is not None and spread.sequences >= _ENOUGH:
        # 1.4826 makes an SD of a median; single outliers say nothing of the noise.
        noise = _NOISE_SDS * 1.4826 * spread.median
        if noise > limit:
            limit = noise
            words = f"{limit:.3g} ({_NOISE_SDS:g} SDs of the difference of two readings)"
    return TargetValues(name, values, censor, limit, words)


def cliffs_csv(table: AssayTable, split: Split, cliffs: list[TargetCliffs]) -> str:
    """One line a pair, of each target those furthest apart first."""
    ends = ["rows", "sequence", "given", "split", "value"]
    header = ["target", "difference", "similarity", "stereoisomers"]
    header += [f"{name}_{end}" for end in ("a", "b") for name in ends]
    flat: dict[int, str] = {}

    def without_stereo(i: int) -> str:
        from rdkit import Chem

        if i not in flat:
            molecule = Chem.MolFromSmiles(table.sequences[i])
            flat[i] = Chem.MolToSmiles(molecule, isomericSmiles=False)
        return flat[i]

    def rows() -> Iterator[list[Any]]:
        for column, found in enumerate(cliffs):
            classes = table.classes_of(column)
            for pair in found.pairs:
                # Molecules that differ in stereo alone have the same bits.
                same = pair.similarity == 1 and without_stereo(pair.a) == without_stereo(pair.b)
                difference = "" if classes else number(pair.difference)
                cells: list[Any] = [found.target.name, difference, f"{pair.similarity:.3f}"]
                cells.append("yes" if same else "no")
                for i in (pair.a, pair.b):
                    cells += [";".join(map(str, table.rows[i])), table.sequences[i]]
                    cells += [table.given(i), str(split.labels[i]) or "none"]
                    cells.append(shown_value(table, column, i))
                yield cells

    return to_csv(header, rows())


def shown_value(table: AssayTable, column: int, entry: int) -> str:
    """A value with its bound, or the name of a class."""
    value, classes = table.targets[entry, column], table.classes_of(column)
    if np.isnan(value):
        return ""
    if classes:
        return classes[int(value)]
    return f"{_BOUND[int(table.censor[entry, column])]}{number(value)}"


def cliff_line(one: TargetCliffs) -> str:
    """What to say of the cliffs of a target."""
    apart = "are of different classes"
    if one.target.words != OTHER_CLASS:
        apart = f"lie {one.target.words} or more apart"
    return (
        f"activity cliffs of {one.target.name!r}: {one.total:,} of {one.alike:,} pairs of "
        f"molecules that are {one.similarity:g} or more alike {apart}"
    )
