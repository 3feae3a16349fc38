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
import warnings
from collections.abc import Sequence

import numpy as np

from moltide.errors import CheckpointError, ConfigError, DataError
from moltide.kinds import PROTEIN

# The 33 tokens of ESM-1b, ESM-1v and ESM-2 in their published order.
ESM_VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)

FRAME = 2  # <cls> and <eos>, around every sequence

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


class ResidueTokenizer:
    """Sequences to packed token ids and back, for a vocabulary of residues and special tokens.

    Args:
        vocabulary: tokens in id order.
        specials: names such as "mask_token" to tokens; defaults are ESM's.
        split: "vocabulary" for vocab.txt's behaviour, "characters" for tokenizer.json's.
        added: tokens found inside the text with "characters"; by default the special ones.

    Attributes:
        kind: what the text is, one of `moltide.kinds.KINDS`.

    Raises:
        CheckpointError: a token twice, or a special token that the vocabulary lacks.
    """

    kind = PROTEIN

    def __init__(
        self,
        vocabulary: Sequence[str] = ESM_VOCABULARY,
        specials: dict[str, str] | None = None,
        split: str = "vocabulary",
        added: Sequence[str] | None = None,
        where: str = "vocabulary",
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self.specials = {**_SPECIALS, **(specials or {})}
        self.split = split
        self.added = tuple(self.specials.values() if added is None else added)
        self._ids = {token: index for index, token in enumerate(self.vocabulary)}
        if len(self._ids) != len(self.vocabulary):
            twice = next(t for t in self.vocabulary if self.vocabulary.count(t) > 1)
            raise CheckpointError(f"{where}: token {twice!r} appears twice")
        for name, token in self.specials.items():
            if token not in self._ids:
                raise CheckpointError(f"{where}: {name} {token!r} is not in the vocabulary")
        self.cls_id = self._ids[self.specials["cls_token"]]
        self.pad_id = self._ids[self.specials["pad_token"]]
        self.eos_id = self._ids[self.specials["eos_token"]]
        self.unk_id = self._ids[self.specials["unk_token"]]
        self.mask_id = self._ids[self.specials["mask_token"]]
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

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResidueTokenizer) and (
            (self.vocabulary, self.specials, self.split, self.added)
            == (other.vocabulary, other.specials, other.split, other.added)
        )

    def __hash__(self) -> int:
        return hash((self.vocabulary, self.split))

    def id_of(self, token: str) -> int:
        """Id of a token; the unknown id for anything else."""
        return self._ids.get(token, self.unk_id)

    @property
    def residues(self) -> str:
        """The single-character tokens: what a sequence may hold."""
        return "".join(token for token in self.vocabulary if len(token) == 1)

    def encode(
        self, sequences: Sequence[str], on_illegal: str = "error", first_index: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of all sequences end to end, each framed by <cls> and <eos>.

        Args:
            sequences: residues; "<mask>" and "<unk>" may stand among them.
            on_illegal: "error" refuses what is no residue (below); letters outside the vocabulary
                (lower case, J) and the stop sign * are read as <unk>, as published, with one
                warning. "unknown" gives the published ids for any text, in silence.
            first_index: number of the first sequence, for messages.

        Returns:
            tokens int32 (T), cu_seqlens int32 (B + 1): sequence b is tokens[cu[b]:cu[b + 1]].

        Raises:
            DataError: with "error": an empty sequence, a digit, punctuation or other character
                that is no residue symbol; sequence, position (1-based) and character are named.
            ConfigError: another value of `on_illegal`.
        """
        if on_illegal not in ("error", "unknown"):
            raise ConfigError(f"on_illegal is {on_illegal!r}; allowed: 'error', 'unknown'")
        found = self._fast_ids(sequences)
        if found is None:
            bodies = self._checked_bodies(sequences, first_index, on_illegal == "error")
            found = np.concatenate(bodies), np.array([len(body) for body in bodies])
        ids, lengths = found
        cu_seqlens = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths + FRAME, out=cu_seqlens[1:])
        if cu_seqlens[-1] > np.iinfo(np.int32).max:
            raise DataError(f"{cu_seqlens[-1]} tokens in one batch; at most 2147483647 are allowed")
        tokens = np.empty(int(cu_seqlens[-1]), dtype=np.int32)
        inside = np.ones(len(tokens), dtype=bool)
        inside[cu_seqlens[:-1]] = False
        inside[cu_seqlens[1:] - 1] = False
        tokens[cu_seqlens[:-1]] = self.cls_id
        tokens[cu_seqlens[1:] - 1] = self.eos_id
        tokens[inside] = ids
        return tokens, cu_seqlens.astype(np.int32)

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

    def _checked_bodies(
        self, sequences: Sequence[str], first_index: int, strict: bool
    ) -> list[np.ndarray]:
        bodies, as_unknown = [], []
        for index, text in enumerate(sequences, first_index):
            if not isinstance(text, str):
                raise DataError(
                    f"sequence {index} is {text!r} ({type(text).__name__}); expected text"
                )
            if strict and self._has_unknown(text, index):
                as_unknown.append(index)
            bodies.append(self._ids_of(text))
        if as_unknown:
            warnings.warn(
                f"{len(as_unknown)} of {len(sequences)} sequences (first: number {as_unknown[0]}) "
                f"hold letters or * outside the vocabulary {self.residues}; they are read as "
                f"{self.specials['unk_token']}, as the published tokenizer does",
                stacklevel=4,
            )
        return bodies

    def _ids_of(self, text: str) -> np.ndarray:
        """Published ids of any text, without the frame."""
        ids: list[int] = []
        in_run = False
        for piece in self._pieces.findall(text):
            index = self._ids.get(piece)
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

    def _has_unknown(self, text: str, index: int) -> bool:
        """True if letters will be read as unknown; raises on what is no residue symbol."""
        position, unknown = 0, False
        allowed = {self.specials[name] for name in _ALLOWED_INSIDE}
        for piece in self._pieces.findall(text):
            position += 1
            if piece in self._ids and (len(piece) == 1 or piece in allowed):
                continue
            if piece.isspace() and self.split == "vocabulary":
                position -= 1
            elif _READ_AS_UNKNOWN.fullmatch(piece):
                unknown = True
            else:
                raise DataError(
                    f"sequence {index}, position {position}: {piece!r} is no residue; allowed: "
                    f"{self.residues}, {', '.join(sorted(allowed))}"
                )
        if not position:
            raise DataError(f"sequence {index} is empty")
        return unknown
