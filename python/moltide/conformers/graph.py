"""What a molecule's heavy atoms and bonds are, in the categories that Uni-Mol2 was trained on:
those of OGB (Hu et al. 2020, arXiv:2005.00687) as unimol_tools 0.1.6 lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moltide.errors import DataError

_CHIRALITY = (
    *("CHI_UNSPECIFIED", "CHI_TETRAHEDRAL_CW", "CHI_TETRAHEDRAL_CCW", "CHI_TRIGONALBIPYRAMIDAL"),
    *("CHI_OCTAHEDRAL", "CHI_SQUAREPLANAR", "CHI_OTHER"),
)
_HYBRIDISATION = ("SP", "SP2", "SP3", "SP3D", "SP3D2", "misc")
_BOND = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC", "misc")
_STEREO = ("STEREONONE", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS", "STEREOANY")
# Numbers a category has; one more stands for all others.
_DEGREES, _HYDROGENS, _RADICALS, _CHARGE = 11, 9, 5, 5
UNREACHABLE = 510  # bonds between two atoms that no path joins, and the longest path
CATEGORIES = 8  # of an atom, below


@dataclass(frozen=True)
class Graph:
    """A molecule of N heavy atoms.

    Attributes:
        atoms: (N, 8) int16: chirality, degree with hydrogens, charge, hydrogens, radical electrons,
            hybridisation, aromatic, in a ring.
        bonds: (M, 5) int16: both atoms, kind, stereochemistry, conjugated.
        paths: (N, N) int16: bonds on the shortest path, at most `UNREACHABLE`.
    """

    atoms: np.ndarray
    bonds: np.ndarray
    paths: np.ndarray


def without_hydrogens(mol: Any) -> Any:
    """The RDKit molecule without any hydrogen atom; the others stay in order.

    Raises:
        DataError: nothing is left, or an atom that is no element.
    """
    from rdkit import Chem

    try:
        heavy = Chem.RemoveAllHs(mol)
    except (RuntimeError, ValueError) as error:
        raise DataError(f"its hydrogens cannot be removed: {str(error).strip()[:200]}") from None
    if heavy.GetNumAtoms() == 0:
        raise DataError("it has no atoms but hydrogen")
    if any(atom.GetAtomicNum() == 0 for atom in heavy.GetAtoms()):
        raise DataError("it has a placeholder (*) in place of an atom")
    return heavy


def graph_of(mol: Any) -> Graph:
    """Categories of an RDKit molecule without hydrogen atoms."""
    from rdkit import Chem

    atoms = [
        (
            _place(str(atom.GetChiralTag()), _CHIRALITY),
            min(atom.GetTotalDegree(), _DEGREES),
            atom.GetFormalCharge() + _CHARGE
            if abs(atom.GetFormalCharge()) <= _CHARGE
            else 2 * _CHARGE + 1,
            min(atom.GetTotalNumHs(), _HYDROGENS),
            min(atom.GetNumRadicalElectrons(), _RADICALS),
            _place(str(atom.GetHybridization()), _HYBRIDISATION),
            int(atom.GetIsAromatic()),
            int(atom.IsInRing()),
        )
        for atom in mol.GetAtoms()
    ]
    bonds = [
        (
            bond.GetBeginAtomIdx(),
            bond.GetEndAtomIdx(),
            _place(str(bond.GetBondType()), _BOND),
            _place(str(bond.GetStereo()), _STEREO),
            int(bond.GetIsConjugated()),
        )
        for bond in mol.GetBonds()
    ]
    paths = np.minimum(Chem.GetDistanceMatrix(mol), UNREACHABLE)
    return Graph(
        np.array(atoms, dtype=np.int16).reshape(-1, CATEGORIES),
        np.array(bonds, dtype=np.int16).reshape(-1, 5),
        paths.astype(np.int16),
    )


def _place(name: str, names: tuple[str, ...]) -> int:
    """Its place; of others the last, which stands for them."""
    return names.index(name) if name in names else len(names) - 1
