"""Counts and sizes in words."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """`1 sequence`, `1,200 sequences`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def count_text(n: float) -> str:
    """650, 21 k, 2.71 M"""
    if n >= 1e6:
        return f"{n / 1e6:,.2f} M"
    return f"{n / 1e3:.0f} k" if n >= 1000 else f"{n:.0f}"


def bytes_text(n: float) -> str:
    """3.2 GB, 450 MB"""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(1, round(n / 1e6)):,} MB"
