"""Splits of the variants of one wild type: by mutated position, by number of mutations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay.mutations import Mutation
from moltide.splits.parts import Labels
from moltide.wording import plural

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VariantSplit:
    """Labels, and what there is to say: the positions held out, or the numbers of mutations."""

    labels: Labels
    said: str


def touched_positions(mutations: Sequence[Sequence[Mutation]]) -> tuple[IntArray, IntArray]:
    """(variant, position) of every substitution."""
    rows = np.repeat(np.arange(len(mutations)), [len(one) for one in mutations])
    positions = [mutation.position for one in mutations for mutation in one]
    return rows, np.array(positions, dtype=np.int64)


def split_by_position(
    mutations: Sequence[Sequence[Mutation]],
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
    numbering: int = 1,
) -> VariantSplit | None:
    """Hold positions out: no test position is mutated in train or valid, no valid one in train.

    Mutated positions are cut into contiguous segments, for neighbours in the chain share their
    surroundings: ten positions each, fewer where that is needed to come close to the asked shares.
    A variant that touches any test position is test; the wild type is train. None when no such
    split leaves train half of its share.
    """
    n = len(mutations)
    rows, positions = touched_positions(mutations)
    mutated = np.unique(positions)
    if len(mutated) < 3:
        return None
    per_position = len(rows) / len(mutated)
    length = int(np.clip(min(fractions[1:]) * n / (3 * per_position), 1, 10))
    segments = np.array_split(mutated, max(3, len(mutated) // length))
    labels = np.full(n, "train", dtype="<U5")
    free = [segments[i] for i in rng.permutation(len(segments))]
    held: dict[str, list[int]] = {}
    for part, share in (("test", fractions[2]), ("valid", fractions[1])):
        held[part], free = _hold_out(labels, part, share * n, free, rows, positions)
    if not all(held.values()) or (labels == "train").mean() < 0.5 * fractions[0]:
        return None
    shown = _ranges(np.array(sorted(held["test"])) + numbering)
    return VariantSplit(labels, f"test positions: {shown}")


def _hold_out(
    labels: Labels,
    part: str,
    aim: float,
    segments: list[IntArray],
    rows: IntArray,
    positions: IntArray,
) -> tuple[list[int], list[IntArray]]:
    """Move variants that touch segments to `part` until `aim` is met; returns what was left."""
    held: list[int] = []
    left = []
    filled = 0
    for segment in segments:
        touching = np.unique(rows[np.isin(positions, segment)])
        gain = touching[labels[touching] == "train"]
        if filled < 0.9 * aim and len(gain) and filled + len(gain) <= 1.5 * aim:
            labels[gain] = part
            held += segment.tolist()
            filled += len(gain)
        else:
            left.append(segment)
    return held, left


def _ranges(numbers: IntArray) -> str:
    """`24-33, 51, 60-69` of rising numbers."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    runs = np.split(numbers, breaks)
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")


def mutation_threshold(counts: IntArray, test_share: float) -> int | None:
    """Train on at most this many mutations: the cut whose test share is nearest to the asked one.

    None when every variant carries the same number.
    """
    levels = np.unique(counts)
    if len(levels) < 2:
        return None
    shares = np.array([(counts > level).mean() for level in levels[:-1]])
    return int(levels[np.argmin(np.abs(np.log(shares / test_share)))])


def split_by_mutations(
    counts: IntArray, fractions: tuple[float, float, float], rng: np.random.Generator
) -> VariantSplit | None:
    """Train on few mutations, test on more.

    Valid is the most mutated part of the rest where that is neither tiny nor most of it (it then
    asks the same of the model as test does), else a random draw from the rest.
    """
    threshold = mutation_threshold(counts, fractions[2])
    if threshold is None:
        return None
    labels = np.where(counts > threshold, "test", "train").astype("<U5")
    rest = np.flatnonzero(labels == "train")
    if len(rest) < 2:
        return None
    share = fractions[1] / (fractions[0] + fractions[1])
    top = rest[counts[rest] == counts[rest].max()]
    if 0.5 * share <= len(top) / len(rest) <= min(0.4, 3 * share):
        labels[top] = "valid"
        valid = f"valid those with {threshold}"
    else:
        draw = rng.permutation(rest)[: max(1, round(share * len(rest)))]
        labels[draw] = "valid"
        valid = "valid a random part of these"
    few = f"at most {plural(threshold, 'mutation')}"
    return VariantSplit(labels, f"train has {few}, {valid}, test more than {threshold}")
