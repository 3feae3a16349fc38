"""A table of molecules as laboratories keep them, with what is true of every row.

Structures come as parents, in any order of atoms, as salts and as ions; values in several units,
some of them bounds, many repeated; one row in a hundred is broken in one of many ways. What a
reader should make of each row is written down while the row is made, apart from moltide.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = (
    "Molecule ID", "Smiles", "Standard Type", "Standard Relation", "Standard Value",
    "Standard Units",
)  # fmt: skip
POWERS = {"nM": -9, "uM": -6, "µM": -6, "mM": -3, "nmol/L": -9, "pM": -12}
# How a row is broken -> words that its reason must have.
BROKEN = {
    "ring": "is not closed",
    "valence": "greater than permitted",
    "text": "is no SMILES",
    "no structure": "no SMILES",
    "salt alone": "no organic part",
    "mass unit": "molecular weight of what was weighed",
    "strange unit": "cannot be brought to M",
    "no unit": "no unit",
    "zero": "has no logarithm",
    "negative": "has no logarithm",
    "words": "target is no number",
    "no value": "no measured target",
    "relation": "relation unreadable",
}
_SALTS = ("Cl", "Br", "OC(=O)C(F)(F)F", "[Na+].[Cl-]", "O", "CS(=O)(=O)O")


@dataclass
class Truth:
    """Of one row: its molecule by number, -1 for a broken row (`broken` says how), and the p value
    with its bound (-1 below, +1 above)."""

    row: int
    molecule: int
    broken: str = ""
    value: float = math.nan
    bound: int = 0


@dataclass
class Messy:
    """`rows` are cells under `COLUMNS`; `truth` is parallel to them; `parents` are the canonical
    SMILES of the molecules by number."""

    rows: list[list[str]] = field(default_factory=list)
    truth: list[Truth] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)

    def write(self, path: Path) -> Path:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter=";" if path.suffix == ".csv" else "\t")
            writer.writerow(COLUMNS)
            writer.writerows(self.rows)
        return path


def usable(smiles: Sequence[str]) -> list[str]:
    """Canonical SMILES of distinct neutral molecules of one part, without metals: those of which
    it is plain what a standard form is."""
    from rdkit import Chem

    plain = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53}
    found: dict[str, None] = {}
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        if molecule is None or "." in text or molecule.GetNumAtoms() < 8:
            continue
        atoms = list(molecule.GetAtoms())
        carbons = sum(atom.GetAtomicNum() == 6 for atom in atoms)
        if carbons < 5 or any(a.GetFormalCharge() or a.GetAtomicNum() not in plain for a in atoms):
            continue
        if any(atom.GetIsotope() for atom in atoms):
            continue
        found[Chem.MolToSmiles(molecule)] = None
    return list(found)


def make(smiles: Sequence[str], rows: int, seed: int = 0, broken: float = 0.01) -> Messy:
    """So many rows of the `usable` molecules of `smiles`, about one in five repeating another.

    Raises:
        ValueError: too few molecules.
    """
    rng = np.random.default_rng(seed)
    parents = usable(smiles)
    distinct = round(0.8 * rows)
    if len(parents) < distinct:
        raise ValueError(f"{len(parents)} usable molecules; {rows} rows need {distinct}")
    chosen = [parents[i] for i in sorted(rng.choice(len(parents), distinct, replace=False))]
    messy = Messy(parents=chosen)
    which = np.concatenate([np.arange(distinct), rng.integers(0, distinct, rows - distinct)])
    rng.shuffle(which)
    bad = set(rng.choice(rows, max(len(BROKEN), round(broken * rows)), replace=False).tolist())
    ways = list(BROKEN)
    values = _activities(chosen) + rng.normal(0, 0.4, distinct)
    for index, molecule in enumerate(which.tolist()):
        cells, truth = _row(rng, chosen[molecule], molecule, float(values[molecule]), index + 2)
        if index in bad:
            way = ways[len([i for i in bad if i < index]) % len(ways)]
            _break(cells, way)
            truth = Truth(index + 2, -1, way)
        messy.rows.append(cells)
        messy.truth.append(truth)
    return messy


def _activities(smiles: Sequence[str]) -> np.ndarray:
    """(n,) p values that a model can learn: lipophilic molecules with nitrogen are active."""
    from rdkit import Chem
    from rdkit.Chem import Crippen

    found = []
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        nitrogen = sum(atom.GetAtomicNum() == 7 for atom in molecule.GetAtoms())
        found.append(5.0 + 0.35 * Crippen.MolLogP(molecule) + 0.15 * min(nitrogen, 5))
    return np.clip(found, 3.5, 9.5)


def _row(
    rng: np.random.Generator, parent: str, molecule: int, value: float, row: int
) -> tuple[list[str], Truth]:
    unit = str(rng.choice(list(POWERS)))
    concentration = 10.0 ** -(value + rng.normal(0, 0.15))
    typed = f"{concentration / 10.0 ** POWERS[unit]:.4g}"
    p_value = -(math.log10(float(typed)) + POWERS[unit])
    draw = rng.random()
    relation, bound = ("'='", 0) if draw < 0.7 else ("", 0) if draw < 0.9 else ("'~'", 0)
    if draw > 0.95:
        # More than this concentration: a p value below.
        relation, bound = ("'>'", -1) if draw > 0.97 else ("'<'", 1)
    cells = [f"M{molecule}", _written(rng, parent), "IC50", relation, typed, unit]
    return cells, Truth(row, molecule, "", p_value, bound)


def _written(rng: np.random.Generator, parent: str) -> str:
    """The molecule as somebody might have drawn it."""
    from rdkit import Chem

    draw = rng.random()
    if draw < 0.5:
        return parent
    molecule = Chem.MolFromSmiles(parent)
    if draw < 0.7:
        order = rng.permutation(molecule.GetNumAtoms()).tolist()
        return str(Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False))
    if draw < 0.85:
        return f"{parent}.{rng.choice(_SALTS)}"
    acid = molecule.GetSubstructMatch(Chem.MolFromSmarts("[CX3](=O)[OX2H1]"))
    if acid:
        molecule.GetAtomWithIdx(acid[2]).SetFormalCharge(-1)
        return f"{Chem.MolToSmiles(molecule)}.[Na+]"
    amine = molecule.GetSubstructMatch(
        Chem.MolFromSmarts("[NX3;H0,H1,H2;!$(N-C=*);!$(N-a);$(N-C)]")
    )
    if amine:
        atom = molecule.GetAtomWithIdx(amine[0])
        if all(one.GetAtomicNum() == 6 and not one.GetIsAromatic() for one in atom.GetNeighbors()):
            atom.SetFormalCharge(1)
            atom.SetNumExplicitHs(atom.GetTotalNumHs() + 1)
            atom.SetNoImplicit(True)
            Chem.SanitizeMol(molecule)
            return f"{Chem.MolToSmiles(molecule)}.[Cl-]"
    return parent


def _break(cells: list[str], way: str) -> None:
    changes: dict[str, tuple[int, str]] = {
        "ring": (1, "C1CCCCC(=O)N"),
        "valence": (1, "CC(C)(C)(C)c1ccccc1"),
        "text": (1, "see notebook"),
        "no structure": (1, ""),
        "salt alone": (1, "[Na+].[Cl-]"),
        "mass unit": (5, "ug.mL-1"),
        "strange unit": (5, "%"),
        "no unit": (5, ""),
        "zero": (4, "0"),
        "negative": (4, "-3"),
        "words": (4, "inactive"),
        "no value": (4, ""),
        "relation": (3, "about"),
    }
    at, text = changes[way]
    cells[at] = text


def expected_values(messy: Messy) -> dict[int, tuple[float, int]]:
    """(value, bound) of each molecule after merging: the mean of exact readings; of bounds alone
    the tightest, and of bounds from both sides the middle. A row that repeats an earlier one in
    every field is counted with the mean as well."""
    exact: dict[int, list[float]] = defaultdict(list)
    bounds: dict[int, dict[int, list[float]]] = defaultdict(lambda: {-1: [], 1: []})
    for one in messy.truth:
        if one.molecule >= 0 and one.bound:
            bounds[one.molecule][one.bound].append(one.value)
        elif one.molecule >= 0:
            exact[one.molecule].append(one.value)
    found = {m: (float(np.mean(values)), 0) for m, values in exact.items()}
    for molecule, sides in bounds.items():
        if molecule in found:
            continue
        above, below = max(sides[1], default=-math.inf), min(sides[-1], default=math.inf)
        if sides[1] and sides[-1]:
            found[molecule] = ((above + below) / 2, 0)
        else:
            found[molecule] = (above, 1) if sides[1] else (below, -1)
    return found


def check_account(messy: Messy, account: Sequence[dict[str, str]], target: str) -> list[str]:
    """What is wrong with an account.csv, row by row; nothing if it is true and complete."""
    wrong: list[str] = []
    if [int(line["row"]) for line in account] != [one.row for one in messy.truth]:
        return ["the rows are not those of the table, each once and in order"]
    first: dict[int, int] = {}
    for one, line, cells in zip(messy.truth, account, messy.rows, strict=True):
        state: dict[str, Any] = {"state": "used", "merged_into": "", "reason": ""}
        if one.broken:
            state["state"] = "set aside"
            if BROKEN[one.broken] not in line["reason"]:
                wrong.append(f"row {one.row}, {one.broken}: the reason is {line['reason']!r}")
            state["reason"] = line["reason"]
        elif one.molecule in first:
            state.update(state="merged", merged_into=str(first[one.molecule]))
        else:
            first[one.molecule] = one.row
        for name, expected in state.items():
            if line[name] != expected:
                wrong.append(f"row {one.row}: {name} is {line[name]!r}, not {expected!r}")
        if line["given"] != cells[1]:
            wrong.append(f"row {one.row}: given is {line['given']!r}, not {cells[1]!r}")
        if not one.broken:
            if line["sequence"] != messy.parents[one.molecule]:
                wrong.append(
                    f"row {one.row}: {line['sequence']} is not {messy.parents[one.molecule]}"
                )
            bound = {-1: "<", 0: "", 1: ">"}[one.bound]
            if line[target] != f"{bound}{one.value:.6g}":
                wrong.append(f"row {one.row}: {line[target]} is not {bound}{one.value:.6g}")
    return wrong


def counts(messy: Messy) -> dict[str, int]:
    """How many rows should be used, merged and set aside."""
    good = [one.molecule for one in messy.truth if not one.broken]
    return {
        "used": len(set(good)),
        "merged": len(good) - len(set(good)),
        "set aside": len(messy.truth) - len(good),
    }


def broken_counts(messy: Messy) -> Counter[str]:
    return Counter(one.broken for one in messy.truth if one.broken)
