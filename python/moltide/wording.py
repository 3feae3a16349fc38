"""Counts in words."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """`1 sequence`, `1,200 sequences`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
