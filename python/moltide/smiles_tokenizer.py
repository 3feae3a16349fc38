"""SMILES as tokens: atoms, bonds, branches and ring numbers (Weininger 1988, 10.1021/ci00057a005).

Frequent bracket atoms are one token; the others are spelled out ([13CH3] is seven tokens), so that
no valid SMILES holds an unknown one. The text is cut at the longest entry of the vocabulary, as
Transformers' EsmTokenizer cuts it: `vocab.txt` is all that either needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moltide.errors import DataError
from moltide.kinds import MOLECULE
from moltide.tokenization.base import Tokenizer
from moltide.tokenizer import ResidueTokenizer

_ORGANIC = ("C", "N", "O", "S", "P", "F", "Cl", "Br", "I", "B", "c", "n", "o", "s", "p", "b")
_BONDS = ("(", ")", "=", "#", "-", "/", "\\", ".", ":", "~", "$", "->", "<-")
_RINGS = (*"1234567890", *(f"%{ring}" for ring in range(10, 20)))
_ATOMS = (
    *("[nH]", "[C@H]", "[C@@H]", "[C@]", "[C@@]", "[O-]", "[N+]", "[NH+]", "[NH2+]", "[NH3+]"),
    *("[n+]", "[nH+]", "[N-]", "[n-]", "[O+]", "[OH+]", "[o+]", "[S+]", "[S-]", "[s+]", "[SH+]"),
    *("[C-]", "[CH-]", "[CH2-]", "[c-]", "[P+]", "[PH]", "[B-]", "[Si]", "[SiH]", "[Se]", "[se]"),
    *("[Sn]", "[As]", "[Ge]", "[Hg]", "[C]", "[CH]", "[CH2]", "[CH3]", "[c]", "[N]", "[NH]"),
    *("[NH2]", "[n]", "[O]", "[OH]", "[S]", "[SH]", "[S@]", "[S@@]", "[S@+]", "[S@@+]", "[P@]"),
    *("[P@@]", "[N@]", "[N@@]", "[N@+]", "[N@@+]", "[Cl-]", "[Br-]", "[I-]", "[F-]", "[Na+]"),
    *("[K+]", "[Li+]", "[H+]", "[H]", "[2H]", "[3H]"),
)
# What the rest of the bracket atoms is spelled with: element letters, chirality, hydrogen, charge.
_SPELLING = (*("[", "]", "@", "@@", "+", "%"), *"HKVWUYADEGLMRTXZadefghiklmrtuvy")

# The tokens of molecule-mini, in order.
SMILES_VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *_ORGANIC,
    *_BONDS,
    *_RINGS,
    *_ATOMS,
    *_SPELLING,
    "<mask>",
)
# Entries that a vocabulary of residues or nucleotides never has.
_TELLING = frozenset(("Cl", "Br", "c", "(", ")", "="))


def is_smiles_vocabulary(vocabulary: Sequence[str]) -> bool:
    """Whether these tokens are those of SMILES."""
    return set(vocabulary) >= _TELLING


class SmilesTokenizer(ResidueTokenizer):
    """SMILES to packed token ids; arguments and results as for `ResidueTokenizer`.

    The text is taken as it is: canonical and random SMILES of a molecule are different tokens.
    """

    kind = MOLECULE

    def __init__(
        self,
        vocabulary: Sequence[str] = SMILES_VOCABULARY,
        specials: dict[str, str] | None = None,
        where: str = "vocabulary",
    ) -> None:
        super().__init__(vocabulary, specials, where=where)
        framing = set(self.specials.values())
        plain = [token for token in self.vocabulary if token not in framing]
        longest_first = sorted(plain, key=len, reverse=True)
        self._tokens = re.compile("|".join(map(re.escape, longest_first)) + r"|[\s\S]")
        self._plain = {token: self._ids[token] for token in plain}

    def tokens(self, smiles: str) -> list[str]:
        """The tokens of a SMILES string; a character outside the vocabulary stands alone."""
        return self._tokens.findall(smiles)

    def _fast_ids(self, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        if not all(isinstance(text, str) and text for text in sequences):
            return None
        plain, ids, lengths = self._plain, [], []
        for text in sequences:
            found = self._tokens.findall(text)
            lengths.append(len(found))
            ids += found
        try:
            numbers = np.fromiter(map(plain.__getitem__, ids), dtype=np.int32, count=len(ids))
        except KeyError:
            return None
        return numbers, np.array(lengths, dtype=np.int64)

    _unknown_note = Tokenizer._unknown_note

    def _has_unknown(self, text: str, index: int) -> bool:
        """True if tokens will be read as unknown; raises on what no SMILES holds."""
        if not text.strip():
            raise DataError(f"molecule {index} is empty")
        allowed = {self.specials[name] for name in ("mask_token", "unk_token")}
        unknown, position = False, 1
        for piece in self._pieces.findall(text):
            if piece not in self._ids:
                if not re.fullmatch(r"[A-Za-z]", piece):
                    raise DataError(
                        f"molecule {index}, position {position}: {piece!r} does not belong in "
                        f"SMILES ({text[:60]!r})"
                    )
                unknown = True
            elif piece in self.specials.values() and piece not in allowed:
                raise DataError(f"molecule {index}, position {position}: {piece!r} is no atom")
            position += len(piece)
        return unknown
