"""Molecules: standard forms, fingerprints and what is told of them."""
