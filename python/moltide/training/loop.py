"""`fit`: steps, validation after every epoch, the best epoch kept, exact resume."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moltide.errors import ConfigError
from moltide.tokenizer import FRAME
from moltide.training.checkpoint import CheckpointFile
from moltide.training.interrupt import Interrupted, StopRequest
from moltide.training.log import JsonLog
from moltide.training.plan import FitPlan, epoch_batches, spelled_rows
from moltide.training.progress import ProgressView, SilentView
from moltide.training.result import Epoch, FitResult
from moltide.training.settings import TrainSettings

# Training may outlast a planned time by this factor before it is cut short.
_OVERTIME = 1.15


@dataclass
class _State:
    """Where a run stands; everything but the arrays that a checkpoint holds."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float | None = None
    # Of the epochs alone: patience does not count the start.
    leading_epoch: int = 0
    leading_score: float | None = None
    loss_sum: float = 0.0
    loss_weight: int = 0
    residues: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    stopped: str = ""
    history: list[Epoch] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> _State:
        known = dict(values)
        known["history"] = [Epoch(**one) for one in known["history"]]
        return cls(**known)


def fit(
    trainer: Any,
    n: int,
    settings: TrainSettings,
    plan: FitPlan,
    *,
    set_parameter: Callable[[str, np.ndarray], None],
    evaluate: Callable[[], float] | None = None,
    checkpoint: CheckpointFile | None = None,
    fingerprint: str = "",
    log: JsonLog | None = None,
    stage: str = "train",
    view: ProgressView | None = None,
    stop: StopRequest | None = None,
) -> FitResult:
    """Train, and leave the model with the weights of its best epoch, or with those it started from.

    The weights depend on the trainer's start, `settings` and `plan` alone: a run that was stopped
    or killed and goes on from its checkpoint ends with the same bits as one never stopped.

    Args:
        trainer: a `moltide._engine.Trainer` with its dataset of `n` rows, or with
            `settings.augment` of the n rows in each of their spellings (see `spelled_rows`).
        set_parameter: puts a value into the model that `trainer` trains.
        evaluate: the validation metric of the present weights, higher is better; NaN counts as
            the worst. The start is epoch 0, and is kept where no epoch is better. None: the last
            epoch is kept.
        checkpoint: where the state is kept while training; a checkpoint with this `fingerprint`
            is continued.
        log: rows {"stage", "step", "epoch", "loss", "grad_norm", "lr", "tokens"} a step and
            {"stage", "epoch", "step", "loss", "score", "seconds"} an epoch, the start as epoch 0
            (loss null) where it is scored.
        stop: when it is set, the state is saved and `Interrupted` is raised.

    Raises:
        Interrupted: on request, after the checkpoint is on disk.
        CheckpointError: the checkpoint is damaged or belongs to another run.
        ConfigError: loss or gradients are not finite.
        OSError: the checkpoint cannot be written.
    """
    run = _Run(trainer, settings, plan, checkpoint, fingerprint, log or JsonLog(None), stage)
    resumed = run.restore()
    view = view or SilentView()
    view.begin(plan.steps, run.state.step, run.state.history)
    state = run.state
    if evaluate is not None and state.step == 0 and state.best_score is None:
        run.score_start(evaluate)
    while not state.stopped:
        batches = epoch_batches(n, settings.batch_size, settings.seed, state.epoch)
        last = min(len(batches), plan.steps - state.epoch * plan.steps_per_epoch)
        while state.batch < last and not state.stopped:
            if stop:
                run.save()
                raise Interrupted(stop.signum or signal.SIGINT)
            rows = batches[state.batch]
            rows = spelled_rows(rows, n, settings.augment, settings.seed, state.epoch)
            view.step(run.step(rows), state.seconds)
            if run.out_of_time():
                state.stopped = "time"
            elif checkpoint is not None and checkpoint.is_due():
                run.save()
        epoch = run.end_epoch(evaluate)
        view.epoch(epoch, epoch.epoch == state.best_epoch)
        patience = int(settings.patience or 1)
        if state.step >= plan.steps:
            state.stopped = "finished"
        elif evaluate is not None and state.epoch - state.leading_epoch >= patience:
            state.stopped = state.stopped or "patience"
        if state.stopped:
            run.save()
    view.end()
    for name, values in run.best.items():
        set_parameter(name, values)
    run.log.sync()
    return FitResult(
        state.history,
        state.best_epoch,
        state.best_score,
        state.step,
        state.seconds,
        state.stopped,
        resumed,
        plan.why,
    )


class _Run:
    """A trainer with its place in the plan, and the way to and from a checkpoint."""

    def __init__(
        self,
        trainer: Any,
        settings: TrainSettings,
        plan: FitPlan,
        checkpoint: CheckpointFile | None,
        fingerprint: str,
        log: JsonLog,
        stage: str,
    ) -> None:
        self.trainer = trainer
        self.settings = settings
        self.plan = plan
        self.checkpoint = checkpoint
        self.fingerprint = fingerprint
        self.log = log
        self.stage = stage
        self.state = _State()
        self.best: dict[str, np.ndarray] = {}

    def step(self, rows: np.ndarray) -> dict[str, Any]:
        state = self.state
        start = time.perf_counter()
        try:
            result: dict[str, Any] = self.trainer.step(rows)
        except ValueError as error:
            raise ConfigError(f"training diverged: {error}") from error
        seconds = time.perf_counter() - start
        result["residues"] = result["tokens"] - FRAME * result["sequences"]
        state.batch += 1
        state.step += 1
        state.loss_sum += result["loss"] * len(rows)
        state.loss_weight += len(rows)
        state.residues += result["residues"]
        state.epoch_seconds += seconds
        state.seconds += seconds
        self.log.write(
            {
                "stage": self.stage,
                "step": state.step,
                "epoch": state.epoch + 1,
                "loss": result["loss"],
                "grad_norm": result["grad_norm"],
                "lr": result["lr"],
                "tokens": result["tokens"],
            }
        )
        return result

    def score_start(self, evaluate: Callable[[], float]) -> None:
        state = self.state
        start = time.perf_counter()
        state.best_epoch, state.best_score = 0, float(evaluate())
        state.seconds += time.perf_counter() - start
        self.best = self.parameters()
        self.log_epoch(0, None, state.best_score)

    def end_epoch(self, evaluate: Callable[[], float] | None) -> Epoch:
        state = self.state
        start = time.perf_counter()
        score = None if evaluate is None else float(evaluate())
        state.seconds += time.perf_counter() - start
        done = Epoch(
            state.epoch + 1,
            state.step,
            state.loss_sum / max(1, state.loss_weight),
            score,
            state.residues / max(1e-9, state.epoch_seconds),
        )
        state.history.append(done)
        state.epoch, state.batch = state.epoch + 1, 0
        state.loss_sum, state.loss_weight, state.residues, state.epoch_seconds = 0.0, 0, 0, 0.0
        if _better(score, state.leading_score):
            state.leading_epoch, state.leading_score = done.epoch, score
        if _better(score, state.best_score):
            state.best_epoch, state.best_score = done.epoch, score
            # Without a validation metric the last epoch is the best, and needs no copy.
            self.best = self.parameters() if score is not None else {}
        self.log_epoch(done.epoch, done.loss, score)
        return done

    def log_epoch(self, epoch: int, loss: float | None, score: float | None) -> None:
        self.log.write(
            {
                "stage": self.stage,
                "epoch": epoch,
                "step": self.state.step,
                "loss": loss,
                "score": None if score is None or math.isnan(score) else score,
                "seconds": round(self.state.seconds, 3),
            }
        )

    def parameters(self) -> dict[str, np.ndarray]:
        state = self.trainer.state()
        return {
            key.removeprefix("param."): values
            for key, values in state.items()
            if key.startswith("param.")
        }

    def out_of_time(self) -> bool:
        limit = self.settings.max_minutes
        return limit is not None and self.state.seconds > 60 * limit * _OVERTIME

    def save(self) -> None:
        if self.checkpoint is None:
            return
        arrays = {f"trainer.{k}": np.asarray(v) for k, v in self.trainer.state().items()}
        arrays.update({f"best.{name}": values for name, values in self.best.items()})
        progress = {
            "fingerprint": self.fingerprint,
            "stage": self.stage,
            "plan": self.plan.to_dict(),
            "state": dataclasses.asdict(self.state),
        }
        self.log.sync()
        self.checkpoint.save(arrays, progress)

    def restore(self) -> bool:
        """Continue from the checkpoint; False where there is none."""
        checkpoint = self.checkpoint
        found = None if checkpoint is None else checkpoint.load()
        if checkpoint is None or found is None:
            self.log.keep(lambda row: row.get("stage") != self.stage)
            return False
        arrays, progress = found
        checkpoint.check_same(progress, fingerprint=self.fingerprint, plan=self.plan.to_dict())
        self.state = _State.from_dict(progress["state"])
        state: dict[str, Any] = {
            name.removeprefix("trainer."): values
            for name, values in arrays.items()
            if name.startswith("trainer.")
        }
        state["step"] = int(np.ravel(state["step"])[0])
        self.trainer.load_state(state)
        self.best = {
            name.removeprefix("best."): values
            for name, values in arrays.items()
            if name.startswith("best.")
        }
        step = self.state.step
        epochs = len(self.state.history)
        self.log.keep(lambda row: _logged_before(row, self.stage, step, epochs))
        return True


def _logged_before(row: Mapping[str, Any], stage: str, step: int, epochs: int) -> bool:
    """Whether a row was written before a checkpoint at `step` with `epochs` ended."""
    if row.get("stage") != stage:
        return True
    if "grad_norm" in row:
        return int(row["step"]) <= step
    return int(row["epoch"]) <= epochs


def _better(score: float | None, best: float | None) -> bool:
    if score is None or best is None:
        return True
    if math.isnan(best):
        return not math.isnan(score)
    return score > best


def stored_plan(checkpoint: CheckpointFile) -> FitPlan | None:
    """The plan of the run that a checkpoint belongs to, if there is one.

    Raises:
        CheckpointError: the file is damaged.
    """
    found = checkpoint.progress()
    return None if found is None else FitPlan(**found["plan"])
