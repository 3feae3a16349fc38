"""The wild type of a table: given as residues or FASTA, or read off the table itself."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from moltide.assay.mutations import Change, Mutation, is_wild_type, place_changes
from moltide.assay.numbering import best_offset, choose_offset
from moltide.assay.residues import PROTEIN, Alphabet, clean_sequences
from moltide.errors import DataError
from moltide.fasta import read_fasta
from moltide.options import option

# Below this typical identity to the consensus there is a family, not the variants of one parent.
_MIN_IDENTITY = 0.75
# A residue below this share at its position may be the library's favourite, not the parent's.
_MIN_SHARE = 0.5
# With fewer sequences of one length these are no substitutions of one parent.
_MIN_SAME_LENGTH = 0.9


@dataclass(frozen=True)
class WildType:
    """`sequence`, and a sentence on where it comes from."""

    sequence: str
    said: str


def read_wildtype(given: str | os.PathLike[str], alphabet: Alphabet = PROTEIN) -> WildType:
    """A wild type given as residues or as the path of a FASTA file with one record.

    Raises:
        DataError: illegal residues, or a FASTA file with none or several records.
        FileNotFoundError: it looks like a path and there is no such file.
    """
    text = os.fspath(given)
    path = Path(text)
    looks_like_path = any(mark in text for mark in "/\\.") or not isinstance(given, str)
    if looks_like_path or (len(text) < 256 and path.is_file()):
        if not path.exists():
            raise FileNotFoundError(f"no such wild-type file: {path}")
        records = list(read_fasta(path))
        if len(records) != 1:
            raise DataError(f"{path.name}: a wild type is one FASTA record, found {len(records)}")
        name, text = records[0]
        said = f"wild type: record {name!r} of {path.name}"
    else:
        said = "wild type: as given"
    clean = clean_sequences([text], alphabet)
    if clean.illegal:
        _, character, place = clean.illegal[0]
        raise DataError(f"wild type: {character!r} at position {place} is no {alphabet.unit}")
    if clean.empty:
        raise DataError(f"wild type: no {alphabet.unit}s")
    if clean.stops:
        raise DataError("wild type: a stop ('*') inside the sequence")
    sequence = clean.sequences[0]
    return WildType(sequence, f"{said}, {len(sequence)} {alphabet.unit}s")


def letters_matrix(sequences: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Equal-length sequences as ASCII codes, (n, length) uint8."""
    joined = "".join(sequences).encode("ascii")
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(sequences), -1)


def consensus(sequences: Sequence[str]) -> tuple[str, npt.NDArray[np.float64], float]:
    """Most frequent residue at each position of equal-length sequences.

    Returns the consensus, its share of each position (length,), and the median identity to it.
    """
    letters = letters_matrix(sequences)
    best = np.zeros(letters.shape[1], dtype=np.int64)
    winner = np.zeros(letters.shape[1], dtype=np.uint8)
    for code in np.unique(letters):
        count = (letters == code).sum(axis=0)
        better = count > best
        best[better], winner[better] = count[better], code
    identity = float(np.median((letters == winner).mean(axis=1)))
    return winner.tobytes().decode("ascii"), best / len(letters), identity


def infer_wildtype(
    sequences: Sequence[str],
    mutation_texts: Sequence[str] | None,
    zero_rows: Sequence[bool] | None,
    unit: str = PROTEIN.unit,
) -> WildType | str:
    """The parent of a table of variants, or a sentence ("" for a family) on why there is none.

    Signs, strongest first: a row whose mutation cell says wild type, rows that count no mutation
    (`zero_rows`), the consensus of the sequences of the usual length, if nearly all have it and it
    is clear at every position (a library that randomises a site says nothing about the parent's
    residue there).
    """
    if mutation_texts is not None:
        named = [
            sequence
            for sequence, text in zip(sequences, mutation_texts, strict=True)
            if text and is_wild_type(text)
        ]
        if named and len(set(named)) == 1:
            return WildType(named[0], "wild type: the row that says so")
    if zero_rows is not None:
        zero = {sequence for sequence, none in zip(sequences, zero_rows, strict=True) if none}
        if len(zero) == 1:
            return WildType(zero.pop(), "wild type: the row with no mutation counted")
    length = Counter(map(len, sequences)).most_common(1)[0][0] if sequences else 0
    if len(sequences) < 3 or not mostly_as_long(length, sequences):
        return ""
    usual = [sequence for sequence in sequences if len(sequence) == length]
    sequence, share, identity = consensus(usual)
    if identity < _MIN_IDENTITY:
        return ""
    unclear = np.flatnonzero(share < _MIN_SHARE)
    # Mutation strings name the parent's residues, so they settle what a consensus cannot.
    if len(unclear) and mutation_texts is None:
        sites = ", ".join(str(position + 1) for position in unclear[:8])
        return (
            f"wild type: not told by the table (no {unit} is in half the rows at position {sites}"
            f"{', ...' if len(unclear) > 8 else ''}); give {option('wildtype')} for what depends "
            "on it"
        )
    return WildType(
        sequence,
        f"wild type: inferred, the consensus of {len(usual):,} sequences of "
        f"{len(sequence)} {unit}s (give {option('wildtype')} if your parent is another)",
    )


def mostly_as_long(length: int, sequences: Sequence[str]) -> bool:
    """Whether all but a few sequences are `length` long, so that the few can be set apart."""
    fitting = sum(len(sequence) == length for sequence in sequences)
    return fitting >= _MIN_SAME_LENGTH * len(sequences)


def mutations_of(wildtype: str, sequences: Sequence[str]) -> list[tuple[Mutation, ...]]:
    """The substitutions of each sequence (all as long as `wildtype`), by rising position."""
    letters = letters_matrix(sequences)
    parent = np.frombuffer(wildtype.encode("ascii"), dtype=np.uint8)
    rows, positions = np.nonzero(letters != parent)
    # One object for each distinct substitution, shared by the variants that carry it.
    keys, kind = np.unique(positions * 256 + letters[rows, positions], return_inverse=True)
    kinds = [Mutation(wildtype[key >> 8], key >> 8, chr(key & 255)) for key in keys.tolist()]
    carried = [kinds[i] for i in kind.tolist()]
    ends = np.searchsorted(rows, np.arange(len(sequences) + 1)).tolist()
    return [tuple(carried[ends[row] : ends[row + 1]]) for row in range(len(sequences))]


@dataclass(frozen=True)
class Agreement:
    """How a table's mutation strings and sequences fit together under one numbering."""

    wildtype: str
    mutations: list[tuple[Mutation, ...]]
    offset: int
    said: str
    wrong: list[tuple[int, str]]


def reconcile(
    wildtype: str,
    sequences: Sequence[str],
    changes: Sequence[tuple[Change, ...]],
    inferred: bool,
    numbering: int | None = None,
) -> Agreement:
    """Find the author's numbering from mutation strings that stand beside full sequences.

    An inferred wild type takes the letters that the strings name (a consensus may be wrong where
    one substitution is over-represented). `wrong` lists (index, sentence) of rows whose string
    and sequence disagree; sequences win.
    """
    flat = [change for row in changes for change in row]
    best = _agreement(wildtype, sequences, changes, flat, numbering)
    if not inferred or not best.wrong:
        return best
    letters = list(wildtype)
    for change in flat:
        if 0 <= change.number - best.offset < len(letters) and change.wt in PROTEIN.letters:
            letters[change.number - best.offset] = change.wt
    corrected = _agreement("".join(letters), sequences, changes, flat, numbering)
    return corrected if len(corrected.wrong) < len(best.wrong) else best


def _agreement(
    wildtype: str,
    sequences: Sequence[str],
    changes: Sequence[tuple[Change, ...]],
    flat: Sequence[Change],
    numbering: int | None,
) -> Agreement:
    """The best numbering under `wildtype`, and the rows that contradict it."""
    if numbering is not None:
        offset, said = numbering, f"numbering: the first residue is number {numbering} (given)"
    else:
        chosen, said = choose_offset(flat, wildtype)
        offset = best_offset(flat, wildtype) if chosen is None else chosen
        if chosen is None:
            said = f"numbering: taken to start at {offset}, which most rows agree with"
    actual = mutations_of(wildtype, sequences)
    wrong: list[tuple[int, str]] = []
    for index, (row, actual_row) in enumerate(zip(changes, actual, strict=True)):
        placed = place_changes(row, wildtype, offset)
        if isinstance(placed, str):
            wrong.append((index, placed))
        elif placed != actual_row:
            wrong.append((index, "the mutation string and the sequence differ"))
    return Agreement(wildtype, actual, offset, said, wrong)
