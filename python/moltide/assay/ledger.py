"""Every row of a table accounted for: used, or set aside for one stated reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


class Ledger:
    """Which rows are still in, and why the others are not. Indices are 0-based data rows."""

    def __init__(self, rows: int) -> None:
        self.alive: npt.NDArray[np.bool_] = np.ones(rows, dtype=bool)
        self.set_aside: dict[str, list[int]] = {}

    def leave_out(self, indices: Iterable[int], reason: str) -> None:
        """Set rows aside; one already set aside keeps its first reason."""
        fresh = [int(index) for index in indices if self.alive[index]]
        if fresh:
            self.alive[fresh] = False
            self.set_aside.setdefault(reason, []).extend(fresh)

    def used(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self.alive).astype(np.int64)


def rows_text(rows: Sequence[int], limit: int = 5) -> str:
    """`row 7`, `rows 3, 9 and 12`, or `rows 3, 9, 12, 40, 41 and 1,203 more`."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = [str(row) for row in rows[:limit]]
    if len(rows) > limit:
        return f"rows {', '.join(shown)} and {len(rows) - limit:,} more"
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}"


def problems_text(problems: Sequence[tuple[int, str]], limit: int = 5) -> str:
    """`row 3: ...; row 9: ...; and 12 more` of (row, sentence) pairs."""
    shown = "; ".join(f"row {row}: {sentence}" for row, sentence in problems[:limit])
    more = len(problems) - limit
    return f"{shown}; and {more:,} more" if more > 0 else shown


def shorten(text: str, limit: int = 40) -> str:
    """A cell's text in quotes for a message, cut when long."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
