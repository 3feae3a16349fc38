"""Molecules as graphs of heavy atoms in space (Uni-Mol2): a token an atom, its categories, and
those of every pair of atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moltide.conformers import Conformer, placed
from moltide.conformers.generate import MOST_ATOMS
from moltide.conformers.graph import Graph
from moltide.conformers.places import PAIR_CATEGORIES, TOKEN_CATEGORIES
from moltide.tokenization.atoms import AtomTokenizer

_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As "
    "Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd "
    "Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am "
    "Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
_ELEMENTS = _TABLE.split()
_NOTHING, _MASK = "[PAD]", "[MASK]"
# The id of an element is its atomic number.
ELEMENT_VOCABULARY = (
    *(_NOTHING, *_ELEMENTS),
    *(f"[unused{i}]" for i in range(1, 127 - len(_ELEMENTS))),
    _MASK,
)
# The token before a molecule has a table of its own; its id adds nothing to that.
_SPECIALS = {
    **dict.fromkeys(("cls_token", "pad_token", "eos_token", "unk_token"), _NOTHING),
    "mask_token": _MASK,
}
# Of an atom's categories 16 numbers each, and of a bond's; 0 pads, and trained models dropped
# features to 1 or 2.
_EACH, _FIRST = 16, 3
_NO_BOND = 2


class MoleculeGraphTokenizer(AtomTokenizer):
    """Molecules to packed token ids with coordinates and categories (`PlacedTokens`).

    One token stands before a molecule, none behind it. Hydrogens have no token: they are counted
    among their atom's categories. Molecules as `AtomTokenizer` takes them.

    Args:
        seed, effort: of the conformers.
    """

    graph = True
    trail = 0

    def __init__(self, *, seed: int = 42, effort: str = "fast") -> None:
        super().__init__(
            ELEMENT_VOCABULARY,
            _SPECIALS,
            "elements",
            seed=seed,
            effort=effort,
            most_atoms=MOST_ATOMS,
        )

    def files(self) -> dict[str, str]:
        """None: the vocabulary is the periodic table."""
        return {}

    def _placed(self, tokens: Sequence[np.ndarray], found: Sequence[Conformer]) -> np.ndarray:
        graphs = [one.graph for one in found if one.graph is not None]
        ids = np.concatenate([np.zeros(0, np.int32), *tokens])
        where = [np.pad(one.coordinates, ((1, 0), (0, 0))) for one in found]
        of_tokens = [np.zeros((0, TOKEN_CATEGORIES), np.int16), *map(token_categories, graphs)]
        of_pairs = [np.zeros((0, PAIR_CATEGORIES), np.int16), *map(pair_categories, graphs)]
        return placed(
            ids,
            np.concatenate([np.zeros((0, 3), np.float32), *where]),
            (np.concatenate(of_tokens), np.concatenate(of_pairs)),
        )


def token_categories(graph: Graph) -> np.ndarray:
    """(N + 1, 10) int16, rows of the embedding tables: 8 of what the atom is, bonds to heavy atoms,
    and 0 for the token before the molecule; -1 for none."""
    n = len(graph.atoms)
    found = np.full((n + 1, TOKEN_CATEGORIES), -1, np.int16)
    kinds = graph.atoms.shape[1]
    found[1:, :kinds] = graph.atoms + (_FIRST + _EACH * np.arange(kinds))
    found[1:, kinds] = 2 + np.bincount(graph.bonds[:, :2].ravel(), minlength=n)
    found[0, -1] = 0
    return found


def pair_categories(graph: Graph) -> np.ndarray:
    """((N + 1)^2, 5) int16, pair (query i, key j) at row j * (N + 1) + i: bonds between them, kind,
    stereochemistry and conjugation of the bond, and 0 where one is the token before the molecule;
    -1 for none."""
    n = len(graph.atoms)
    found = np.full((n + 1, n + 1, PAIR_CATEGORIES), -1, np.int16)
    found[0, :, -1] = found[:, 0, -1] = 0
    inner = found[1:, 1:]
    inner[..., 0] = graph.paths + 1
    inner[..., 1:4] = _NO_BOND
    first, second = graph.bonds[:, 0], graph.bonds[:, 1]
    kinds = graph.bonds[:, 2:] + (_FIRST + 1 + _EACH * np.arange(3))
    inner[first, second, 1:4] = inner[second, first, 1:4] = kinds
    return found.reshape(-1, PAIR_CATEGORIES)
