"""What a corpus is written in: letters of proteins, or tokens of a model; which are predicted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moltide.kinds import PROTEIN, RECORD, RNA, UNIT
from moltide.sequences import NUCLEOTIDES, RESIDUES

if TYPE_CHECKING:
    from moltide.tokenization.base import Tokenizer

Letters = npt.NDArray[np.unsignedinteger]
Ids = npt.NDArray[np.int32]


class Symbols:
    """Records of one kind as small numbers, and these as tokens of a model.

    Proteins are kept as ASCII, whatever the model; other kinds as the tokens of its tokenizer. What
    is predicted: the 20 residues; the four nucleotides; every token of molecules.

    Attributes:
        kind: of the records. unit, records: what one number and one record are called.
        dtype: of the numbers: "u1" or "<u2".
        ids: (size,) int32 token of each number.
        predicted: (n,) the numbers that are hidden and predicted, in a fixed order.
        key: what the numbers depend on beside the texts; "" for proteins.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.kind = tokenizer.kind
        self.tokenizer = tokenizer
        self.unit, self.records = f"{UNIT[self.kind]}s", f"{RECORD[self.kind]}s"
        if self.kind == PROTEIN:
            self.dtype, self.key = "u1", ""
            self.ids = np.array([tokenizer.id_of(chr(code)) for code in range(256)], np.int32)
            self.predicted = np.array([ord(letter) for letter in RESIDUES], np.int32)
            return
        self.dtype = "u1" if len(tokenizer) <= 256 else "<u2"
        self.ids = np.arange(len(tokenizer), dtype=np.int32)
        if self.kind == RNA:
            predicted = [tokenizer.id_of(letter) for letter in NUCLEOTIDES]
        else:
            special = {tokenizer.id_of(token) for token in tokenizer.specials.values()}
            predicted = [i for i in range(len(tokenizer)) if i not in special]
        self.predicted = np.array(predicted, np.int32)
        text = "\n".join(tokenizer.vocabulary)
        self.key = hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """(size,) place of each number among `predicted`; their count for any other."""
        codes = np.full(len(self.ids), len(self.predicted), dtype=np.int64)
        codes[self.predicted] = np.arange(len(self.predicted))
        return codes

    def encode(self, texts: Sequence[str]) -> tuple[Letters, npt.NDArray[np.int64]]:
        """Numbers of all records end to end, and how many each has."""
        if self.kind == PROTEIN:
            lengths = np.array([len(text) for text in texts], dtype=np.int64)
            return np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8), lengths
        if not texts:
            return np.zeros(0, dtype=self.dtype), np.zeros(0, dtype=np.int64)
        tokens, cu_seqlens = self.tokenizer.encode(texts)
        inside = np.ones(len(tokens), dtype=bool)
        inside[cu_seqlens[:-1]] = inside[cu_seqlens[1:] - 1] = False
        lengths = np.diff(cu_seqlens).astype(np.int64) - 2
        return tokens[inside].astype(self.dtype), lengths

    def decode(self, letters: npt.NDArray[np.integer]) -> str:
        """The text of a piece of the corpus."""
        if self.kind == PROTEIN:
            return bytes(letters).decode("ascii")
        return "".join(self.tokenizer.vocabulary[i] for i in letters.tolist())
