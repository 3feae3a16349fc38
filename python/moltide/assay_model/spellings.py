"""Other SMILES of the same molecules, to train on: another one each epoch.

A molecule has many SMILES, and a model of text that sees one of them learns the spelling beside the
molecule (Bjerrum 2017, arXiv:1703.07076). What is predicted stays the canonical one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.errors import ConfigError, MissingDependencyError
from moltide.kinds import MOLECULE
from moltide.options import option

if TYPE_CHECKING:
    from moltide.encoder import Encoder

_BLOCK = 4096


def spellings(encoder: Encoder, smiles: Sequence[str], augment: int, seed: int) -> list[str]:
    """`augment` random SMILES of each molecule, spelling by spelling: the first one of all
    molecules, the second one of all, ... The same seed gives the same ones. One that outruns the
    model's positions, which its canonical form does not, gives way to that.

    Raises:
        ConfigError: the model reads no SMILES, or atoms in space in place of text.
        MissingDependencyError: without RDKit.
    """
    tokenizer: Any = encoder.tokenizer
    if tokenizer.kind != MOLECULE or tokenizer.in_space:
        reads = "atoms in space" if tokenizer.in_space else f"sequences of kind {tokenizer.kind!r}"
        raise ConfigError(
            f"{option('augment', augment)}: other SMILES of a molecule are for models that read "
            f"SMILES; {encoder.name} reads {reads}"
        )
    try:
        from rdkit import Chem, rdBase
    except ImportError as error:
        raise MissingDependencyError(
            "random SMILES need RDKit: pip install 'moltide[chem]'"
        ) from error
    drawn: list[list[str]] = []
    with rdBase.BlockLogs():
        for text in smiles:
            molecule = Chem.MolFromSmiles(text)
            found = [text] * augment
            if molecule is not None and molecule.GetNumAtoms():
                found = list(Chem.MolToRandomSmilesVect(molecule, augment, seed + 1))
            drawn.append(found)
    by_spelling = [found[k] for k in range(augment) for found in drawn]
    limit = encoder.longest
    if limit is not None:
        for start in range(0, len(by_spelling), _BLOCK):
            _, ends = tokenizer.encode(by_spelling[start : start + _BLOCK], "unknown")
            for i in np.flatnonzero(np.diff(ends) > limit):
                by_spelling[start + i] = smiles[(start + i) % len(smiles)]
    return by_spelling
