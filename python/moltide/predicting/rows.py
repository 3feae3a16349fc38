"""Rows of an input beside their sequences, in order, however the two are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moltide.sequence_files import SequenceBatch

Blocks = Iterable[tuple[list[str], Iterable[tuple[int, list[str]]]]]


@dataclass
class InputRow:
    """One row: `cells` as they stand there, and its sequence, or why there is none."""

    number: int
    cells: list[str]
    name: str = ""
    sequence: str | None = None
    reason: str = ""
    remark: str = ""


def paired(blocks: Blocks, batches: Iterator[SequenceBatch]) -> Iterator[InputRow]:
    """Each row of `blocks` with what `batches` make of it; rows that these do not know (blank
    lines) are left out.

    Both rise by row number. Of each no more than a block and a batch are in memory, except where a
    batch tells of later rows already (a table of mutations, which is read whole).
    """
    ready: dict[int, InputRow] = {}
    remarks: dict[int, str] = {}
    last, more = -1, True
    for _, block in blocks:
        for number, cells in block:
            while more and number > last and number not in ready:
                batch = next(batches, None)
                if batch is None:
                    more = False
                    break
                remarks.update(batch.remarks)
                last = max(last, _take(batch, ready))
            found = ready.pop(number, None)
            if found is not None:
                found.cells = cells
                found.remark = remarks.pop(number, "")
                yield found


def _take(batch: SequenceBatch, ready: dict[int, InputRow]) -> int:
    """Put the rows of a batch into `ready`; returns the number up to which all are known."""
    for number, name, reason in batch.skipped:
        ready[number] = InputRow(number, [], name, None, reason)
    for number, name, sequence in zip(batch.rows, batch.names, batch.sequences, strict=True):
        ready[number] = InputRow(number, [], name, sequence)
    if batch.rows:
        return batch.rows[-1]
    return max((number for number, _, _ in batch.skipped), default=-1)
