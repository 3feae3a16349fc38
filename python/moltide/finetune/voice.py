"""Who a run speaks to: the command's terminal, or nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from moltide.training.progress import ProgressView, SilentView


class Voice(Protocol):
    """Told by a run what it found, decided and does."""

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        """A part of the run begins; `lines` are facts about it."""

    def say(self, line: str) -> None:
        """One more fact."""

    def busy(self, what: str) -> AbstractContextManager[Any]:
        """Something takes a while; what the context gives, if anything, has `update(what)`."""

    def training(self, metric: str, label: str, unit: str = "residues") -> ProgressView:
        """A view of a model being trained; `unit`: what speed is counted in."""

    def verdict(self, text: str, details: Iterable[str] = ()) -> None:
        """The first thing that the reader wants to know, and a sentence a target behind it."""


class SilentVoice:
    """Says nothing."""

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def busy(self, what: str) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def training(self, metric: str, label: str, unit: str = "residues") -> ProgressView:
        return SilentView()

    def verdict(self, text: str, details: Iterable[str] = ()) -> None:
        pass
