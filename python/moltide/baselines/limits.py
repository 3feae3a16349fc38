"""Baselines that end in time: fitted to fewer rows, or left out, and said to be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from moltide.options import option

Fit = TypeVar("Fit")

# Rows of the first, small fit, fewer where a row takes long, and how many times more the next one
# may have.
USUAL_FIRST_ROWS, _GROWTH = 1000, 4
FIRST_ROWS = dict.fromkeys(("morgan_forest", "morgan_boosting", "descriptors_ridge"), 250)
# Fewer training rows than this are not worth a pass of all the others.
_FEWEST_PASSED = 50
# Of the time left, what a baseline may take at most; the last may take all.
SHARES = {
    "composition": 0.1,
    "ridge": 0.2,
    "ridge_kmers": 0.2,
    "ridge_embeddings": 0.5,
    "nearest_neighbour": 0.25,
    "morgan_forest": 0.25,
    "morgan_boosting": 0.3,
    "descriptors_ridge": 0.35,
}
# Of the memory that is free, what the table of a baseline may take.
_MEMORY = 0.4


@dataclass(frozen=True)
class TimeLimit:
    """Attributes:
    seconds: for all baselines together.
    a_pass: seconds of the encoder for one sequence.
    scoring_passes: passes of zero-shot scores, however many sequences; None: one a sequence.
    """

    seconds: float
    a_pass: float
    scoring_passes: int | None = None

    def passes(self, seconds: float) -> int:
        """Sequences that the encoder can see in this time."""
        return int(max(0.0, seconds) / max(1e-9, self.a_pass))


def fit_within(
    seconds: float, n: int, fit: Callable[[int], Fit], first: int = USUAL_FIRST_ROWS
) -> tuple[Fit, int]:
    """`fit(n)` if it ends in `seconds`, else the fit of as many rows as do; and their number.

    Smaller fits tell the time of larger ones, which grows no faster than the rows; the first is
    made whatever it takes.
    """
    end = time.perf_counter() + seconds
    rows = min(n, first)
    while True:
        start = time.perf_counter()
        found = fit(rows)
        now = time.perf_counter()
        possible = int(rows * (end - now) / max(1e-9, now - start))
        more = n if possible >= n else min(possible, _GROWTH * rows)
        if rows == n or more < 2 * min(rows, n / 2):
            return found, rows
        rows = more


def rows_in_memory(n: int, n_other: int, bytes_a_row: int) -> int:
    """How many of `n` training rows fit into memory beside `n_other` rows that must."""
    if not bytes_a_row:
        return n
    from moltide._engine import available_memory

    fitting = int(_MEMORY * available_memory()) // bytes_a_row - n_other
    return min(n, max(USUAL_FIRST_ROWS, fitting))


def passable(limit: TimeLimit, seconds: float, n_train: int, n_other: int, what: str) -> int | str:
    """How many training rows can pass the encoder beside `n_other` rows that must, or why none;
    `what` is "embedding", say."""
    rows = min(n_train, limit.passes(seconds) - n_other)
    if rows < min(n_train, _FEWEST_PASSED):
        return _too_long(what, limit.a_pass * (n_train + n_other))
    return rows


def too_many_passes(limit: TimeLimit, seconds: float) -> str:
    """Why zero-shot scores that take `limit.scoring_passes` are left out; "" if they are not."""
    passes = limit.scoring_passes or 0
    return "" if passes <= limit.passes(seconds) else _too_long("scoring", limit.a_pass * passes)


def sampled(rows: int, n: int) -> str:
    """What was cut short of a baseline fitted to `rows` of `n` training rows; "" if nothing."""
    return "" if rows == n else f"fitted to {rows:,} of {n:,} training rows, drawn at random"


def _too_long(what: str, seconds: float) -> str:
    shown = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"
    return f"left out: {what} would take about {shown} s ({option('max_minutes')})"
