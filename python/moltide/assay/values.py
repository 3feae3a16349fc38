"""Measured values as people type them: numbers, bounds, and the many ways to say "missing"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moltide.assay.units import CELL_UNIT, plain_unit

FloatArray = npt.NDArray[np.float64]
CensorArray = npt.NDArray[np.int8]

MISSING_WORDS = frozenset([
    "", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "nd", "n.d.", "n.d", "n.m.", ".", "-",
    "--", "?", "missing", "not determined", "not measured", "not tested", "<na>", "#div/0!",
    "#value!", "#ref!", "#num!", "#name?",
])  # fmt: skip
# -1: the true value is below the number; +1: above it; 0: a number, exact or approximate.
RELATIONS = {
    "": 0, "=": 0, "==": 0, "~": 0, "≈": 0,
    ">": 1, ">=": 1, "=>": 1, "≥": 1, ">>": 1,
    "<": -1, "<=": -1, "=<": -1, "≤": -1, "<<": -1,
}  # fmt: skip
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_BOUNDED = re.compile(rf"(>=|<=|=>|=<|>>|<<|==|[<>=~≈≥≤])?\s*({_NUMBER})")
_WITH_UNIT = re.compile(rf"(.*[\d.])\s*({CELL_UNIT})")
_COMMA = re.compile(r"(?:>=|<=|[<>=~≈≥≤])?\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_POINT = re.compile(r"\d\.\d")
_THOUSANDS = re.compile(r"\D*\d{1,3}(,\d{3})+")


@dataclass
class Numbers:
    """A column read as numbers: `values` (n,) float64 with NaN = missing, `censor` (n,) int8;
    `units` has those that stand in cells, by index."""

    values: FloatArray
    censor: CensorArray
    missing_words: Counter[str] = field(default_factory=Counter)
    approximate: int = 0
    bad: list[int] = field(default_factory=list)
    infinite: list[int] = field(default_factory=list)
    decimal_comma: bool = False
    units: dict[int, str] = field(default_factory=dict)


def relation_word(text: str) -> str:
    """A relation as `RELATIONS` has it: without the quotes of ChEMBL's exports, "" for missing."""
    word = text.strip("'\"").strip()
    return "" if word.lower() in MISSING_WORDS else word


def parse_numbers(texts: Sequence[str], with_units: bool = False) -> Numbers:
    """Read cells as numbers or bounds (`>10`, `<=0.5`, `~3`), and if so asked with a unit of
    concentration behind them (`>10 uM`).

    `bad` holds the indices of cells that are neither a number nor a word for missing, `infinite`
    those of infinities; both are NaN in `values`. A decimal comma is understood when every number
    of the column that needs one is written so and none could be a thousands separator.
    """
    import pandas as pd

    # A long run of digits (a mask of 0 and 1, say) is no number.
    cells = pd.Series([text if len(text) <= 40 else "?" for text in texts], dtype=object)
    values = np.array(pd.to_numeric(cells, errors="coerce"), dtype=np.float64)
    result = Numbers(values, np.zeros(len(values), dtype=np.int8))
    pending: list[tuple[int, str]] = []
    for index in np.flatnonzero(np.isnan(values)).tolist():
        text = texts[index].strip()
        if text.lower() in MISSING_WORDS:
            result.missing_words[text] += 1
        else:
            pending.append((index, text))
    if with_units:
        pending = [(index, _without_unit(result, index, text)) for index, text in pending]
    if pending and _decimal_commas(texts, [text for _, text in pending]):
        result.decimal_comma = True
        pending = [(index, text.replace(",", ".")) for index, text in pending]
    for index, text in pending:
        match = _BOUNDED.fullmatch(text) if len(text) <= 40 else None
        if not match:
            result.bad.append(index)
            continue
        sign = match[1] or ""
        values[index] = float(match[2])
        result.censor[index] = RELATIONS[sign]
        result.approximate += sign in ("~", "≈")
    for index in np.flatnonzero(np.isinf(values)).tolist():
        result.infinite.append(index)
        values[index] = np.nan
    return result


def _without_unit(result: Numbers, index: int, text: str) -> str:
    match = _WITH_UNIT.fullmatch(text) if len(text) <= 40 else None
    if match is None:
        return text
    result.units[index] = plain_unit(match[2])
    return match[1]


def _decimal_commas(texts: Sequence[str], pending: list[str]) -> bool:
    commas = [text for text in pending if _COMMA.fullmatch(text)]
    others = [text for text in pending if "," not in text and _BOUNDED.fullmatch(text)]
    if not commas or len(commas) + len(others) < len(pending):
        return False
    if any(_POINT.search(text) for text in texts):
        return False
    return not all(_THOUSANDS.fullmatch(text) for text in commas)


def number_share(texts: Sequence[str]) -> float:
    """Share of the cells that say anything which are numbers or bounds (0 for an empty column)."""
    numbers = parse_numbers(texts)
    said = len(texts) - sum(numbers.missing_words.values())
    return 1 - (len(numbers.bad) / said) if said else 0.0
