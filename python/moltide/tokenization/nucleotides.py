"""RNA as published by multimolecule: one token a nucleotide (or a codon), T read as U, any case.

Source: `RnaTokenizer` of multimolecule 0.2, which RNA-FM and RiNALMo are published with. What is
neither an entry of the vocabulary nor a special token is one unknown token a character.

Models that moltide pretrains have ESM's layout and ESM's special tokens around the same letters, so
that Transformers' EsmTokenizer reads their RNA too (upper case, U; it folds nothing).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from moltide.errors import DataError
from moltide.kinds import RNA
from moltide.tokenization.published_files import vocabulary_files
from moltide.tokenizer import ResidueTokenizer

_SPECIALS = ("<pad>", "<cls>", "<eos>", "<unk>", "<mask>", "<null>")

# The 28 tokens of multimolecule's standard RNA alphabet, in order.
RNA_VOCABULARY = (*_SPECIALS, *"ACGUNRYSWKMBDHVIX|.*-?")
# Its codons: three of five letters.
CODON_VOCABULARY = (*_SPECIALS, *map("".join, itertools.product("ACGUN", repeat=3)))

# The 22 tokens of RNA models in ESM's layout: the bases, IUPAC's other letters, inosine, unknown.
ESM_NUCLEOTIDES = ("<cls>", "<pad>", "<eos>", "<unk>", *"ACGUNRYSWKMBDHVIX", "<mask>")

_CODON = 3
_BASES = frozenset("ACGU")
# Residues that are no letter of nucleotides.
_RESIDUES_ALONE = frozenset("EFLPQ")


def is_nucleotide_vocabulary(vocabulary: Sequence[str]) -> bool:
    """Whether these tokens are single nucleotides of RNA."""
    letters = {token for token in vocabulary if len(token) == 1}
    return letters >= _BASES and not letters & _RESIDUES_ALONE


class NucleotideTokenizer(ResidueTokenizer):
    """Nucleotides to packed token ids; arguments and results as for `ResidueTokenizer`.

    Args:
        codon: three nucleotides are one token.
        upper: whether lower case is read as upper case.
        t_as_u: whether T is read as U.
        published_as: the class that Transformers builds from the files.
    """

    kind = RNA

    def __init__(
        self,
        vocabulary: Sequence[str] = RNA_VOCABULARY,
        specials: dict[str, str] | None = None,
        *,
        codon: bool = False,
        upper: bool = True,
        t_as_u: bool = True,
        published_as: str = "RnaTokenizer",
        where: str = "vocabulary",
    ) -> None:
        self.codon, self.upper, self.t_as_u = codon, upper, t_as_u
        self.published_as = published_as
        spelled = [token for token in vocabulary if token.startswith("<")]
        super().__init__(vocabulary, specials, "characters", spelled, where)

    def __eq__(self, other: object) -> bool:
        return (
            super().__eq__(other)
            and isinstance(other, NucleotideTokenizer)
            and (self.codon, self.upper, self.t_as_u) == (other.codon, other.upper, other.t_as_u)
        )

    __hash__ = ResidueTokenizer.__hash__

    @property
    def residues(self) -> str:
        if not self.codon:
            return super().residues
        return "".join(dict.fromkeys("".join(t for t in self.vocabulary if len(t) == _CODON)))

    def files(self) -> dict[str, str]:
        return vocabulary_files(
            self.vocabulary,
            self.specials,
            self.published_as,
            codon=self.codon,
            do_upper_case=self.upper,
            replace_T_with_U=self.t_as_u,
        )

    def _folded(self, piece: str) -> str:
        if piece in self.added:
            return piece
        piece = piece.upper() if self.upper else piece
        return piece.replace("T", "U") if self.t_as_u else piece

    def _byte_table(self, starts: set[str]) -> np.ndarray:
        table = np.full(256, -1, dtype=np.int32)
        if not self.codon:
            for code in range(128):
                table[code] = self._ids.get(self._folded(chr(code)), -1)
            table[[ord(one) for one in starts]] = -1
        return table

    def _ids_of(self, text: str) -> np.ndarray:
        if not self.codon:
            return super()._ids_of(text)
        ids = [self._ids.get(codon, self.unk_id) for codon in self._codons(text)]
        return np.array(ids, dtype=np.int32)

    def _codons(self, text: str) -> list[str]:
        """Special tokens and codons; the last one is short where three do not divide a run."""
        codons, run = [], ""
        for piece in [*self._pieces.findall(text), self.added[0]]:
            if piece not in self.added:
                run += self._folded(piece)
                continue
            codons += [run[i : i + _CODON] for i in range(0, len(run), _CODON)]
            codons.append(piece)
            run = ""
        return codons[:-1]

    def _has_unknown(self, text: str, index: int) -> bool:
        if not self.codon:
            return super()._has_unknown(text, index)
        if not text:
            raise DataError(f"sequence {index} is empty")
        allowed, unknown, position = {self.specials["mask_token"], self.specials["unk_token"]}, 0, 1
        for codon in self._codons(text):
            strange = next((one for one in codon if not one.isalpha()), None)
            if codon in self.added and codon not in allowed:
                strange = codon
            elif codon in self.added:
                strange = None
            elif strange is None and len(codon) != _CODON:
                raise DataError(
                    f"sequence {index}, position {position}: {codon!r} is no codon; the model "
                    f"reads three nucleotides at once"
                )
            if strange is not None:
                raise DataError(
                    f"sequence {index}, position {position}: {strange!r} is no nucleotide; "
                    f"allowed: {self.residues}, {', '.join(sorted(allowed))}"
                )
            unknown += codon not in self._ids
            position += len(codon) if codon not in self.added else 1
        return unknown > 0
