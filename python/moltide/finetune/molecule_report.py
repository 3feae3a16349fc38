"""What a report of molecules shows beside the results: repeats and activity cliffs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moltide.finetune import folder as names
from moltide.finetune.accounts import cliff_line, duplicates, shown_value
from moltide.finetune.results import number

if TYPE_CHECKING:
    from moltide.finetune.planned import PlannedRun
    from moltide.report.molecules import CliffsOfTarget, Molecules

# Pairs drawn of a target (of several fewer), and disagreements drawn.
_PAIRS, _PAIRS_EACH, _DISAGREEMENTS = 12, 4, 8
_TARGETS = 12


def molecules_of(run: PlannedRun) -> Molecules:
    """Facts and drawings for the report of a run on molecules."""
    from moltide.chem.drawing import draw
    from moltide.report.molecules import Disagreement, Molecules

    table, summary = run.table, run.table.summary
    repeated = sum(len(rows) > 1 for rows in table.rows)
    facts = [
        f"{summary.rows_used:,} rows in use hold {len(table):,} molecules; {repeated:,} of these "
        f"stand in more than one row ({summary.merged_rows:,} rows merged)."
    ]
    for one in summary.targets:
        if one.spread is not None:
            text = (
                f"{one.name}: {one.spread.sequences:,} molecules were read more than once; from "
                f"lowest to highest reading {number(one.spread.median)} in the middle, "
                f"{number(one.spread.largest)} at most"
            )
            if one.tenfold:
                text += f", {one.spread.limit:g} or more for {one.spread.wide:,}"
            facts.append(f"{text}.")
    contradicting = [one for one in duplicates(table) if one.contradiction]
    drawn = [
        Disagreement(
            draw(table.sequences[one.entry]),
            table.sequences[one.entry],
            table.target_names[one.target],
            "; ".join(one.readings),
            "; ".join(map(str, table.rows[one.entry])),
        )
        for one in sorted(contradicting, key=lambda one: -one.spread)[:_DISAGREEMENTS]
    ]
    files = [
        (names.ACCOUNT, "every row of the table: used, merged or set aside, and why"),
        (names.DUPLICATES, "readings of every molecule that stands in several rows"),
    ]
    if run.cliffs:
        files.append((names.CLIFFS, "pairs of similar molecules that measure apart"))
    return Molecules(facts, drawn, len(contradicting) - len(drawn), _cliffs(run), files)


def _cliffs(run: PlannedRun) -> list[CliffsOfTarget]:
    from moltide.chem.drawing import draw_pair
    from moltide.report.molecules import CliffsOfTarget, MoleculePair

    table, found = run.table, []
    pairs = _PAIRS if len(run.cliffs) == 1 else _PAIRS_EACH
    for column, one in enumerate(run.cliffs):
        drawn = []
        for pair in one.pairs[:pairs] if column < _TARGETS else []:
            ends = (pair.a, pair.b)
            a, b = (table.sequences[i] for i in ends)
            values = [shown_value(table, column, i) for i in ends]
            rows = ["; ".join(map(str, table.rows[i])) for i in ends]
            parts = [str(run.split.labels[i]) or "no part" for i in ends]
            bound = any(table.censor[i, column] for i in ends)
            difference = ("at least " if bound else "") + number(pair.difference)
            drawn.append(
                MoleculePair(
                    draw_pair(a, b),
                    (a, b),
                    (values[0], values[1]),
                    (rows[0], rows[1]),
                    (parts[0], parts[1]),
                    pair.similarity,
                    "" if table.classes_of(column) else difference,
                )
            )
        if one.alike:
            found.append(CliffsOfTarget(one.target.name, cliff_line(one), drawn))
    return found
