"""What is wanted of each endpoint, as people write it: `hERG<5,logS>-4,Ames=0`, or a table."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.errors import ConfigError
from moltide.options import option

if TYPE_CHECKING:
    from moltide.assay_model import ModelSpec

_RULE = re.compile(r"\s*(.+?)\s*(<=|>=|==|<|>|=|≤|≥)\s*(.+?)\s*")
_COLUMNS = {
    "endpoint": ("endpoint", "target", "name", "property"),
    "rule": ("rule", "threshold"),
    "below": ("below", "max", "maximum", "high", "upper"),
    "above": ("above", "min", "minimum", "low", "lower"),
    "wanted": ("class", "wanted", "label"),
    "weight": ("weight", "importance"),
}


@dataclass(frozen=True)
class Threshold:
    """What is wanted of one endpoint: a number between `above` and `below`, or the class `wanted`.

    `weight` is its exponent in the overall score.
    """

    endpoint: str
    above: float = -math.inf
    below: float = math.inf
    wanted: str = ""
    weight: float = 1.0

    def __str__(self) -> str:
        if self.wanted:
            return f"{self.endpoint} = {self.wanted}"
        if math.isinf(self.above):
            return f"{self.endpoint} < {self.below:g}"
        if math.isinf(self.below):
            return f"{self.endpoint} > {self.above:g}"
        return f"{self.above:g} < {self.endpoint} < {self.below:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; without an end that is open."""
        values = dataclasses.asdict(self)
        return {
            key: value for key, value in values.items() if value not in ("", math.inf, -math.inf)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Threshold:
        return cls(**values)


def read_thresholds(given: str | os.PathLike[str]) -> list[Threshold]:
    """Thresholds from a CSV file, or from rules between commas: `hERG<5,solubility>-4,Ames=0`.

    The file has a column endpoint and some of above, below, class and weight; or a column of rules.
    Rules of one endpoint belong together: `logD>1,logD<3` is a range.

    Raises:
        ConfigError: what cannot be read, with file and row, or with the rule.
    """
    path = Path(given)
    is_path = isinstance(given, os.PathLike) or path.suffix.lower() in (".csv", ".tsv")
    if is_path or (len(str(given)) < 4096 and path.is_file()):
        parts = _read_file(path)
    else:
        parts = [
            _rule(text, option("thresholds")) for text in str(given).split(",") if text.strip()
        ]
    merged: dict[str, Threshold] = {}
    for where, one in parts:
        before = merged.get(one.endpoint)
        merged[one.endpoint] = one if before is None else _together(before, one, where)
    if not merged:
        raise ConfigError(f"{option('thresholds')}: no rule in {str(given)!r}; {_HOW}")
    return list(merged.values())


_HOW = "write rules such as hERG<5,solubility>-4,Ames=0"


def _rule(text: str, where: str) -> tuple[str, Threshold]:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{where}: {text.strip()!r} is no rule; {_HOW}")
    name, sign, value = match.groups()
    if sign in ("=", "=="):
        return where, Threshold(name, wanted=value)
    number = _number(value, f"{where}: {text.strip()!r}")
    if sign in ("<", "<=", "≤"):
        return where, Threshold(name, below=number)
    return where, Threshold(name, above=number)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {text!r} is no number")
    return value


def _together(first: Threshold, second: Threshold, where: str) -> Threshold:
    if first.wanted or second.wanted:
        raise ConfigError(f"{where}: two rules for {first.endpoint!r}, {first} and {second}")
    weights = {one.weight for one in (first, second)} - {1.0}
    both = Threshold(
        first.endpoint,
        max(first.above, second.above),
        min(first.below, second.below),
        weight=max(weights, default=1.0),
    )
    if both.above >= both.below:
        raise ConfigError(f"{where}: no value of {first.endpoint!r} meets {first} and {second}")
    return both


def _read_file(path: Path) -> list[tuple[str, Threshold]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    at = {
        part: next((header.index(name) for name in names if name in header), None)
        for part, names in _COLUMNS.items()
    }
    if at["rule"] is None and at["endpoint"] is None:
        raise ConfigError(
            f"{path}: no column 'endpoint' (beside above, below, class, weight) and none of rules; "
            f"columns: {', '.join(header) or 'none'}"
        )
    found = []
    for number, row in enumerate(rows[1:], 2):
        cells = {
            part: row[i].strip() if i is not None and i < len(row) else "" for part, i in at.items()
        }
        if any(cells.values()):
            found.append(_row(cells, f"{path}, row {number}"))
    return found


def _row(cells: Mapping[str, str], where: str) -> tuple[str, Threshold]:
    weight = 1.0
    if cells["weight"]:
        weight = _number(cells["weight"], where)
        if weight <= 0:
            raise ConfigError(f"{where}: weight is {weight:g}; allowed: above 0")
    rule = cells["rule"]
    if rule:
        # "<5" beside the name of the endpoint, or the whole rule.
        whole = rule if _RULE.fullmatch(rule) else cells["endpoint"] + rule
        return where, dataclasses.replace(_rule(whole, where)[1], weight=weight)
    if not cells["endpoint"]:
        raise ConfigError(f"{where}: no endpoint is named")
    if not (cells["above"] or cells["below"] or cells["wanted"]):
        raise ConfigError(
            f"{where}: nothing is wanted of {cells['endpoint']!r}; fill in above, below or class"
        )
    if cells["wanted"]:
        if cells["above"] or cells["below"]:
            raise ConfigError(f"{where}: {cells['endpoint']!r} has a class and a number")
        return where, Threshold(cells["endpoint"], wanted=cells["wanted"], weight=weight)
    above = _number(cells["above"], where) if cells["above"] else -math.inf
    below = _number(cells["below"], where) if cells["below"] else math.inf
    if above >= below:
        raise ConfigError(f"{where}: no number is above {above:g} and below {below:g}")
    return where, Threshold(cells["endpoint"], above, below, weight=weight)


def matched(thresholds: Iterable[Threshold], spec: ModelSpec) -> dict[int, Threshold]:
    """Thresholds by the number of their target.

    Raises:
        ConfigError: an endpoint that the model does not have, or a number for classes, a class for
            numbers, a class that there is not.
    """
    names = list(spec.target_names)
    found: dict[int, Threshold] = {}
    for one in thresholds:
        if one.endpoint not in names:
            lowered = {name.lower(): name for name in names}
            close = difflib.get_close_matches(one.endpoint.lower(), lowered, n=1, cutoff=0.5)
            hint = f"; did you mean {lowered[close[0]]!r}?" if close else ""
            raise ConfigError(
                f"{option('thresholds')}: no endpoint {one.endpoint!r}{hint} (endpoints: "
                f"{', '.join(names)})"
            )
        target = names.index(one.endpoint)
        classes = spec.classes_of(target)
        if classes and not one.wanted:
            raise ConfigError(
                f"{option('thresholds')}: {one.endpoint!r} is of classes; say which one is wanted, "
                f"{' or '.join(f'{one.endpoint}={name}' for name in classes)}"
            )
        if classes and one.wanted not in classes:
            raise ConfigError(
                f"{option('thresholds')}: {one.endpoint!r} has no class {one.wanted!r}; its "
                f"classes: {', '.join(classes)}"
            )
        if not classes and one.wanted:
            raise ConfigError(
                f"{option('thresholds')}: {one.endpoint!r} is a number; write "
                f"{one.endpoint}<{one.wanted} or {one.endpoint}>{one.wanted}"
            )
        found[target] = one
    return dict(sorted(found.items()))
