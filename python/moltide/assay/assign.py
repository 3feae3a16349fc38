"""Split, group and time columns, one entry a sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moltide.assay.ledger import problems_text, shorten
from moltide.assay.profile import SPLIT_WORDS
from moltide.assay.source import Source
from moltide.assay.values import MISSING_WORDS, FloatArray, parse_numbers

# 13/02/2024, 2.13.24, 01-03-2024 10:00: day and month in an order that the cell may not tell.
_TWO_THEN_YEAR = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-](?:\d{4}|\d{2})(?!\d)")
_RANK = {"": 0, "train": 1, "valid": 2, "test": 3}


def split_of(
    source: Source, column: str, members: Sequence[Sequence[int]]
) -> tuple[npt.NDArray[np.str_], list[str]]:
    """Parts of each sequence from a split column, and what there is to say.

    A sequence whose rows lie in several parts goes to the last of train, valid, test, so that
    nothing tested on is trained on. Rows without a part give "".
    """
    words = [SPLIT_WORDS.get(text.lower(), "") for text in source.texts(column)]
    parts, straddling = [], 0
    for rows in members:
        found = {words[row] for row in rows}
        straddling += len(found - {""}) > 1
        parts.append(max(found, key=_RANK.__getitem__))
    notes = []
    if straddling:
        notes.append(
            f"column {column!r}: sequences in more than one part: {straddling:,}; each went "
            "to test before valid before train"
        )
    blank = sum(part == "" for part in parts)
    if blank:
        notes.append(f"column {column!r}: sequences without a part, not used by it: {blank:,}")
    return np.array(parts, dtype="<U5"), notes


def groups_of(
    source: Source, column: str, members: Sequence[Sequence[int]]
) -> npt.NDArray[np.str_]:
    """The group of each sequence from a named column; an empty cell is a group of its own."""
    texts = source.texts(column)
    labels = []
    for index, rows in enumerate(members):
        named = [texts[row] for row in rows if texts[row].lower() not in MISSING_WORDS]
        labels.append(named[0] if named else f"(row {source.row(rows[0])}, {index})")
    if len({*labels}) < 3:
        raise source.fail(
            f"column {column!r} is no split: it holds neither train/valid/test nor three groups "
            f"(its values: {', '.join(dict.fromkeys(texts[:1000]))[:80]})"
        )
    return np.array(labels)


@dataclass
class Times:
    """`first` (n,) is when each sequence was first measured, NaN = unknown; `dates`: in seconds
    since 1970."""

    first: FloatArray
    dates: bool = False
    said: list[str] = field(default_factory=list)


def times_of(source: Source, column: str, members: Sequence[Sequence[int]]) -> Times:
    """When each sequence was first measured: the number, or seconds since 1970 of a date.

    Raises:
        DataError: cells that are neither numbers nor dates, or dates whose day and month cannot
            be told apart.
    """
    texts = source.texts(column)
    numbers = parse_numbers(texts)
    values = numbers.values.copy()
    found = Times(np.full(len(members), np.nan))
    if numbers.bad:
        values, found.dates = _dates(source, column, texts, found.said), True
        bad = [i for i in numbers.bad if np.isnan(values[i])]
        if bad:
            listed = problems_text([(source.row(i), shorten(texts[i])) for i in bad])
            raise source.fail(
                f"time column {column!r}: cells that are neither numbers nor dates: {len(bad):,} "
                f"({listed})"
            )
    for index, rows in enumerate(members):
        known = values[list(rows)]
        known = known[~np.isnan(known)]
        if len(known):
            found.first[index] = known.min()
    return found


def _dates(source: Source, column: str, texts: Sequence[str], said: list[str]) -> FloatArray:
    """Seconds since 1970 of dates in one order of day and month, NaN where a cell is no date."""
    import pandas as pd

    parts = [(i, match) for i, text in enumerate(texts) if (match := _TWO_THEN_YEAR.match(text))]
    by_day = [i for i, match in parts if int(match[1]) > 12]
    by_month = [i for i, match in parts if int(match[2]) > 12]
    unsure = [i for i, match in parts if int(match[1]) != int(match[2])]
    examples = [
        (source.row(rows[0]), shorten(texts[rows[0]])) for rows in (by_day, by_month) if rows
    ]
    if by_day and by_month:
        raise source.fail(
            f"time column {column!r}: some dates put the day first and some the month "
            f"({problems_text(examples)}); write YYYY-MM-DD"
        )
    if unsure and not examples:
        listed = problems_text([(source.row(i), shorten(texts[i])) for i in unsure], 3)
        raise source.fail(
            f"time column {column!r}: no cell tells whether the day or the month comes first "
            f"({listed}); write YYYY-MM-DD"
        )
    if examples:
        order = "day/month" if by_day else "month/day"
        said.append(f"time column {column!r}: dates read as {order} ({problems_text(examples)})")
    cells = pd.Series(texts, dtype=object)
    cells = cells.where(~cells.str.lower().isin(MISSING_WORDS))
    # Elsewhere dayfirst would turn 2024-02-13 around as well.
    by_order = cells.index.isin([i for i, _ in parts])
    epoch = pd.Timestamp("1970-01-01", tz="UTC")
    values = np.full(len(texts), np.nan)
    for chosen, day_first in ((by_order, bool(by_day)), (~by_order, False)):
        dates = pd.to_datetime(
            cells[chosen], errors="coerce", utc=True, format="mixed", dayfirst=day_first
        )
        values[chosen] = ((dates - epoch) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64)
    return values
