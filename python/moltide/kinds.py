"""What a sequence is: residues of a protein, a molecule's SMILES, or nucleotides of RNA."""

from __future__ import annotations

PROTEIN, MOLECULE, RNA = "protein", "molecule", "rna"
KINDS = (PROTEIN, MOLECULE, RNA)

# Several of a kind.
MANY = {PROTEIN: "proteins", MOLECULE: "molecules", RNA: "RNA"}

# What one sequence of a kind, and one of its parts, is called in messages.
RECORD = {PROTEIN: "sequence", MOLECULE: "molecule", RNA: "sequence"}
UNIT = {PROTEIN: "residue", MOLECULE: "token", RNA: "nucleotide"}
