"""One molecule's atoms and where they are.

From SMILES as Uni-Mol was trained (Zhou et al., ICLR 2023): hydrogens added, RDKit's ETKDG from a
fixed seed (Riniker & Landrum 2015, 10.1021/acs.jcim.5b00654), relaxed in the MMFF94 force field
where it has parameters; the drawing in the plane where no conformer can be embedded. The same
SMILES, seed and release of RDKit give the same coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moltide.conformers.graph import Graph, graph_of, without_hydrogens
from moltide.errors import ConfigError, DataError, MissingDependencyError

# How a conformer came about.
GIVEN, EMBEDDED, FLAT = "given", "embedded", "flat"
EFFORTS = ("fast", "heavy")
# Attempts of the second try, which "heavy" makes where the first finds no conformer.
_HEAVY_ATTEMPTS = 5000
MOST_ATOMS = 510  # of Uni-Mol's 512 tokens
_SHOWN = 60


@dataclass(frozen=True)
class Conformer:
    """A molecule in space.

    Attributes:
        symbols: element of each atom.
        coordinates: float32 (atoms, 3), in ångström.
        graph: what atoms and bonds are like, where that was asked for; then of heavy atoms alone.
        how: "given" (by the user), "embedded" (by RDKit) or "flat" (a drawing in the plane).
        note: why it is flat, or why it was not relaxed; else empty.
    """

    symbols: tuple[str, ...]
    coordinates: np.ndarray
    how: str
    note: str = ""
    graph: Graph | None = None

    def without_hydrogens(self) -> Conformer:
        """The heavy atoms alone; hydrogen itself stays as it is."""
        heavy = [index for index, symbol in enumerate(self.symbols) if symbol != "H"]
        if not heavy or len(heavy) == len(self.symbols):
            return self
        symbols = tuple(self.symbols[index] for index in heavy)
        return Conformer(symbols, self.coordinates[heavy], self.how, self.note)


def conformer(
    molecule: Any,
    seed: int = 42,
    effort: str = "fast",
    most: int = MOST_ATOMS,
    graph: bool = False,
) -> Conformer:
    """Atoms and coordinates of one molecule.

    Args:
        molecule: SMILES, a mol block (the text of an SDF record), or an RDKit molecule. The latter
            two are used as they are where they have a 3-D conformer, hydrogens included; else a
            conformer is made as for SMILES.
        seed: of the embedding.
        effort: "heavy" tries 5,000 times where the first embedding fails, "fast" draws at once.
        most: atoms, hydrogens included, of the largest molecule that is taken.
        graph: leave hydrogens out behind the embedding, and say what the rest is like.

    Raises:
        DataError: no molecule: what cannot be read, and why; or more atoms than `most`.
        ConfigError: another `effort`.
        MissingDependencyError: RDKit is not installed.
    """
    if effort not in EFFORTS:
        raise ConfigError(f"effort is {effort!r}; allowed: {', '.join(map(repr, EFFORTS))}")
    mol = _molecule(molecule)
    for present in mol.GetConformers():
        if present.Is3D():
            positions = present.GetPositions()
            if not np.isfinite(positions).all():
                raise DataError("its conformer has coordinates that are no finite numbers")
            _check_size(mol, most)
            return _found(mol, positions, GIVEN, "", graph)
    return _generated(mol, seed, effort, most, graph)


def refusal(molecule: Any, most: int = MOST_ATOMS, graph: bool = False) -> str:
    """Why `conformer` would take no time over a molecule but refuse it; "" where it would not."""
    try:
        mol = _molecule(molecule)
        with quiet():
            from rdkit import Chem

            mol = Chem.AddHs(mol)
            _check_size(mol, most)
            if graph:
                without_hydrogens(mol)
    except DataError as error:
        return str(error)
    return ""


def quiet() -> Any:
    """A context in which RDKit writes no lines of its own.

    Raises:
        MissingDependencyError: RDKit is not installed.
    """
    try:
        from rdkit import rdBase
    except ImportError as error:
        raise MissingDependencyError(
            "conformers of molecules need RDKit: pip install 'moltide[chem]'"
        ) from error
    return rdBase.BlockLogs()


def _molecule(molecule: Any) -> Any:
    """An RDKit molecule of at least one atom."""
    with quiet():
        from rdkit import Chem

        if isinstance(molecule, str):
            mol = _from_block(molecule) if "\n" in molecule else _from_smiles(molecule)
        elif isinstance(molecule, Chem.Mol):
            mol = molecule
        else:
            raise DataError(f"expected SMILES, a mol block or an RDKit molecule, got {molecule!r}")
    if mol.GetNumAtoms() == 0:
        raise DataError("it has no atoms")
    return mol


def _from_smiles(smiles: str) -> Any:
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    if mol is not None:
        return mol
    raw = Chem.MolFromSmiles(smiles, sanitize=False)
    raise DataError(_reason(raw) or f"{smiles[:_SHOWN]!r} is no SMILES that RDKit can read")


def _from_block(block: str) -> Any:
    from rdkit import Chem

    mol = Chem.MolFromMolBlock(block, removeHs=False)
    if mol is not None:
        return mol
    raw = Chem.MolFromMolBlock(block, removeHs=False, sanitize=False)
    title = block.splitlines()[0].strip()
    raise DataError(_reason(raw) or f"the mol block {title[:_SHOWN]!r} cannot be read by RDKit")


def _reason(raw: Any) -> str:
    """What RDKit finds wrong with the chemistry of a molecule that it can read."""
    from rdkit import Chem

    if raw is None:
        return ""
    problems = [problem.Message() for problem in Chem.DetectChemistryProblems(raw)]
    return "; ".join(problems[:2])


def _check_size(mol: Any, most: int) -> None:
    """Before the minutes that thousands of atoms would take to embed."""
    if mol.GetNumAtoms() > most:
        raise DataError(
            f"it has {mol.GetNumAtoms():,} atoms, hydrogens included; at most {most:,} are allowed"
        )


def _generated(mol: Any, seed: int, effort: str, most: int, graph: bool) -> Conformer:
    from rdkit import Chem
    from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers

    with quiet():
        mol = Chem.AddHs(mol)
        _check_size(mol, most)
        note = ""
        try:
            # The defaults are those that published models were trained with.
            done = rdDistGeom.EmbedMolecule(mol, randomSeed=seed)
            if done != 0 and effort == "heavy":
                done = rdDistGeom.EmbedMolecule(mol, maxAttempts=_HEAVY_ATTEMPTS, randomSeed=seed)
            if done != 0:
                note = "RDKit found no conformer that fits its distances"
        except (RuntimeError, ValueError) as error:
            done, note = -1, f"RDKit could not embed it: {_first_line(error)}"
        if done == 0:
            try:
                if rdForceFieldHelpers.MMFFOptimizeMolecule(mol) < 0:
                    note = "MMFF94 has no parameters for it: not relaxed"
            except (RuntimeError, ValueError) as error:
                note = f"not relaxed: {_first_line(error)}"
            return _found(mol, mol.GetConformer().GetPositions(), EMBEDDED, note, graph)
        try:
            rdDepictor.Compute2DCoords(mol)
            positions = mol.GetConformer().GetPositions()
        except (RuntimeError, ValueError) as error:
            raise DataError(f"{note}, nor can it be drawn: {_first_line(error)}") from None
    if not np.isfinite(positions).all():
        raise DataError(f"{note}, nor can it be drawn")
    return _found(mol, positions, FLAT, note, graph)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _found(mol: Any, positions: Any, how: str, note: str, graph: bool) -> Conformer:
    described = None
    if graph:
        positions = positions[[atom.GetAtomicNum() != 1 for atom in mol.GetAtoms()]]
        with quiet():
            mol = without_hydrogens(mol)
            described = graph_of(mol)
    symbols = tuple(atom.GetSymbol() for atom in mol.GetAtoms())
    return Conformer(symbols, np.asarray(positions, dtype=np.float32), how, note, described)
