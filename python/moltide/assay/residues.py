"""Residues and nucleotides as people store them, made clean; what was changed is counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from moltide import kinds
from moltide.sequences import NUCLEOTIDES, RESIDUES


@dataclass(frozen=True)
class Alphabet:
    """The letters of one kind of sequence.

    `kind` is one of `moltide.kinds.KINDS`. `letters` are ordinary, `ambiguous` accepted and
    counted; `stop` ends a sequence ("": there is none) and `gaps` are alignment marks that are
    removed; `read_as` are letters that stand for others.
    """

    kind: str
    letters: str
    ambiguous: str
    stop: str = "*"
    gaps: str = "-."
    read_as: tuple[tuple[str, str], ...] = ()

    @property
    def unit(self) -> str:
        """What one letter is called."""
        return kinds.UNIT[self.kind]


PROTEIN = Alphabet(kinds.PROTEIN, RESIDUES, "XBZUOJ")
# The letters that published RNA models know: IUPAC's, inosine, and X.
RNA = Alphabet(kinds.RNA, NUCLEOTIDES, "NRYSWKMBDHVIX", stop="", read_as=(("T", "U"),))
_ALPHABETS = {one.kind: one for one in (PROTEIN, RNA)}
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
    read_as: int = 0
    alphabet: Alphabet = PROTEIN

    def notes(self) -> list[str]:
        """One sentence for each kind of change made."""
        alphabet, rare = self.alphabet, " ".join(self.alphabet.ambiguous)
        pairs = ", ".join(f"{one}, read as {other}" for one, other in alphabet.read_as)
        said = [
            (self.lower_case, "in lower case, upper-cased"),
            (self.whitespace, "with white space inside, removed"),
            (self.gaps, "with gaps ('-' or '.'), removed"),
            (self.terminal_stop, "ending in '*' (the stop), trimmed"),
            (self.read_as, f"with {pairs}" if pairs else ""),
            (self.ambiguous, f"with ambiguous or rare {alphabet.unit}s ({rare}), kept"),
        ]
        return [f"sequences {what}: {count:,}" for count, what in said if count]


def alphabet_of(kind: str) -> Alphabet:
    """The letters of a kind of sequence; of proteins, where it is "auto"."""
    return _ALPHABETS.get(kind, PROTEIN)


def clean_sequences(values: Iterable[str], alphabet: Alphabet = PROTEIN) -> CleanSequences:
    """Upper-case, drop white space, gaps and a final stop, T of RNA is U; find what cannot be used.

    `illegal` lists (index, character, 1-based position in the text as given); a sequence with an
    inner stop is listed in `stops` and keeps its `*`; nothing is dropped here.
    """
    known = str.maketrans("", "", alphabet.letters)
    accepted = set(alphabet.letters + alphabet.ambiguous + alphabet.stop)
    accepted |= dict(alphabet.read_as).keys()
    removed = str.maketrans("", "", _WHITESPACE + alphabet.gaps)
    result = CleanSequences([], alphabet=alphabet)
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
    if not accepted.issuperset(bare):
        strange = next(one for one in bare if one not in accepted)
        place = next(i for i, c in enumerate(value) if c.upper() == strange)
        result.illegal.append((index, value[place], place + 1))
        return bare
    folded = bare.translate({ord(one): other for one, other in alphabet.read_as})
    result.read_as += folded != bare
    trimmed = folded.rstrip(alphabet.stop) if alphabet.stop else folded
    result.terminal_stop += len(trimmed) != len(bare)
    if not trimmed:
        result.empty.append(index)
    elif alphabet.stop and alphabet.stop in trimmed:
        result.stops.append(index)
    result.ambiguous += not set(alphabet.ambiguous).isdisjoint(trimmed)
    return trimmed
