"""SMILES cut into atoms and bonds by a regular expression and looked up in a vocabulary.

The expression is that of Schwaller et al. 2019 (doi:10.1021/acscentsci.9b00576), as published with
DeepChem's SmilesTokenizer (ChemBERTa on vocab.txt) and, without reactions, with MoLFormer. What it
does not match is left out by the published tokenizers, and what it matches outside the vocabulary
is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from moltide.errors import DataError
from moltide.kinds import MOLECULE
from moltide.tokenization.base import Tokenizer
from moltide.tokenization.published_files import (
    dump,
    split_by,
    vocabulary_files,
    word_level_document,
)

_ATOMS = r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p"
_BEFORE = r"\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?"
_AFTER = r"\*|\$|\%[0-9]{2}|[0-9]"

# Published with DeepChem's SmilesTokenizer, and with MoLFormer.
DEEPCHEM_PATTERN = rf"({_ATOMS}|{_BEFORE}|>>?|{_AFTER})"
MOLFORMER_PATTERN = rf"({_ATOMS}|{_BEFORE}|>|{_AFTER})"
PATTERNS = (DEEPCHEM_PATTERN, MOLFORMER_PATTERN)

_SHOWN = 60


class PatternTokenizer(Tokenizer):
    """SMILES to packed token ids by a regular expression; results as for `Tokenizer`.

    Args:
        vocabulary: tokens in id order.
        specials: "cls_token" and the others of `Tokenizer.specials`.
        pattern: one of `PATTERNS`.
    """

    kind = MOLECULE

    def __init__(
        self,
        vocabulary: Sequence[str],
        specials: dict[str, str],
        pattern: str = DEEPCHEM_PATTERN,
        where: str = "vocabulary",
    ) -> None:
        super().__init__(vocabulary, specials, where)
        self.pattern = pattern
        # Found first: "[MASK]" would be a bracket atom to the pattern.
        spelled = sorted(set(self.specials.values()), key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, spelled))})")
        self._pieces = re.compile(pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternTokenizer) and (
            (self.vocabulary, self.specials, self.pattern)
            == (other.vocabulary, other.specials, other.pattern)
        )

    def __hash__(self) -> int:
        return hash((self.vocabulary, self.pattern))

    def files(self) -> dict[str, str]:
        files = vocabulary_files(self.vocabulary, self.specials, "PreTrainedTokenizerFast")
        keep_matches = split_by({"Regex": self.pattern}, "Removed", True)
        document = word_level_document(
            self.vocabulary, self.specials, set(self.specials.values()), keep_matches
        )
        return {**files, "tokenizer.json": dump(document)}

    def _encode(
        self, sequences: Sequence[str], first_index: int, strict: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        if not all(isinstance(text, str) and text for text in sequences):
            return super()._encode(sequences, first_index, strict)
        found = [self._pieces.findall(text) for text in sequences]
        for text, pieces in zip(sequences, found, strict=True):
            whole = sum(map(len, pieces)) == len(text) and not self._special.search(text)
            if not whole or not all(map(self._ids.__contains__, pieces)):
                return super()._encode(sequences, first_index, strict)
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
        ids = map(self._ids.__getitem__, chain.from_iterable(found))
        return np.fromiter(ids, dtype=np.int32, count=int(lengths.sum())), lengths

    def _cut(self, text: str) -> Iterator[tuple[int, str]]:
        """Where each piece starts, and the piece."""
        start = 0
        for number, part in enumerate(self._special.split(text)):
            if number % 2:
                yield start, part
            else:
                found = self._pieces.finditer(part)
                yield from ((start + match.start(), match.group()) for match in found)
            start += len(part)

    def _ids_of(self, text: str) -> np.ndarray:
        ids = [self._ids.get(piece, self.unk_id) for _, piece in self._cut(text)]
        return np.array(ids, dtype=np.int32)

    def _has_unknown(self, text: str, index: int) -> bool:
        if not text.strip():
            raise DataError(f"molecule {index} is empty")
        inside = {self.specials.get("mask_token"), self.specials["unk_token"]}
        framing = set(self.specials.values()) - inside
        end, strange, unknown = 0, "", False
        for start, piece in self._cut(text):
            if start != end or piece in framing:
                strange = piece if start == end else ""
                break
            unknown |= piece not in self._ids
            end = start + len(piece)
        if end != len(text):
            raise DataError(
                f"molecule {index}, position {end + 1}: {strange or text[end]!r} does not belong "
                f"in SMILES ({text[:_SHOWN]!r})"
            )
        return unknown
