"""How far apart repeated readings of one sequence lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from moltide.assay.values import CensorArray, FloatArray


@dataclass(frozen=True)
class Spread:
    """Of the sequences with two or more exact readings: how many they are, half of them lie within
    `median` from lowest to highest reading, all within `largest`; `wide` lie `limit` or more
    apart."""

    sequences: int
    median: float
    largest: float
    wide: int
    limit: float


def ranges_of(
    values: FloatArray,
    censor: CensorArray,
    members: Sequence[Sequence[int]],
    copies: Collection[int] = (),
) -> FloatArray:
    """(entries,): highest minus lowest exact reading, NaN where there are not two; `copies` are
    rows that say nothing new."""
    exact = np.where(censor == 0, values, np.nan)
    exact[list(copies)] = np.nan
    found = np.full(len(members), np.nan)
    for number, rows in enumerate(members):
        if len(rows) < 2 and exact.shape[1] < 2:
            continue
        own = exact[list(rows)]
        own = own[~np.isnan(own)]
        if len(own) > 1:
            found[number] = own.max() - own.min()
    return found


def spread_of(
    values: FloatArray,
    censor: CensorArray,
    members: Sequence[Sequence[int]],
    copies: Collection[int] = (),
    limit: float = 1.0,
) -> Spread | None:
    """None without repeated readings."""
    known = ranges_of(values, censor, members, copies)
    known = known[~np.isnan(known)]
    if not len(known):
        return None
    return Spread(
        len(known),
        float(np.median(known)),
        float(known.max()),
        int((known >= limit).sum()),
        limit,
    )
