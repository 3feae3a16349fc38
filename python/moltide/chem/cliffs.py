"""Activity cliffs: molecules that look alike and measure apart (Maggiora 2006)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moltide.chem.fingerprints import PackedBits, morgan_bits, similar_pairs

FloatArray = npt.NDArray[np.float64]
#: Tanimoto similarity of Morgan bits (radius 2) from which two molecules look alike.
SIMILARITY = 0.8
#: Pairs kept of each target, those furthest apart.
MOST = 10_000


@dataclass(frozen=True, order=True)
class Cliff:
    """Molecules `a` < `b` by number; `difference` is at least this with a bound among them."""

    difference: float
    similarity: float
    a: int
    b: int


@dataclass
class TargetValues:
    """What one target says of n molecules: (n,) values or class indices, NaN = not measured, with
    bounds as in `AssayTable.censor`; `limit` is the difference from which a pair is a cliff (for
    classes any), in `words`."""

    name: str
    values: FloatArray
    censor: npt.NDArray[np.int8]
    limit: float
    words: str


@dataclass
class TargetCliffs:
    """The cliffs of a target, furthest apart first: at most `MOST` of `total`. `alike` pairs with
    values were compared; `molecules` have a part in some cliff."""

    target: TargetValues
    similarity: float
    pairs: list[Cliff] = field(default_factory=list)
    total: int = 0
    alike: int = 0
    molecules: int = 0


def find_cliffs(
    smiles: Sequence[str],
    targets: Sequence[TargetValues],
    similarity: float = SIMILARITY,
    progress: Callable[[int, int], None] | None = None,
) -> list[TargetCliffs]:
    """The cliffs of each target. Pairs are compared block by block: memory grows with n.

    Args:
        progress: called with (molecules compared, all of them).

    Raises:
        DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
    """
    return cliffs_among(morgan_bits(smiles), targets, similarity, progress)


def cliffs_among(
    packed: PackedBits,
    targets: Sequence[TargetValues],
    similarity: float = SIMILARITY,
    progress: Callable[[int, int], None] | None = None,
) -> list[TargetCliffs]:
    """`find_cliffs` of the bits of n molecules."""
    found = [TargetCliffs(target, similarity) for target in targets]
    heaps: list[list[tuple[float, float, int, int]]] = [[] for _ in targets]
    touched = [np.zeros(len(packed), bool) for _ in targets]
    for done, a, b, alike in similar_pairs(packed, similarity):
        for one, heap, seen in zip(found, heaps, touched, strict=True):
            apart = _apart(one.target, a, b)
            one.alike += int((~np.isnan(apart)).sum())
            far = np.flatnonzero(apart >= one.target.limit)
            one.total += len(far)
            seen[a[far]] = seen[b[far]] = True
            for i in far.tolist():
                # Of equals the first molecules stay: numbers are turned round in the heap.
                entry = (float(apart[i]), float(alike[i]), -int(a[i]), -int(b[i]))
                if len(heap) < MOST:
                    heapq.heappush(heap, entry)
                else:
                    heapq.heappushpop(heap, entry)
        if progress is not None:
            progress(done, len(packed))
    for one, heap, seen in zip(found, heaps, touched, strict=True):
        one.pairs = [Cliff(d, s, -a, -b) for d, s, a, b in sorted(heap, reverse=True)]
        one.molecules = int(seen.sum())
    return found


def _apart(target: TargetValues, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> FloatArray:
    """(pairs,): how far apart two molecules are at least, NaN where one was not measured; bounds
    that leave it open give -inf."""
    low = np.where(target.censor < 0, -np.inf, target.values)
    high = np.where(target.censor > 0, np.inf, target.values)
    apart: FloatArray = np.maximum(low[a] - high[b], low[b] - high[a])
    known = ~np.isnan(target.values)
    apart[~(known[a] & known[b])] = np.nan
    return apart
