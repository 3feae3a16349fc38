"""Residue tokenizers: the ids that a model was published with, character for character.

Two published behaviours exist for the ESM vocabulary and differ where text is not residues:

- `vocab.txt` (Transformers' EsmTokenizer, what facebook/esm2_* ships): every vocabulary entry is
  found inside the text, white space separates, and a run of other characters is ONE <unk>.
- `tokenizer.json` (a WordLevel model split by character): every other character, white space
  included, is an <unk> of its own, and only the added special tokens are found inside the text.

Lower case is not folded: published ESM tokenizers read "mkt" as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moltide.errors import DataError
from moltide.kinds import PROTEIN, UNIT
from moltide.pairs import linked
from moltide.tokenization.base import FRAME, Tokenizer
from moltide.tokenization.published_files import (
    BY_CHARACTER,
    dump,
    vocabulary_files,
    word_level_document,
)

__all__ = ["ESM_VOCABULARY", "FRAME", "ResidueTokenizer"]

# The 33 tokens of ESM-1b, ESM-1v and ESM-2 in their published order.
ESM_VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)

_SPECIALS = {
    "cls_token": "<cls>",
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
# Symbols that protein files use and ESM's vocabulary lacks: stop, and any letter.
_READ_AS_UNKNOWN = re.compile(r"[A-Za-z*]+")
# Special tokens that a sequence may spell out; the others belong to the frame around it.
_ALLOWED_INSIDE = ("mask_token", "unk_token")


class ResidueTokenizer(Tokenizer):
    """Sequences to packed token ids and back, for a vocabulary of residues and special tokens.

    Letters outside the vocabulary (lower case, J) and the stop sign * are read as <unk>, as
    published, with one warning; a pair of chains is read through its linker (`moltide.pairs`);
    digits, punctuation and the like are refused.

    Args:
        vocabulary: tokens in id order.
        specials: names such as "mask_token" to tokens; defaults are ESM's.
        split: "vocabulary" for vocab.txt's behaviour, "characters" for tokenizer.json's.
        added: tokens found inside the text with "characters"; by default the special ones.

    Raises:
        CheckpointError: a token twice, or a special token that the vocabulary lacks.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] = ESM_VOCABULARY,
        specials: dict[str, str] | None = None,
        split: str = "vocabulary",
        added: Sequence[str] | None = None,
        where: str = "vocabulary",
    ) -> None:
        super().__init__(vocabulary, {**_SPECIALS, **(specials or {})}, where)
        self.split = split
        self.added = tuple(self.specials.values() if added is None else added)
        found_inside = self.vocabulary if split == "vocabulary" else self.added
        spelled = sorted((t for t in found_inside if len(t) > 1), key=len, reverse=True)
        self._pieces = re.compile("|".join([*map(re.escape, spelled), "."]), re.DOTALL)
        self._lookup = self._byte_table({token[0] for token in spelled})

    def _byte_table(self, starts: set[str]) -> np.ndarray:
        """Id of every ASCII byte that stands alone as a token; -1 where the text needs a look."""
        table = np.full(256, -1, dtype=np.int32)
        for token, index in self._ids.items():
            if len(token) == 1 and token.isascii() and token not in starts:
                table[ord(token)] = index
        return table

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResidueTokenizer) and (
            (type(self), self.vocabulary, self.specials, self.split, self.added)
            == (type(other), other.vocabulary, other.specials, other.split, other.added)
        )

    def __hash__(self) -> int:
        return hash((self.vocabulary, self.split))

    def files(self) -> dict[str, str]:
        if self.split == "vocabulary":
            return vocabulary_files(self.vocabulary, self.specials, "EsmTokenizer")
        files = vocabulary_files(self.vocabulary, self.specials, "PreTrainedTokenizerFast")
        document = word_level_document(self.vocabulary, self.specials, self.added, BY_CHARACTER)
        return {**files, "tokenizer.json": dump(document)}

    def cost(self, text: object) -> int:
        pair = isinstance(text, str) and self.kind == PROTEIN
        return super().cost(linked(str(text)) if pair else text)

    def count(self, text: object) -> int:
        return self.cost(text)

    def _encode(
        self, sequences: Sequence[str], first_index: int, strict: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        if strict and self.kind == PROTEIN:
            # Pairs of chains, which no published tokenizer knows.
            sequences = [linked(one) if isinstance(one, str) else one for one in sequences]
        found = self._fast_ids(sequences)
        return super()._encode(sequences, first_index, strict) if found is None else found

    def _fast_ids(self, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """Ids end to end by table, and lengths, if all text is plain non-empty residues; None if
        any needs a closer look."""
        if not all(isinstance(text, str) and text for text in sequences):
            return None
        try:
            text = "".join(sequences).encode("ascii")
        except UnicodeEncodeError:
            return None
        ids = self._lookup[np.frombuffer(text, dtype=np.uint8)]
        if ids.size and ids.min() < 0:
            return None
        return ids, np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))

    def _unknown_note(self, indices: list[int], count: int) -> str:
        return (
            f"{len(indices)} of {count} sequences (first: number {indices[0]}) hold letters or * "
            f"outside the vocabulary {self.residues}; they are read as "
            f"{self.specials['unk_token']}, as the published tokenizer does"
        )

    def _ids_of(self, text: str) -> np.ndarray:
        """Published ids of any text, without the frame."""
        ids: list[int] = []
        in_run = False
        for piece in self._pieces.findall(text):
            index = self._ids.get(self._folded(piece))
            if self.split == "characters":
                ids.append(self.unk_id if index is None else index)
            elif index is not None:
                ids.append(index)
                in_run = False
            elif piece.isspace():
                in_run = False
            elif not in_run:
                ids.append(self.unk_id)
                in_run = True
        return np.array(ids, dtype=np.int32)

    def _folded(self, piece: str) -> str:
        """The token that a piece of text is looked up as."""
        return piece

    def _has_unknown(self, text: str, index: int) -> bool:
        """True if letters will be read as unknown; raises on what is no residue symbol."""
        position, unknown = 0, False
        allowed = {self.specials[name] for name in _ALLOWED_INSIDE}
        for piece in self._pieces.findall(text):
            position += 1
            token = self._folded(piece)
            if token in self._ids and (len(token) == 1 or token in allowed):
                continue
            if piece.isspace() and self.split == "vocabulary":
                position -= 1
            elif _READ_AS_UNKNOWN.fullmatch(piece):
                unknown = True
            else:
                raise DataError(
                    f"sequence {index}, position {position}: {piece!r} is no {UNIT[self.kind]}; "
                    f"allowed: {self.residues}, {', '.join(sorted(allowed))}"
                )
        if not position:
            raise DataError(f"sequence {index} is empty")
        return unknown
