"""Every row of a table accounted for: used, or set aside for one stated reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt


class Ledger:
    """Which rows are still in, and why the others are not. Indices are 0-based data rows."""

    def __init__(self, rows: int) -> None:
        self.alive: npt.NDArray[np.bool_] = np.ones(rows, dtype=bool)
        self.set_aside: dict[str, list[int]] = {}
        self._details: dict[int, str] = {}

    def leave_out(
        self, indices: Iterable[int], reason: str, details: Mapping[int, str] | None = None
    ) -> None:
        """Set rows aside; one already set aside keeps its first reason. `details` say of single
        rows what `reason` says of all."""
        fresh = [int(index) for index in indices if self.alive[index]]
        if fresh:
            self.alive[fresh] = False
            self.set_aside.setdefault(reason, []).extend(fresh)
            self._details.update({i: details[i] for i in fresh if i in details} if details else {})

    def reasons(self) -> dict[int, str]:
        """Why each row is out, in as much detail as there is, by rising index."""
        found = {i: reason for reason, indices in self.set_aside.items() for i in indices}
        return {i: self._details.get(i, found[i]) for i in sorted(found)}

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
