"""A generated set of antibodies: 60 pairs of chains from four lineages, with two endpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moltide.sequences import RESIDUES

LINEAGES, EACH = 4, 15
HEAVY, LIGHT = 118, 107


@dataclass
class Antibodies:
    """n heavy and light chains, a melting temperature, and whether they aggregate."""

    heavy: list[str]
    light: list[str]
    melting: list[float]
    aggregates: list[str]

    def __len__(self) -> int:
        return len(self.heavy)

    @property
    def texts(self) -> list[str]:
        return [f"{one}:{two}" for one, two in zip(self.heavy, self.light, strict=True)]


def changed(text: str, share: float, rng: np.random.Generator) -> str:
    """`text` with about this share of its residues drawn anew."""
    letters = list(text)
    for place in np.flatnonzero(rng.random(len(letters)) < share):
        letters[place] = RESIDUES[int(rng.integers(20))]
    return "".join(letters)


def antibodies(ragged: bool = True, seed: int = 0) -> Antibodies:
    """Siblings of a lineage differ in few residues, lineages in about a third of them; `ragged`:
    heavy chains are 116 to 120 residues long."""
    rng = np.random.default_rng(seed)
    germline = ["".join(RESIDUES[i] for i in rng.integers(20, size=n)) for n in (HEAVY, LIGHT)]
    made = Antibodies([], [], [], [])
    for lineage in range(LINEAGES):
        parents = [changed(one, 0.35, rng) for one in germline]
        for _ in range(EACH):
            heavy, light = (changed(one, 0.03, rng) for one in parents)
            if ragged:
                heavy = heavy[: len(heavy) - int(rng.integers(3))] + "G" * int(rng.integers(3))
            made.heavy.append(heavy)
            made.light.append(light)
            value = 60 + 3 * lineage + heavy.count("K") - light.count("D") + rng.normal(scale=0.2)
            made.melting.append(round(float(value), 3))
    greasy = [sum(map(one.count, "FILVWY")) for one in made.light]
    made.aggregates = ["yes" if one > np.median(greasy) else "no" for one in greasy]
    return made
