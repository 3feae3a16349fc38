"""What a person sees while a model trains: a live line, a notebook bar, plain lines, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from moltide.training.result import Epoch

# Weight of the newest measurement in the speed shown.
_SMOOTHING = 0.1


class ProgressView(Protocol):
    """Told by `fit` what happens, in this order."""

    def begin(self, steps: int, done: int, history: Sequence[Epoch]) -> None:
        """A run of `steps` steps begins; `done` of them are behind it (resume)."""

    def step(self, result: dict[str, Any], seconds: float) -> None:
        """A step has ended; `result` is the trainer's, with "residues"."""

    def epoch(self, epoch: Epoch, best: bool) -> None:
        """An epoch has ended; `best` if none before was better."""

    def end(self) -> None:
        """The run has ended."""


class SilentView:
    """Says nothing."""

    def begin(self, steps: int, done: int, history: Sequence[Epoch]) -> None:
        pass

    def step(self, result: dict[str, Any], seconds: float) -> None:
        pass

    def epoch(self, epoch: Epoch, best: bool) -> None:
        pass

    def end(self) -> None:
        pass


class Pace:
    """Speed and time left, from smoothed loss and residues a second."""

    def __init__(self, metric: str, unit: str = "residues") -> None:
        self.metric, self.unit = metric, unit
        self.steps = self.done = 0
        self.loss: float | None = None
        self.speed = 0.0
        self.seconds_a_step = 0.0
        self.score: float | None = None
        self._last = 0.0

    def begin(self, steps: int, done: int, history: Sequence[Epoch]) -> None:
        self.steps, self.done, self.loss = steps, done, None
        self.score = history[-1].score if history else None
        self._last = time.perf_counter()

    def step(self, result: dict[str, Any]) -> None:
        now = time.perf_counter()
        seconds, self._last = max(1e-9, now - self._last), now
        new = {"loss": result["loss"], "speed": result["residues"] / seconds}
        self.done += 1
        if self.loss is None:
            self.loss, self.speed, self.seconds_a_step = new["loss"], new["speed"], seconds
            return
        self.loss += _SMOOTHING * (new["loss"] - self.loss)
        self.speed += _SMOOTHING * (new["speed"] - self.speed)
        self.seconds_a_step += _SMOOTHING * (seconds - self.seconds_a_step)

    def epoch(self, epoch: Epoch) -> None:
        self.score = epoch.score
        self._last = time.perf_counter()  # validation is no part of a step's time

    @property
    def left(self) -> float:
        """Seconds of the steps to come."""
        return self.seconds_a_step * (self.steps - self.done)

    def text(self) -> str:
        """loss 0.412 | valid Spearman 0.713 | 2,345 residues/s"""
        parts = []
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.score is not None:
            parts.append(f"valid {self.metric} {self.score:.3f}")
        if self.speed:
            parts.append(f"{self.speed:,.0f} {self.unit}/s")
        return " | ".join(parts)


def clock(seconds: float) -> str:
    """1:02:03 or 02:03"""
    whole = round(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


class LineView:
    """One plain line an epoch: logs, pipes, terminals without cursor control."""

    def __init__(
        self,
        metric: str,
        stream: TextIO | None = None,
        label: str = "",
        unit: str = "residues",
    ) -> None:
        self._pace = Pace(metric, unit)
        self._stream = stream
        self._label = f"{label} " if label else ""

    def begin(self, steps: int, done: int, history: Sequence[Epoch]) -> None:
        self._pace.begin(steps, done, history)

    def step(self, result: dict[str, Any], seconds: float) -> None:
        self._pace.step(result)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        pace = self._pace
        pace.epoch(epoch)
        score = "" if epoch.score is None else f" | valid {pace.metric} {epoch.score:.3f}"
        mark = " (best)" if best and epoch.score is not None else ""
        print(
            f"{self._label}epoch {epoch.epoch} | step {epoch.step:,}/{pace.steps:,} | "
            f"loss {epoch.loss:.3f}{score}{mark} | {epoch.residues_per_second:,.0f} "
            f"{pace.unit}/s | {clock(pace.left)} left",
            file=self._stream or sys.stderr,
            flush=True,
        )

    def end(self) -> None:
        pass


class TqdmView:
    """A tqdm.auto bar: a widget in notebooks, a line elsewhere."""

    def __init__(self, metric: str, label: str = "train", unit: str = "residues") -> None:
        self._pace = Pace(metric, unit)
        self._label = label
        self._bar: Any = None

    def begin(self, steps: int, done: int, history: Sequence[Epoch]) -> None:
        from tqdm.auto import tqdm

        self._pace.begin(steps, done, history)
        self._bar = tqdm(total=steps, initial=done, desc=self._label, unit="step")

    def step(self, result: dict[str, Any], seconds: float) -> None:
        self._pace.step(result)
        self._bar.set_postfix_str(self._pace.text(), refresh=False)
        self._bar.update(1)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        self._pace.epoch(epoch)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


class RichView:
    """A live line in a terminal: bar, loss, validation metric, residues/s, time left."""

    def __init__(
        self,
        metric: str,
        console: Any = None,
        label: str = "training",
        unit: str = "residues",
    ) -> None:
        self._pace = Pace(metric, unit)
        self._console = console
        self._label = label
        self._live: Any = None
        self._task: Any = None

    def begin(self, steps: int, done: int, history: Sequence[Epoch]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._pace.begin(steps, done, history)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._live.add_task(self._label, total=steps, completed=done, text="")
        self._live.start()

    def step(self, result: dict[str, Any], seconds: float) -> None:
        pace = self._pace
        pace.step(result)
        text = f"{pace.text()} | {clock(pace.left)} left"
        self._live.update(self._task, completed=pace.done, text=text)

    def epoch(self, epoch: Epoch, best: bool) -> None:
        self._pace.epoch(epoch)

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


def default_view(
    metric: str, verbose: int, label: str = "training", unit: str = "residues"
) -> ProgressView:
    """The view for here: nothing (verbose=0), a notebook bar, a live line, or lines in a log.
    `unit`: what speed is counted in."""
    if not verbose:
        return SilentView()
    if in_notebook():
        return TqdmView(metric, label, unit)
    if sys.stderr.isatty():
        from rich.console import Console

        return RichView(metric, Console(stderr=True), label, unit)
    return LineView(metric, label=label, unit=unit)
