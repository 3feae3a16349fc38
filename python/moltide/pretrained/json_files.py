"""JSON side files of a checkpoint: read whole, typed field by field, errors that name the field."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moltide.errors import CheckpointError

# A tokenizer with a large vocabulary takes some 20 MB; anything beyond this is no config.
MAX_JSON_BYTES = 200_000_000


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a UTF-8 JSON file.

    Raises:
        CheckpointError: not JSON, not an object, or larger than any published file of its kind.
    """
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{path}: {size} bytes; a JSON side file has at most {MAX_JSON_BYTES}"
        )
    try:
        document = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: holds a {type(document).__name__}, expected an object")
    return document


class Fields:
    """Typed access to the fields of a config; a missing or null field takes its default."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def _get(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        return default if value is None else value

    def refuse(self, name: str, got: Any, allowed: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: {name} is {got!r}; allowed: {allowed}")

    def integer(self, name: str, default: int | None, low: int = 1, high: int = 2**31 - 1) -> int:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.refuse(name, value, f"an integer from {low} to {high}")
        return value

    def optional_integer(self, name: str, low: int = 0) -> int | None:
        return None if self._get(name, None) is None else self.integer(name, None, low)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._get(name, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise self.refuse(name, value, f"a number from {low} to {high}")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, value, "true or false")
        return value

    def texts(self, name: str) -> list[str]:
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.refuse(name, value, "a list of text")
        return value

    def choice(self, name: str, default: str, allowed: Sequence[str]) -> str:
        value = self._get(name, default)
        if value not in allowed:
            raise self.refuse(name, value, ", ".join(allowed))
        return str(value)
