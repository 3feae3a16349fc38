"""Which number the author of a table gave to the first residue of the wild type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from moltide.assay.mutations import Change
from moltide.options import option


def consistent_offsets(changes: Iterable[Change], wildtype: str) -> list[int]:
    """Every offset (number of the first residue) under which all `changes` fit `wildtype`.

    Exact: each (letter, number) pair allows the offsets that put it on such a letter, and the
    answer is the intersection. No change at all allows everything and returns `[]`.
    """
    places: dict[str, list[int]] = {}
    for position, letter in enumerate(wildtype):
        places.setdefault(letter, []).append(position)
    allowed: set[int] | None = None
    for letter, number in {(change.wt, change.number) for change in changes}:
        if allowed is None:
            allowed = {number - position for position in places.get(letter, ())}
        else:
            length = len(wildtype)
            allowed = {
                offset
                for offset in allowed
                if 0 <= number - offset < length and wildtype[number - offset] == letter
            }
        if not allowed:
            return []
    return sorted(allowed or ())


def best_offset(changes: Iterable[Change], wildtype: str) -> int:
    """The offset that most distinct (letter, number) pairs agree with; 1, then 0, win ties.

    Distinct, so that one substitution carried by half the table does not outvote the rest.
    """
    places: dict[str, list[int]] = {}
    for position, letter in enumerate(wildtype):
        places.setdefault(letter, []).append(position)
    votes: Counter[int] = Counter()
    for letter, number in {(change.wt, change.number) for change in changes}:
        votes.update(number - position for position in places.get(letter, ()))
    if not votes:
        return 1
    return max(votes, key=lambda offset: (votes[offset], offset == 1, offset == 0, -abs(offset)))


def choose_offset(changes: Iterable[Change], wildtype: str) -> tuple[int | None, str]:
    """The author's numbering and a sentence on how it was found; None when nothing fits.

    One consistent offset is taken. Several: 1, else 0, is taken and the others are said, since
    those are the conventions; otherwise the caller must ask, and the sentence lists them.
    """
    changes = list(changes)
    if not changes:
        return 1, "numbering: no mutation to infer it from, residues counted from 1"
    offsets = consistent_offsets(changes, wildtype)
    if len(offsets) == 1:
        return offsets[0], (
            f"numbering: the first residue is number {offsets[0]} "
            "(the only start under which every row fits the wild type)"
        )
    for usual in (1, 0):
        if usual in offsets:
            others = ", ".join(str(offset) for offset in offsets if offset != usual)
            return usual, (
                f"numbering: the first residue is number {usual} (the usual one; {others} would "
                "fit as well)"
            )
    if offsets:
        listed = ", ".join(str(offset) for offset in offsets[:5])
        which = f"say which ({option('numbering')})"
        return None, f"the rows fit a first residue numbered {listed}: {which}"
    return None, "no numbering makes every row fit the wild type"
