"""What molecules have in common: scaffolds, and forms that differ in stereochemistry alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.chem.fingerprints import molecules

IntArray = npt.NDArray[np.int64]
_ISOTOPE = re.compile(r"\[(\d|[DT]\])")


@dataclass(frozen=True)
class Skeletons:
    """Attributes:
    flat: for each of n molecules its canonical SMILES without stereochemistry and isotopes.
    scaffolds: its Bemis-Murcko scaffold (rings and what links them, without stereochemistry) as
        SMILES, "" without a ring.
    """

    flat: list[str]
    scaffolds: list[str]

    @property
    def twins(self) -> IntArray:
        """(n,) numbers that stereoisomers and isotopologues share."""
        return numbered(self.flat)


def skeletons(smiles: Sequence[str]) -> Skeletons:
    """Flat forms and scaffolds (Bemis & Murcko 1996) of molecules.

    Raises:
        DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
    """
    flat, scaffolds = [], []
    for text, molecule in zip(smiles, molecules(smiles), strict=True):
        from rdkit import Chem
        from rdkit.Chem.Scaffolds import MurckoScaffold

        # Asking every atom takes longer than reading the molecule.
        if _ISOTOPE.search(text):
            for atom in molecule.GetAtoms():
                atom.SetIsotope(0)
            molecule = Chem.RemoveHs(molecule)
        Chem.RemoveStereochemistry(molecule)
        flat.append(Chem.MolToSmiles(molecule))
        scaffold: Any = MurckoScaffold
        scaffolds.append(Chem.MolToSmiles(scaffold.GetScaffoldForMol(molecule)))
    return Skeletons(flat, scaffolds)


def numbered(labels: Iterable[str]) -> IntArray:
    """(n,) numbers from 0 that equal labels share, by first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in labels], np.int64)
