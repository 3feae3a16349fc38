"""A run's voice in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from moltide.training.progress import LineView, ProgressView, RichView, SilentView


class TerminalVoice:
    """Sections with facts, spinners while waiting, a live line while training.

    Args:
        to_stderr: leave standard output to the machine-readable line.
    """

    def __init__(self, to_stderr: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
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
        return self.console.status(what, spinner="dots")

    def training(self, metric: str, label: str) -> ProgressView:
        if self.console.is_terminal:
            return RichView(metric, self.console, label)
        if label != "training":
            return SilentView()  # a log has no use for every epoch of the learning curve
        stream = sys.stderr if self.console.stderr else sys.stdout
        return LineView(metric, stream, label)

    def verdict(self, text: str, details: Iterable[str] = ()) -> None:
        self.console.print()
        self.console.print(text, style="bold", markup=False)
        for line in details:
            self.say(line)
