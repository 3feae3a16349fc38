"""What a sequence is: residues of a protein, a molecule's SMILES, or nucleotides of RNA."""

from __future__ import annotations

PROTEIN, MOLECULE, RNA = "protein", "molecule", "rna"
KINDS = (PROTEIN, MOLECULE, RNA)
