"""Molecules as atoms in space: a token for each atom, and where it is (Uni-Mol)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from moltide.conformers import EMBEDDED, FLAT, Conformer, ConformerCache, placed
from moltide.conformers.generate import MOST_ATOMS, refusal
from moltide.errors import ConfigError, DataError
from moltide.kinds import MOLECULE
from moltide.tokenization.base import FRAME, Remark, Tokenizer
from moltide.wording import plural

# The dictionary of Uni-Mol's molecules, and the mask that pretraining adds behind it.
ATOM_VOCABULARY = (
    *("[PAD]", "[CLS]", "[SEP]", "[UNK]"),
    *("C", "N", "O", "S", "H", "Cl", "F", "Br", "I", "Si", "P", "B", "Na", "K", "Al", "Ca", "Sn"),
    *("As", "Hg", "Fe", "Zn", "Cr", "Se", "Gd", "Au", "Li"),
    "[MASK]",
)
SPECIALS = {
    "cls_token": "[CLS]",
    "pad_token": "[PAD]",
    "eos_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_NAMED = 5  # molecules that a warning names
_SHOWN = 60  # characters of each


class AtomTokenizer(Tokenizer):
    """Molecules to packed token ids with coordinates (`PlacedTokens`).

    A molecule is SMILES, a mol block (the text of an SDF record), or an RDKit molecule; see
    `conformers.conformer` for what becomes of it. Coordinates are centred; the frame's two tokens
    stand at the centre.

    Args:
        remove_hydrogens: leave hydrogen atoms out (after the conformer was made with them).
        seed, effort: of the conformers.
        most_atoms: of a molecule, hydrogens included.
    """

    kind = MOLECULE
    in_space = True
    graph = False  # of conformers

    def __init__(
        self,
        vocabulary: Sequence[str] = ATOM_VOCABULARY,
        specials: dict[str, str] | None = None,
        where: str = "vocabulary",
        *,
        remove_hydrogens: bool = False,
        seed: int = 42,
        effort: str = "fast",
        most_atoms: int = MOST_ATOMS,
    ) -> None:
        super().__init__(vocabulary, SPECIALS if specials is None else specials, where)
        self.remove_hydrogens = remove_hydrogens
        self.conformers = ConformerCache(seed, effort, most=most_atoms, graph=self.graph)
        self._told: set[str] = set()

    def encode(
        self, sequences: Sequence[Any], on_illegal: str = "error", first_index: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of all molecules end to end, each framed, and their places.

        Args:
            sequences: molecules.
            on_illegal: "error" warns, of each molecule once, where elements are outside the
                vocabulary and read as the unknown token as published, and where there is no
                conformer in space and the molecule is laid out flat; "unknown" does the same in
                silence.
            first_index: number of the first molecule, for messages.

        Returns:
            `PlacedTokens` (T), cu_seqlens int32 (B + 1).

        Raises:
            DataError: what is no molecule; its number and the reason.
            ConfigError: another value of `on_illegal`.
        """
        if on_illegal not in ("error", "unknown"):
            raise ConfigError(f"on_illegal is {on_illegal!r}; allowed: 'error', 'unknown'")
        found = self._conformers(sequences, first_index)
        tokens = [self.frame(one.symbols) for one in found]
        if on_illegal == "error":
            self._warn(sequences, found, first_index)
        cu_seqlens = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        if cu_seqlens[-1] > np.iinfo(np.int32).max:
            raise DataError(f"{cu_seqlens[-1]} tokens in one batch; at most 2147483647 are allowed")
        return self._placed(tokens, found), cu_seqlens.astype(np.int32)

    def frame(self, symbols: Sequence[str]) -> np.ndarray:
        """Ids of atoms in the frame's tokens, int32."""
        ids = [self.cls_id, *(self.id_of(symbol) for symbol in symbols)]
        return np.array([*ids, self.eos_id][: len(ids) + self.trail], dtype=np.int32)

    def _placed(self, tokens: Sequence[np.ndarray], found: Sequence[Conformer]) -> np.ndarray:
        """All molecules end to end, with their coordinates."""
        ids = np.concatenate([np.zeros(0, dtype=np.int32), *tokens])
        centred = [one.coordinates - one.coordinates.mean(axis=0) for one in found]
        frame = ((1, self.trail), (0, 0))
        where = [np.zeros((0, 3), dtype=np.float32), *(np.pad(one, frame) for one in centred)]
        return placed(ids, np.concatenate(where))

    def cost(self, molecule: Any) -> int:
        """About how many tokens a molecule has, before its conformer is made."""
        if isinstance(molecule, str):
            # Hydrogens make up for brackets and bonds; a line of a mol block is an atom or a bond.
            return (molecule.count("\n") // 2 if "\n" in molecule else len(molecule)) + FRAME
        atoms = getattr(molecule, "GetNumAtoms", None)
        return (2 * atoms() if atoms else 0) + FRAME

    def refusals(self, sequences: Sequence[Any], longest: int | None) -> dict[int, str]:
        """By what is known before conformers are made."""
        most = self.conformers.most
        reasons = (refusal(one, most, self.graph) for one in sequences)
        return {index: reason for index, reason in enumerate(reasons) if reason}

    def _conformers(self, molecules: Sequence[Any], first_index: int) -> list[Conformer]:
        found = []
        for index, one in enumerate(self.conformers.get(molecules), first_index):
            if isinstance(one, DataError):
                raise DataError(f"molecule {index}: {one}")
            found.append(one.without_hydrogens() if self.remove_hydrogens else one)
        return found

    def remarks(self, sequences: Sequence[Any]) -> list[Remark]:
        """As `Tokenizer.remarks`; of embedded molecules also which could not be relaxed."""
        found: list[Remark] = []
        for index, one in enumerate(self.conformers.get(sequences)):
            if isinstance(one, DataError):
                found.append(Remark(index, str(one), unreadable=True))
                continue
            found += [Remark(index, text) for text in self._oddities(one)]
            if one.how == EMBEDDED and one.note:
                found.append(Remark(index, one.note))
        self._told.update(one for one in sequences if isinstance(one, str))
        return found

    def _oddities(self, one: Conformer) -> Iterator[str]:
        """Where the model reads something else than the molecule."""
        if one.how == FLAT:
            yield f"laid out flat, as the published pipeline does: {one.note}"
        strange = sorted({symbol for symbol in one.symbols if symbol not in self._ids})
        if strange:
            unknown = self.specials["unk_token"]
            yield (
                f"{', '.join(strange)} outside the vocabulary, read as {unknown} as the published "
                "tokenizer does"
            )

    def _warn(self, molecules: Sequence[Any], found: list[Conformer], first_index: int) -> None:
        told = []
        for index, (molecule, one) in enumerate(zip(molecules, found, strict=True), first_index):
            text = molecule if isinstance(molecule, str) else ""
            oddities = [] if text in self._told else list(self._oddities(one))
            if not oddities:
                continue
            if text:
                self._told.add(text)
            shown = "" if "\n" in text or not text else f" {text[:_SHOWN]!r}"
            told.append(f"molecule {index}{shown}: {'; '.join(oddities)}")
        if told:
            more = len(told) - _NAMED
            rest = f"; and {more:,} more" if more > 0 else ""
            warnings.warn(
                f"{plural(len(told), 'molecule')} of {len(found):,} not read as they are "
                f"({'; '.join(told[:_NAMED])}{rest})",
                stacklevel=3,
            )

    def _ids_of(self, text: str) -> np.ndarray:
        tokens = self.frame(self._conformers([text], 0)[0].symbols)
        return tokens[1 : len(tokens) - self.trail]

    def _has_unknown(self, text: str, index: int) -> bool:
        return any(s not in self._ids for s in self._conformers([text], index)[0].symbols)

    def files(self) -> dict[str, str]:
        """dict.txt, in the order of the ids and without the mask, which readers add."""
        listed = self.vocabulary
        if listed[-1] == self.specials.get("mask_token"):
            listed = listed[:-1]
        return {"dict.txt": "\n".join(listed) + "\n"}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash(self.vocabulary)

    def _settings(self) -> tuple[Any, ...]:
        made = self.conformers
        return (
            self.vocabulary,
            self.specials,
            self.remove_hydrogens,
            made.seed,
            made.effort,
            made.most,
        )
