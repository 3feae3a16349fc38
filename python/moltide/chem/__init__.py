"""Molecules: standard forms, fingerprints, and what RDKit knows about them (extra `[chem]`)."""
