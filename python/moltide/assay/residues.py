"""Residue strings as people store them, made clean; what was changed is counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from moltide.sequences import RESIDUES


@dataclass(frozen=True)
class Alphabet:
    """The letters of one kind of sequence.

    `letters` are ordinary, `ambiguous` accepted and counted; `stop` ends a sequence and `gaps`
    are alignment marks that are removed.
    """

    name: str
    letters: str
    ambiguous: str
    stop: str = "*"
    gaps: str = "-."


PROTEIN = Alphabet("protein", RESIDUES, "XBZUOJ")
_WHITESPACE = " \t\r\n\x0b\x0c\xa0\u200b\ufeff"


@dataclass
class CleanSequences:
    """Cleaned sequences, parallel to the input, and what cleaning met (indices into the input)."""

    sequences: list[str]
    empty: list[int] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    illegal: list[tuple[int, str, int]] = field(default_factory=list)
    lower_case: int = 0
    whitespace: int = 0
    gaps: int = 0
    terminal_stop: int = 0
    ambiguous: int = 0

    def notes(self) -> list[str]:
        """One sentence for each kind of change made."""
        said = [
            (self.lower_case, "in lower case, upper-cased"),
            (self.whitespace, "with white space inside, removed"),
            (self.gaps, "with gaps ('-' or '.'), removed"),
            (self.terminal_stop, "ending in '*' (the stop), trimmed"),
            (self.ambiguous, "with ambiguous or rare residues (X B Z U O J), kept"),
        ]
        return [f"sequences {what}: {count:,}" for count, what in said if count]


def clean_sequences(values: Iterable[str], alphabet: Alphabet = PROTEIN) -> CleanSequences:
    """Upper-case, drop white space, gaps and a final stop; find what cannot be used.

    `illegal` lists (index, character, 1-based position in the text as given); a sequence with an
    inner stop is listed in `stops` and keeps its `*`; nothing is dropped here.
    """
    known = str.maketrans("", "", alphabet.letters)
    accepted = set(alphabet.letters + alphabet.ambiguous + alphabet.stop)
    removed = str.maketrans("", "", _WHITESPACE + alphabet.gaps)
    result = CleanSequences([])
    for index, value in enumerate(values):
        text = value
        if text.translate(known):
            text = _clean_one(index, text, alphabet, accepted, removed, result)
        elif not text:
            result.empty.append(index)
        result.sequences.append(text)
    return result


def _clean_one(
    index: int,
    value: str,
    alphabet: Alphabet,
    accepted: set[str],
    removed: dict[int, int | None],
    result: CleanSequences,
) -> str:
    if not value.isascii():
        for place, character in enumerate(value):
            if not character.isascii() and character not in _WHITESPACE:
                result.illegal.append((index, character, place + 1))
                return value
    text = value.strip(_WHITESPACE)
    upper = text.upper()
    result.lower_case += upper != text
    bare = upper.translate(removed)
    if len(bare) != len(upper):
        inner = set(upper)
        result.whitespace += bool(inner.intersection(_WHITESPACE))
        result.gaps += bool(inner.intersection(alphabet.gaps))
    for character in bare:
        if character not in accepted:
            place = next(i for i, c in enumerate(value) if c.upper() == character)
            result.illegal.append((index, value[place], place + 1))
            return bare
    trimmed = bare.rstrip(alphabet.stop)
    result.terminal_stop += len(trimmed) != len(bare)
    if not trimmed:
        result.empty.append(index)
    elif alphabet.stop in trimmed:
        result.stops.append(index)
    if any(letter in alphabet.ambiguous for letter in trimmed):
        result.ambiguous += 1
    return trimmed
