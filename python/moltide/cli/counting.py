"""Rows done and time left: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from moltide.training.progress import clock

# Seconds between two lines.
_A_LINE = 20.0


class _Pace:
    """Rows a second of what was computed here: rows that were there before do not count."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.counted = total, 0, 0
        self._began = time.monotonic()

    def add(self, rows: int, computed: bool) -> None:
        self.done += rows
        if computed:
            self.counted += rows
        else:
            self._began = time.monotonic()

    @property
    def speed(self) -> float:
        return self.counted / max(1e-9, time.monotonic() - self._began)

    def text(self, unit: str) -> str:
        """`412 rows/s | 03:12 left`, once something was computed."""
        if not self.counted:
            return ""
        left = clock(max(0, self.total - self.done) / max(1e-9, self.speed))
        return f"{self.speed:,.0f} {unit}s/s | {left} left"


class LineCounter:
    """Says a line every 20 seconds, and none before."""

    def __init__(self, say: Callable[[str], None], what: str, total: int, unit: str) -> None:
        self._say, self._what, self._unit = say, what, unit
        self._pace = _Pace(total)
        self._due = time.monotonic() + _A_LINE

    def __enter__(self) -> LineCounter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, rows: int, computed: bool = True) -> None:
        pace = self._pace
        pace.add(rows, computed)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _A_LINE
            share = pace.done / max(1, pace.total)
            rest = pace.text(self._unit)
            self._say(
                f"{self._what}: {pace.done:,} of {pace.total:,} {self._unit}s ({share:.0%})"
                + (f" | {rest}" if rest else "")
            )


class BarCounter:
    """A live bar with rows a second and the time left."""

    def __init__(self, console: Any, what: str, total: int, unit: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._unit, self._pace = unit, _Pace(total)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._live.add_task(what, total=total, text="")

    def __enter__(self) -> BarCounter:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def advance(self, rows: int, computed: bool = True) -> None:
        self._pace.add(rows, computed)
        text = self._pace.text(self._unit)
        self._live.update(self._task, completed=self._pace.done, text=text)
