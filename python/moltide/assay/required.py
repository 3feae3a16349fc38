"""A column that was named must be there."""

from __future__ import annotations

import difflib

from moltide.assay.source import Source


def require_column(source: Source, name: str, what: str) -> str:
    """`name` if the table has it, else an error naming the closest columns."""
    if name in source.columns:
        return name
    close = difflib.get_close_matches(name.lower(), [c.lower() for c in source.columns], n=2)
    matches = [column for column in source.columns if column.lower() in close]
    hint = f"; did you mean {' or '.join(map(repr, matches))}?" if matches else "."
    raise source.fail(f"no column {name!r} ({what}){hint} Columns: {', '.join(source.columns)}")
