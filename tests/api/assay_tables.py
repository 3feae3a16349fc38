"""Small tables for the assay tests: one parent, its variants, and CSV text written and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moltide.assay import AssayTable, read_assay

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# 40 residues in which no stretch repeats, so that only one numbering fits.
PARENT = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRV"


def scan(parent: str = PARENT, positions: Sequence[int] | None = None) -> list[str]:
    """All single substitutions of `parent` as 1-based mutation strings, in order."""
    chosen = range(len(parent)) if positions is None else positions
    return [f"{parent[p]}{p + 1}{aa}" for p in chosen for aa in RESIDUES if aa != parent[p]]


def mutate(parent: str, *changes: str, first: int = 1) -> str:
    """`mutate("MKT", "K2A")` without any of the code under test."""
    letters = list(parent)
    for change in changes:
        place = int(change[1:-1]) - first
        assert letters[place] == change[0]
        letters[place] = change[-1]
    return "".join(letters)


def scores(n: int, seed: int = 0) -> list[float]:
    return [round(float(value), 4) for value in np.random.default_rng(seed).normal(size=n)]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table_text(columns: dict[str, Sequence[object]], separator: str = ",") -> str:
    rows = [separator.join(columns)]
    rows += [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(rows) + "\n"


def read(folder: Path, columns: dict[str, object], **options: object) -> AssayTable:
    return read_assay(write(folder / "t.csv", table_text(columns)), **options)  # type: ignore[arg-type]


def said(table: AssayTable) -> str:
    return "\n".join(table.summary.lines())
