"""What became of every row of a table, one state each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from moltide.assay.ledger import Ledger
    from moltide.assay.measure import Readings

USED, MERGED, SET_ASIDE = "used", "merged", "set aside"


@dataclass(frozen=True)
class RowState:
    """One row: `state` is "used" (the first row of its entry), "merged" (into the entry of row
    `into`) or "set aside" (for `reason`); `given` is the text as it stands in the table, `entry`
    the number of the entry among those of the table, -1 without one."""

    row: int
    state: str
    into: int | None
    reason: str
    given: str
    entry: int


@dataclass
class Account:
    """The rows of a source in order.

    Attributes:
        first_row: the number of the first.
        given: n texts of sequence, structure or mutations, as they stand there.
        entry: (n,) the table's entry that a row went into, -1 where it was set aside.
        reasons: why rows are out, by index, in as much detail as there is.
        readings: the values of every target by row.
        copies: indices of rows that repeat an earlier one in every field.
    """

    first_row: int
    given: list[str]
    entry: npt.NDArray[np.int64]
    reasons: dict[int, str]
    readings: list[Readings] = field(default_factory=list, repr=False)
    copies: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.given)

    def states(self) -> Iterator[RowState]:
        """Every row, in order."""
        first: dict[int, int] = {}
        for index, (text, entry) in enumerate(zip(self.given, self.entry.tolist(), strict=True)):
            row = index + self.first_row
            if entry < 0:
                yield RowState(row, SET_ASIDE, None, self.reasons[index], text, entry)
            elif entry in first:
                yield RowState(row, MERGED, first[entry], "", text, entry)
            else:
                first[entry] = row
                yield RowState(row, USED, None, "", text, entry)


def account_of(
    first_row: int,
    given: list[str],
    ledger: Ledger,
    members: list[list[int]],
    readings: list[Readings],
    copies: Iterable[int] = (),
) -> Account:
    """`members` are the rows (0-based) of each entry of the table."""
    entry = np.full(len(given), -1, np.int64)
    for number, rows in enumerate(members):
        entry[rows] = number
    return Account(first_row, given, entry, ledger.reasons(), readings, frozenset(copies))
