"""Where a molecule's atoms are: conformers from SMILES by RDKit, or as the user gives them.

`conformer` treats one molecule, `conformers` many of them on several threads; `PlacedTokens` are
token ids that know the place of each token.
"""

from __future__ import annotations

from moltide.conformers.generate import EMBEDDED, FLAT, GIVEN, Conformer, conformer
from moltide.conformers.many import ConformerCache, conformers
from moltide.conformers.places import PlacedTokens, coordinates_of, joined, placed

__all__ = [
    "EMBEDDED",
    "FLAT",
    "GIVEN",
    "Conformer",
    "ConformerCache",
    "PlacedTokens",
    "conformer",
    "conformers",
    "coordinates_of",
    "joined",
    "placed",
]
