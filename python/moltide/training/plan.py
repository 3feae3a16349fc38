"""How many steps a run takes, and which rows each of them sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.training.settings import TrainSettings

Rows = npt.NDArray[np.int64]
# A first try of a step also packs weights and grows the arena: it is not timed.
_TIMED_STEPS = 3
_FEWEST_STEPS = 20


@dataclass(frozen=True)
class FitPlan:
    """Steps of a run: `steps` in all, `steps_per_epoch` of them an epoch (the last may be short).

    `why` says what decided the number: "epochs", or "time" (max_minutes on this machine).
    `scored` validation rows at most are looked at after each epoch.
    """

    steps: int
    steps_per_epoch: int
    warmup_steps: int
    why: str = "epochs"
    scored: int = 2000

    @property
    def epochs(self) -> int:
        """Epochs begun."""
        return math.ceil(self.steps / self.steps_per_epoch)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def epoch_batches(n: int, batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """The rows of each step of an epoch: a shuffle that (seed, epoch) alone decide, in parts of
    nearly equal size, none above `batch_size`."""
    order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
    parts = np.array_split(order.astype(np.int64), math.ceil(n / batch_size))
    return [np.ascontiguousarray(part) for part in parts]


def spelled_rows(rows: Rows, n: int, augment: int, seed: int, epoch: int) -> Rows:
    """The same molecules in the spelling that it is their turn to have: row i of `n` stands in the
    data at i, i + n, ..., i + augment * n, and every row begins at another of these, so that an
    epoch has all kinds and none comes twice in `augment` + 1 epochs."""
    if not augment:
        return rows
    # Beside every epoch's own key.
    first = np.random.Generator(np.random.Philox(key=[seed, 1 << 48])).integers(augment + 1, size=n)
    return rows + n * ((first[rows] + epoch) % (augment + 1))


def make_plan(
    n: int, settings: TrainSettings, seconds_a_step: Callable[[], float] | None = None
) -> FitPlan:
    """The plan for `n` rows and resolved settings.

    Args:
        seconds_a_step: asked only with `max_minutes`; the steps are cut to what fits.
    """
    per_epoch = math.ceil(n / settings.batch_size)
    steps, why = per_epoch * int(settings.epochs or 1), "epochs"
    if settings.max_minutes is not None and seconds_a_step is not None:
        fitting = int(60 * settings.max_minutes / max(1e-9, seconds_a_step()))
        if fitting < steps:
            steps, why = max(_FEWEST_STEPS, fitting), "time"
    return FitPlan(steps, per_epoch, math.ceil(settings.warmup * steps), why)


def time_steps(trainer: Any, n: int, settings: TrainSettings) -> float:
    """Median seconds of a step, by computing gradients that change nothing."""
    batches = epoch_batches(n, settings.batch_size, settings.seed, 0)[: _TIMED_STEPS + 1]
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        trainer.gradients(batch)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:] or seconds))
