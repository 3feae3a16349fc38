"""A run's voice in the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moltide.training.progress import ProgressView


class TerminalVoice:
    """Sections with facts, spinners while waiting, a live line while training.

    Args:
        to_stderr: leave standard output to the machine-readable line.
    """

    def __init__(self, to_stderr: bool = False) -> None:
        self.console = _console(to_stderr)
        self._first = True

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        if not self._first:
            self.console.print()
        self._first = False
        self.console.print(title, style="bold", markup=False)
        for line in lines:
            self.say(line)

    def say(self, line: str) -> None:
        self.console.print(f"  {line}", markup=False)

    def busy(self, what: str) -> AbstractContextManager[Any]:
        if not self.console.is_terminal:
            return nullcontext()
        spinner: AbstractContextManager[Any] = self.console.status(what, spinner="dots")
        return spinner

    def training(self, metric: str, label: str, unit: str = "residues") -> ProgressView:
        from moltide.training.progress import LineView, RichView, SilentView

        if self.console.is_terminal:
            return RichView(metric, self.console, label, unit)
        if label != "training":
            return SilentView()  # a log has no use for every epoch of the learning curve
        stream = sys.stderr if self.console.stderr else sys.stdout
        return LineView(metric, stream, label, unit)

    def counting(self, what: str, total: int, unit: str) -> AbstractContextManager[Any]:
        """Rows are worked through; what the context gives has `advance(rows)`. A bar with the time
        left in a terminal, elsewhere now and then a line."""
        from moltide.cli.counting import BarCounter, LineCounter

        if self.console.is_terminal:
            return BarCounter(self.console, what, total, unit)
        return LineCounter(self.say, what, total, unit)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Cells in columns; in a terminal the names of lights have their colour."""
        listed = [list(map(str, row)) for row in rows]
        if self.console.is_terminal:
            from rich.table import Table
            from rich.text import Text

            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for name in header:
                table.add_column(Text(name, style="bold"), no_wrap=True)
            for row in listed:
                table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
            self.console.print(table)
            return
        columns = zip(header, *listed, strict=True)
        widths = [max(map(len, column)) for column in columns]
        for row in (list(header), *listed):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.say("  ".join(cells).rstrip())

    def verdict(self, text: str, details: Iterable[str] = ()) -> None:
        self.console.print()
        self.console.print(text, style="bold", markup=False)
        for line in details:
            self.say(line)


class _PlainConsole:
    """The lines alone: where there is no terminal, rich would add nothing but its start-up."""

    is_terminal = False

    def __init__(self, stderr: bool) -> None:
        self.stderr = stderr

    def print(self, line: str = "", style: str = "", markup: bool = False) -> None:
        del style, markup
        # Through a pipe, too, each line is there when it is said.
        print(line, file=sys.stderr if self.stderr else sys.stdout, flush=True)


def _console(stderr: bool) -> Any:
    stream = sys.stderr if stderr else sys.stdout
    wished = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    if not (wished or stream.isatty()):
        return _PlainConsole(stderr)
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


_STYLES = {"green": "green", "amber": "yellow", "red": "red", "grey": "bright_black"}


def _style(cell: str) -> str:
    """The colour of a cell that begins with the name of a light."""
    return _STYLES.get(cell.partition(" ")[0], "")
