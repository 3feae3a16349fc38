"""Rows of a table that a backbone reads otherwise than they say, such as molecules without a
conformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moltide.assay.ledger import problems_text, rows_text
from moltide.errors import DataError

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.tokenization.base import Tokenizer


def remarks_on(tokenizer: Tokenizer, table: AssayTable) -> dict[str, list[int]]:
    """What the tokenizer has to say of single rows: each reason with its row numbers.

    Raises:
        DataError: rows that it cannot read at all, and why.
    """
    remarks = tokenizer.remarks(table.sequences)
    unreadable = [(table.rows[one.index][0], one.text) for one in remarks if one.unreadable]
    if unreadable:
        raise DataError(
            f"{table.summary.source}: the backbone cannot read {len(unreadable)} of {len(table):,} "
            f"molecules ({problems_text(unreadable)}); leave these rows out"
        )
    found: dict[str, list[int]] = {}
    for one in remarks:
        found.setdefault(one.text, []).extend(table.rows[one.index])
    return {text: sorted(rows) for text, rows in found.items()}


def remark_lines(remarks: dict[str, list[int]]) -> list[str]:
    """A line for each reason, as wide as the table's own."""
    return [f"{'note':<10} {text} ({rows_text(rows)})" for text, rows in remarks.items()]
