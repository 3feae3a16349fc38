"""What training came to, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

from moltide.wording import plural


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
    """What `fit` did. `stopped` is "finished", "patience" or "time"; `best_epoch` counts from 1,
    and is 0 where no epoch was better than the start. `planned` says what decided the number of
    steps: "epochs" or "time"."""

    history: list[Epoch]
    best_epoch: int
    best_score: float | None
    steps: int
    seconds: float
    stopped: str
    resumed: bool = False
    planned: str = "epochs"

    @property
    def kept(self) -> str:
        """Which weights the model was left with, in words."""
        if self.best_epoch == 0:
            return f"the start ({plural(len(self.history), 'epoch')}, none better)"
        return f"epoch {self.best_epoch} of {len(self.history)}"
