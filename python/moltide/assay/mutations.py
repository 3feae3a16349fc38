"""Mutations of a wild type: reading, writing, applying, and whose numbering they use.

Understood: `A40P`, several joined by `/ : , ; + _ & |` or spaces, `WT` (also `wt`, `_wt`,
`wild type`), synonymous `P20P` and `P20=`, stop `W71*`, and protein-level HGVS
(`p.Ala40Pro`, `p.[Ala40Pro;Glu61Tyr]`, `p.=`). Insertions, deletions and frameshifts are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from moltide.errors import DataError


class Mutation(NamedTuple):
    """One substitution: residue `wt` at 0-based `position` of the wild type becomes `mut`."""

    wt: str
    position: int
    mut: str


class Change(NamedTuple):
    """One substitution as its author wrote it: `number` is in the author's numbering."""

    wt: str
    number: int
    mut: str


_WILD_TYPE = {"wt", "_wt", "wildtype", "wild-type", "wild type", "wild_type", "parent", "p.=", "="}
_SHORT = re.compile(r"([A-Za-z*])(-?\d+)([A-Za-z*=])")
_LONG = re.compile(r"([A-Za-z]{3})(-?\d+)([A-Za-z]{3}|=|\*)")
_SEPARATOR = re.compile(r"[\s/:,;+_&|]+|(?<=[A-Za-z*=])-(?=[A-Za-z])")
_BRACKETS = str.maketrans("", "", "[]()")
_INDEL = re.compile(r"del|ins|dup|fs|\?", re.IGNORECASE)
_THREE_LETTERS = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E",
    "GLY": "G", "HIS": "H", "ILE": "I", "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F",
    "PRO": "P", "SER": "S", "THR": "T", "TRP": "W", "TYR": "Y", "VAL": "V",
    "SEC": "U", "PYL": "O", "TER": "*", "XAA": "X",
}  # fmt: skip


def is_wild_type(text: str) -> bool:
    """Whether a mutation cell says "no change" in words (`WT`, `_wt`, `p.=`, or nothing)."""
    word = text.strip().lower()
    return not word or word in _WILD_TYPE


@lru_cache(maxsize=65536)
def _read_change(token: str) -> Change | str:
    """One change in the author's numbering, or a sentence saying what is wrong with it."""
    match = _SHORT.fullmatch(token)
    if match:
        wt, number, mut = match[1].upper(), int(match[2]), match[3].upper()
    else:
        match = _LONG.fullmatch(token)
        if not match:
            return f"{token!r} is no mutation (expected a form such as A40P)"
        names = [match[1].upper(), match[3].upper()]
        unknown = [name for name in names if len(name) == 3 and name not in _THREE_LETTERS]
        if unknown:
            return f"{token!r}: {unknown[0]!r} is no residue"
        wt = _THREE_LETTERS[names[0]]
        number, mut = int(match[2]), _THREE_LETTERS.get(names[1], names[1])
    return Change(wt, number, wt if mut == "=" else mut)


@lru_cache(maxsize=1 << 17)
def read_changes(text: str) -> tuple[Change, ...] | str:
    """The changes of one mutation cell in the author's numbering, or a sentence on what is wrong.

    Synonymous changes are kept here (they tell about the wild type); `WT` gives `()`.
    """
    if is_wild_type(text):
        return ()
    changes: list[Change] = []
    for token in _SEPARATOR.split(text.strip().translate(_BRACKETS)):
        if not token:
            continue
        change = _read_change(token[2:] if token[:2] in ("p.", "P.") else token)
        if isinstance(change, str):
            if _INDEL.search(text):
                return f"{text!r} is no substitution (insertions and deletions are not read)"
            return change
        changes.append(change)
    if not changes:
        return f"{text!r} holds no mutation"
    if len(changes) == 1:
        return (changes[0],)
    numbers = [change.number for change in changes]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number, times in Counter(numbers).items() if times > 1)
        return f"{text!r} changes position {twice} twice"
    return tuple(sorted(changes, key=itemgetter(1)))


def place_changes(
    changes: Sequence[Change], wildtype: str, offset: int
) -> tuple[Mutation, ...] | str:
    """Changes as 0-based mutations of `wildtype`, or a sentence on the first contradiction."""
    placed: list[Mutation] = []
    for wt, number, mut in changes:
        position = number - offset
        if not 0 <= position < len(wildtype):
            last = offset + len(wildtype) - 1
            return (
                f"{wt}{number}{mut}: the wild type has positions {offset} to {last}, not {number}"
            )
        if wildtype[position] != wt:
            return (
                f"{wt}{number}{mut}: the wild type has {wildtype[position]}, not {wt}, "
                f"at position {number}"
            )
        if mut != wt:
            placed.append(Mutation(wt, position, mut))
    return tuple(placed)


def parse_mutations(text: str, wildtype: str, offset: int = 1) -> tuple[Mutation, ...]:
    """Read one mutation string against its wild type.

    Args:
        text: e.g. `"A40P/E61Y"`, `"WT"` or `"p.Ala40Pro"`.
        wildtype: residues of the wild type (case does not matter).
        offset: the number that the author gives to the first residue (1; 0 for 0-based).

    Returns:
        Mutations by rising position; synonymous changes vanish, the wild type is `()`.

    Raises:
        DataError: no mutation, a position outside the wild type, or another residue there.
    """
    changes = read_changes(text)
    placed = (
        changes if isinstance(changes, str) else place_changes(changes, wildtype.upper(), offset)
    )
    if isinstance(placed, str):
        raise DataError(placed)
    return placed  # type: ignore[return-value]


def format_mutations(
    mutations: Iterable[Mutation], offset: int = 1, separator: str = ":", wildtype: str = "WT"
) -> str:
    """Write mutations in the numbering that starts at `offset`; none of them is `wildtype`."""
    return separator.join(f"{m.wt}{m.position + offset}{m.mut}" for m in mutations) or wildtype


def apply_mutations(wildtype: str, mutations: Iterable[Mutation]) -> str:
    """The sequence that `mutations` make of `wildtype`.

    Raises:
        DataError: a position outside the wild type, or another residue there.
    """
    residues = list(wildtype)
    for wt, position, mut in mutations:
        if not 0 <= position < len(residues):
            raise DataError(f"position {position} (0-based) is outside {len(residues)} residues")
        if wildtype[position] != wt:
            raise DataError(
                f"wild type has {wildtype[position]}, not {wt}, at position {position} (0-based)"
            )
        residues[position] = mut
    return "".join(residues)


def diff(wildtype: str, sequence: str) -> tuple[Mutation, ...]:
    """The substitutions that turn `wildtype` into `sequence`, by rising position.

    Raises:
        DataError: the lengths differ (an insertion or deletion).
    """
    if len(wildtype) != len(sequence):
        raise DataError(
            f"substitutions need equal lengths: wild type {len(wildtype)}, sequence {len(sequence)}"
        )
    return tuple(
        Mutation(a, i, b) for i, (a, b) in enumerate(zip(wildtype, sequence, strict=True)) if a != b
    )
