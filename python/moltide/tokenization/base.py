"""What every tokenizer offers: packed ids, special tokens, and the files that publish it."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moltide.errors import CheckpointError, ConfigError, DataError
from moltide.kinds import PROTEIN, RECORD, UNIT

FRAME = 2  # one token before and one after every sequence, such as <cls> and <eos>

_REQUIRED = ("cls_token", "pad_token", "eos_token", "unk_token")


@dataclass(frozen=True)
class Remark:
    """What a user should know of one sequence.

    Attributes:
        index: which it is, from 0.
        text: a sentence.
        unreadable: `encode` refuses it.
    """

    index: int
    text: str
    unreadable: bool = False


class Tokenizer(abc.ABC):
    """Sequences to packed token ids.

    Attributes:
        kind: what the text is, one of `moltide.kinds.KINDS`.
        in_space: its tokens have coordinates.
        trail: tokens behind every sequence; one stands before it.
        vocabulary: tokens in id order.
        specials: "cls_token", "pad_token", "eos_token", "unk_token" and, unless the model was
            published without, "mask_token"; cls and eos are the frame, whatever the publisher
            calls them.
        cls_id, pad_id, eos_id, unk_id: ids of these.
        mask_id: id of the mask token; -1 without one.
    """

    kind: str = PROTEIN
    in_space: bool = False
    trail: int = 1

    def __init__(self, vocabulary: Sequence[str], specials: dict[str, str], where: str) -> None:
        """Args:
            where: the source, for messages.

        Raises:
            CheckpointError: a token twice, or a special token that the vocabulary lacks.
        """
        self.vocabulary = tuple(vocabulary)
        self.specials = dict(specials)
        self._ids = {token: index for index, token in enumerate(self.vocabulary)}
        if len(self._ids) != len(self.vocabulary):
            twice = next(t for t in self.vocabulary if self.vocabulary.count(t) > 1)
            raise CheckpointError(f"{where}: token {twice!r} appears twice")
        for name in _REQUIRED:
            if name not in self.specials:
                raise CheckpointError(f"{where}: no {name}")
        for name, token in self.specials.items():
            if token not in self._ids:
                raise CheckpointError(f"{where}: {name} {token!r} is not in the vocabulary")
        self.cls_id = self._ids[self.specials["cls_token"]]
        self.pad_id = self._ids[self.specials["pad_token"]]
        self.eos_id = self._ids[self.specials["eos_token"]]
        self.unk_id = self._ids[self.specials["unk_token"]]
        self.mask_id = self._ids.get(self.specials.get("mask_token", ""), -1)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def id_of(self, token: str) -> int:
        """Id of a token; the unknown id for anything else."""
        return self._ids.get(token, self.unk_id)

    @property
    def residues(self) -> str:
        """The single-character tokens: what a sequence of residues may hold."""
        return "".join(token for token in self.vocabulary if len(token) == 1)

    def cost(self, text: Any) -> int:
        """About how many tokens a sequence has, to fill a batch by."""
        return (len(text) if isinstance(text, str) else 0) + FRAME

    def count(self, text: Any) -> int:
        """How many tokens a sequence has, its frame included."""
        return len(self.encode([text], "unknown")[0])

    def refusals(self, sequences: Sequence[Any], longest: int | None) -> dict[int, str]:
        """Which sequences a model cannot take, by index, and why; `longest` is its most tokens,
        the frame included (None: any number)."""
        found = {}
        for index, one in enumerate(sequences):
            # No token is shorter than a character.
            if longest is not None and self.cost(one) > longest and self.count(one) > longest:
                tokens = f"{self.count(one) - FRAME:,} {UNIT[self.kind]}s"
                found[index] = f"{tokens}, and the backbone has positions for {longest - FRAME:,}"
        return found

    def remarks(self, sequences: Sequence[Any]) -> list[Remark]:
        """Of which sequences the model reads something else than they say, and why; `encode` warns
        of these no more."""
        return []

    @abc.abstractmethod
    def files(self) -> dict[str, str]:
        """File name -> text: what Transformers needs to build the same tokenizer."""

    def encode(
        self, sequences: Sequence[str], on_illegal: str = "error", first_index: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of all sequences end to end, each framed by the cls and the eos token.

        Args:
            sequences: text of this tokenizer's kind; the mask and unknown tokens may stand in it.
            on_illegal: "error" refuses what no sequence of this kind holds; what the published
                tokenizer reads as unknown or leaves out (letters outside the vocabulary) is read
                as published, with one warning. "unknown" gives the published ids for any text, in
                silence.
            first_index: number of the first sequence, for messages.

        Returns:
            tokens int32 (T), cu_seqlens int32 (B + 1): sequence b is tokens[cu[b]:cu[b + 1]].

        Raises:
            DataError: with "error": an empty sequence, or a character that does not belong;
                sequence, position (1-based) and character are named.
            ConfigError: another value of `on_illegal`.
        """
        if on_illegal not in ("error", "unknown"):
            raise ConfigError(f"on_illegal is {on_illegal!r}; allowed: 'error', 'unknown'")
        ids, lengths = self._encode(sequences, first_index, on_illegal == "error")
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

    def _encode(
        self, sequences: Sequence[str], first_index: int, strict: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all sequences end to end without their frames, and how many each has."""
        bodies, as_unknown = [], []
        for index, text in enumerate(sequences, first_index):
            if not isinstance(text, str):
                raise DataError(
                    f"{self._record} {index} is {text!r} ({type(text).__name__}); expected text"
                )
            if strict and self._has_unknown(text, index):
                as_unknown.append(index)
            bodies.append(self._ids_of(text))
        if as_unknown:
            warnings.warn(self._unknown_note(as_unknown, len(bodies)), stacklevel=4)
        found = np.concatenate(bodies) if bodies else np.zeros(0, dtype=np.int32)
        return found, np.array([len(body) for body in bodies], dtype=np.int64)

    @abc.abstractmethod
    def _ids_of(self, text: str) -> np.ndarray:
        """Published ids of any text, without the frame, int32."""

    @abc.abstractmethod
    def _has_unknown(self, text: str, index: int) -> bool:
        """True if part of the text will be read as unknown; raises on what does not belong."""

    def _unknown_note(self, indices: list[int], count: int) -> str:
        """The warning that some of `count` sequences hold what the vocabulary lacks."""
        return (
            f"{len(indices)} of {count} {self._record}s (first: number {indices[0]}) hold tokens "
            f"outside the vocabulary; they are read as {self.specials['unk_token']}, as the "
            "published tokenizer does"
        )

    @property
    def _record(self) -> str:
        return RECORD[self.kind]
