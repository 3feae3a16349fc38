"""Molecules to learn from: canonical SMILES, other ways of writing them, and their scaffolds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import MissingDependencyError
from moltide.pretraining.descriptors import COUNT, descriptors


@dataclass
class Molecules:
    """Parallel to the input: `smiles` canonical, "" where `reasons` has an entry; `variants` other
    SMILES of the same molecule, distinct; `scaffolds` of Bemis and Murcko (10.1021/jm9602928), the
    molecule itself where it has no ring; `descriptors` where they were asked for."""

    smiles: list[str] = field(default_factory=list)
    variants: list[list[str]] = field(default_factory=list)
    scaffolds: list[str] = field(default_factory=list)
    descriptors: list[npt.NDArray[np.float64]] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)


def read_molecules(
    texts: Sequence[str], augment: int, seed: int, with_descriptors: bool = False
) -> Molecules:
    """Canonical SMILES, up to `augment` random ones beside each, the scaffold and descriptors.

    Raises:
        MissingDependencyError: without RDKit.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem.Scaffolds import MurckoScaffold
    except ImportError as error:
        raise MissingDependencyError(
            "reading molecules needs RDKit: pip install 'moltide[chem]'"
        ) from error
    scaffold_of: Any = MurckoScaffold.MurckoScaffoldSmiles
    found = Molecules()
    # RDKit's own lines would stand between ours; the reason is given in their place.
    with rdBase.BlockLogs():
        for i, text in enumerate(texts):
            molecule = Chem.MolFromSmiles(text) if text else None
            smiles = "" if molecule is None else Chem.MolToSmiles(molecule)
            variants: list[str] = []
            scaffold, values = "", np.full(COUNT, np.nan)
            if molecule is None or not smiles:
                found.reasons[i] = "no SMILES" if not text else f"{text[:60]!r} is no molecule"
            else:
                scaffold = scaffold_of(mol=molecule) or smiles
                if with_descriptors:
                    values = descriptors(molecule)
                if augment:
                    drawn = Chem.MolToRandomSmilesVect(molecule, augment, seed + 1)
                    variants = [one for one in dict.fromkeys(drawn) if one != smiles]
            found.smiles.append(smiles)
            found.variants.append(variants)
            found.scaffolds.append(scaffold)
            found.descriptors.append(values)
    return found
