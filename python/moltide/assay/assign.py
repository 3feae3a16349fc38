"""Split, group and time columns, one entry a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from moltide.assay.ledger import problems_text, shorten
from moltide.assay.profile import SPLIT_WORDS
from moltide.assay.source import Source
from moltide.assay.values import MISSING_WORDS, FloatArray, parse_numbers

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


def times_of(source: Source, column: str, members: Sequence[Sequence[int]]) -> FloatArray:
    """When each sequence was first measured: the number, or seconds since 1970 of a date.

    Raises:
        DataError: cells that are neither numbers nor dates.
    """
    import pandas as pd

    texts = source.texts(column)
    numbers = parse_numbers(texts)
    values = numbers.values.copy()
    if numbers.bad:
        dates = pd.to_datetime(
            pd.Series(texts, dtype=object).where(~pd.Series(texts).str.lower().isin(MISSING_WORDS)),
            errors="coerce",
            utc=True,
            format="mixed",
        )
        epoch = pd.Timestamp("1970-01-01", tz="UTC")
        values = ((dates - epoch) / pd.Timedelta(seconds=1)).to_numpy(dtype=np.float64)
        bad = [i for i in numbers.bad if np.isnan(values[i])]
        if bad:
            listed = problems_text([(source.row(i), shorten(texts[i])) for i in bad])
            raise source.fail(
                f"time column {column!r}: cells that are neither numbers nor dates: {len(bad):,} "
                f"({listed})"
            )
    first = np.full(len(members), np.nan)
    for index, rows in enumerate(members):
        known = values[list(rows)]
        known = known[~np.isnan(known)]
        if len(known):
            first[index] = known.min()
    return first
