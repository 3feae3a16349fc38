"""What the tokenizers of a family read, as data."""

from __future__ import annotations

from dataclasses import dataclass

from moltide.kinds import PROTEIN
from moltide.tokenization.smiles_pattern import DEEPCHEM_PATTERN
from moltide.tokenizer import ESM_VOCABULARY


@dataclass(frozen=True)
class Reads:
    """What a family's tokenizers read.

    Attributes:
        kind: of the text; residues become SMILES where the vocabulary says so.
        vocabulary, split: residues alone: assumed where the checkpoint has none, as those of the
            model `assumed`.
        exact: the assumed vocabulary fits a model of that very size, else of any larger one.
        pattern: molecules alone: what goes with a vocab.txt.
        pads: config.json's padding id is the tokenizer's. In RoBERTa it only says where positions
            start, and published ones differ.
    """

    kind: str = PROTEIN
    vocabulary: tuple[str, ...] = ESM_VOCABULARY
    split: str = "vocabulary"
    assumed: str = "ESM-2"
    exact: bool = True
    pattern: str = DEEPCHEM_PATTERN
    pads: bool = True
