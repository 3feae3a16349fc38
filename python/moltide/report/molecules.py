"""The part of a report about molecules: what was merged, and activity cliffs, with structures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moltide.report.style import Picture


@dataclass
class MoleculePair:
    """Two similar molecules that measure apart: SVG elements, SMILES, values, rows, and parts."""

    svg: tuple[str, str]
    smiles: tuple[str, str]
    values: tuple[str, str]
    rows: tuple[str, str]
    parts: tuple[str, str]
    similarity: float
    difference: str


@dataclass
class CliffsOfTarget:
    """`said` is a sentence on all of them, `pairs` the ones furthest apart."""

    name: str
    said: str
    pairs: list[MoleculePair] = field(default_factory=list)


@dataclass
class Disagreement:
    """A molecule whose repeated readings contradict each other."""

    svg: str
    smiles: str
    target: str
    readings: str
    rows: str


@dataclass
class Molecules:
    """`facts` are sentences; `account` names the files that have everything."""

    facts: list[str]
    disagreements: list[Disagreement] = field(default_factory=list)
    more_disagreements: int = 0
    cliffs: list[CliffsOfTarget] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)


def molecules_section(molecules: Molecules) -> dict[str, Any]:
    """What the template shows; structures are `Picture`s."""
    return {
        "facts": molecules.facts,
        "disagreements": [
            {"item": one, "picture": Picture(one.svg, "")} for one in molecules.disagreements
        ],
        "more": molecules.more_disagreements,
        "cliffs": [
            {
                "name": one.name,
                "said": one.said,
                "pairs": [
                    {
                        "item": pair,
                        "ends": [
                            {
                                "picture": Picture(pair.svg[i], ""),
                                "value": pair.values[i],
                                "rows": pair.rows[i],
                                "part": pair.parts[i],
                                "smiles": pair.smiles[i],
                            }
                            for i in (0, 1)
                        ],
                    }
                    for pair in one.pairs
                ],
            }
            for one in molecules.cliffs
        ],
        "files": molecules.files,
    }
