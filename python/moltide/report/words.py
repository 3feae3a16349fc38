"""Numbers and settings in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """Three decimals near one, otherwise `digits` significant ones; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return DASH
    if 0.01 <= abs(value) < 10 or abs(value) < 1e-12:
        return minus(f"{abs(value) if abs(value) < 1e-12 else value:.{digits}f}")
    if 10 <= abs(value) < 1e7:
        return minus(f"{value:,.{max(0, digits - 1 - int(math.log10(abs(value))))}f}")
    return minus(f"{value:.{digits}g}")


def score(value: float) -> str:
    """A metric whose scale is known (a correlation, an area, a share): three decimals."""
    if not math.isfinite(value):
        return DASH
    shown = f"{value:.3f}"
    return minus(shown.lstrip("-") if float(shown) == 0 else shown)


def minus(text: Any) -> str:
    """Signs before digits as minus signs; hyphens within words and ranges stay."""
    return re.sub(r"(?<![0-9A-Za-z])-(?=\d)", MINUS, str(text))


def sentence(text: str) -> str:
    """A capital in front, a full stop behind."""
    shown = text.strip()
    if not shown:
        return shown
    return shown[0].upper() + shown[1:] + ("" if shown[-1] in ".!?" else ".")


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("a.b", text) for every leaf of nested dicts."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, leaf(value)


def leaf(value: Any) -> str:
    """One setting in words."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(leaf(one) for one in value) or DASH
    return str(value)
