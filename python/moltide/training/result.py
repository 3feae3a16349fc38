"""What training came to, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Epoch:
    """One epoch: mean training loss, and the validation metric (None without validation rows)."""

    epoch: int
    step: int
    loss: float
    score: float | None
    residues_per_second: float


@dataclass
class FitResult:
    """What `fit` did. `stopped` is "finished", "patience" or "time"; `best_epoch` counts from 1."""

    history: list[Epoch]
    best_epoch: int
    best_score: float | None
    steps: int
    seconds: float
    stopped: str
    resumed: bool = False
