"""Molecules: what RDKit knows about them (extra `[chem]`)."""
