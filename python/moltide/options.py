"""Options by name: as the person at hand writes them, and whether their values are allowed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from moltide.errors import ConfigError

_NONE: Mapping[str, str] = MappingProxyType({})
_typed: ContextVar[Mapping[str, str]] = ContextVar("moltide_typed_options", default=_NONE)


@contextlib.contextmanager
def typed_options(flags: Mapping[str, str]) -> Iterator[None]:
    """Within, `option` says these flags ({"max_minutes": "--max-minutes"}) for their names."""
    token = _typed.set(flags)
    try:
        yield
    finally:
        _typed.reset(token)


def option(name: str, value: Any = None) -> str:
    """How messages call an option: `max_minutes` in Python, `--max-minutes` in a command that has
    it; with a value `dtype='bf16'`, `--dtype bf16`."""
    flag = _typed.get().get(name)
    if flag is None:
        return name if value is None else f"{name}={value!r}"
    return flag if value is None or value is True else f"{flag} {value}"


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Refuse a value that is none of `allowed`.

    Raises:
        ConfigError: naming the option, its value, and what is allowed; so do the other checks.
    """
    if value not in allowed:
        raise ConfigError(f"{option(name)} is {value!r}; allowed: {', '.join(allowed)}")


def check_integer(name: str, value: Any, low: int, *, optional: bool = False) -> None:
    """Refuse what is no integer of `low` or more."""
    if optional and value is None:
        return
    # numbers.Integral would let True through; NumPy integers are welcome (GridSearchCV).
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < low:
        raise ConfigError(f"{option(name)} is {value!r}; allowed: an integer of {low} or more")


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    optional: bool = False,
) -> None:
    """Refuse what is no finite number from `low` (with `above`, beyond it) to `high`."""
    if optional and value is None:
        return
    number = math.nan
    if not isinstance(value, str | bool):
        with contextlib.suppress(TypeError, ValueError):
            number = float(value)
    fits = (low < number if above else low <= number) and number <= high
    if not fits or not math.isfinite(number):
        floor = f"above {low:g}" if above else f"{low:g} or more"
        ceiling = f", at most {high:g}" if math.isfinite(high) else ""
        raise ConfigError(f"{option(name)} is {value!r}; allowed: a number {floor}{ceiling}")
