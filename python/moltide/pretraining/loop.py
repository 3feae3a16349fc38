"""The training loop: steps, validation, checkpoints, exact resume."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moltide.errors import ConfigError
from moltide.pretraining.order import Batch, Order, batches
from moltide.pretraining.plan import Plan
from moltide.tokenizer import FRAME
from moltide.training.checkpoint import CheckpointFile
from moltide.training.interrupt import Interrupted, StopRequest
from moltide.training.log import JsonLog
from moltide.training.progress import ProgressView
from moltide.training.result import Epoch

# Training may outlast a planned time by this factor before it is cut short.
_OVERTIME = 1.15
# Steps in one row of the log.
_LOGGED = 10


@dataclass
class Progress:
    """Where a run stands: everything but the arrays that a checkpoint holds.

    `epoch` and `window` say what comes next in the order of the data; the sums are of the steps
    since the last row of the log (`row_`) and since the last validation.
    """

    step: int = 0
    epoch: int = 0
    window: int = 0
    tokens: int = 0
    residues: int = 0
    seconds: float = 0.0
    row_loss: float = 0.0
    row_steps: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    seconds_then: float = 0.0
    residues_then: int = 0
    best_step: int = 0
    best_perplexity: float | None = None
    stopped: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """Of a checkpoint, which an earlier version may have written with more."""
        known = {one.name for one in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(kw_only=True)
class Setup:
    """What `train` works with.

    Attributes:
        trainer: the engine's. plan: of the run. max_minutes: as asked for, or None.
        dataset: what the trainer is given of a batch.
        evaluate: validation perplexity of the present weights; also: other scores for the log.
        keep: called with the perplexity of weights that are better than all before.
        checkpoint: where the state is kept; save_every: steps between checkpoints (None: by time).
        event: told (name, value, step) of what is logged.
    """

    trainer: Any
    order: Order
    dataset: Callable[[Batch], tuple[Any, ...]]
    plan: Plan
    batch_tokens: int
    max_minutes: float | None
    evaluate: Callable[[], float]
    also: Callable[[], dict[str, float]]
    keep: Callable[[], None]
    checkpoint: CheckpointFile
    save_every: int | None
    fingerprint: str
    log: JsonLog
    view: ProgressView
    stop: StopRequest
    event: Callable[[str, float, int], None]


def train(setup: Setup) -> Progress:
    """Train to the end of the plan. The weights depend on the trainer's start, the data and the
    plan alone: a run that goes on from its checkpoint ends with the bits of one never stopped.

    Raises:
        Interrupted: on request, after the checkpoint is on disk.
        CheckpointError: the checkpoint is damaged or belongs to another run.
        ConfigError: loss or gradients are not finite.
        OSError: the checkpoint cannot be written.
    """
    state = _restore(setup)
    plan, view = setup.plan, setup.view
    view.begin(plan.steps, state.step, [_shown(row) for row in state.history])
    try:
        _steps(setup, state)
    finally:
        view.end()
    return state


def _steps(setup: Setup, state: Progress) -> None:
    plan = setup.plan
    stream = batches(setup.order, setup.batch_tokens, (state.epoch, state.window))
    while not state.stopped:
        if setup.stop:
            _save(setup, state)
            raise Interrupted(setup.stop.signum or signal.SIGINT)
        start = time.perf_counter()
        batch = next(stream)
        setup.trainer.set_dataset(*setup.dataset(batch))
        try:
            rows = np.arange(len(batch.begins), dtype=np.int64)
            result: dict[str, Any] = setup.trainer.step(rows)
        except ValueError as error:
            raise ConfigError(f"training diverged: {error}") from error
        result["residues"] = result["tokens"] - FRAME * result["sequences"]
        state.step += 1
        state.epoch, state.window = batch.place
        state.tokens += result["tokens"]
        state.residues += result["residues"]
        state.seconds += time.perf_counter() - start
        if state.step >= plan.steps:
            state.stopped = "finished"
        elif _out_of_time(setup, state):
            state.stopped = "time"
        _log(setup, state, result, batch.epoch)
        setup.view.step(result, state.seconds)
        if state.step % plan.valid_every == 0 or state.stopped:
            _validate(setup, state, batch.epoch)
        due = setup.checkpoint.is_due()
        if setup.save_every is not None:
            due = state.step % setup.save_every == 0
        if due or state.stopped:
            _save(setup, state)


def _out_of_time(setup: Setup, state: Progress) -> bool:
    limit = setup.max_minutes
    return limit is not None and state.seconds > 60 * limit * _OVERTIME


def _log(setup: Setup, state: Progress, result: Mapping[str, Any], epoch: int) -> None:
    state.row_loss += result["loss"]
    state.row_steps += 1
    state.loss_sum += result["loss"]
    state.loss_steps += 1
    if state.step % _LOGGED and not state.stopped:
        return
    loss = state.row_loss / state.row_steps
    row = {
        "step": state.step,
        "epoch": epoch + 1,
        "loss": loss,
        "grad_norm": result["grad_norm"],
        "lr": result["lr"],
        "tokens": state.tokens,
    }
    state.row_loss, state.row_steps = 0.0, 0
    setup.log.write(row)
    for name in ("loss", "grad_norm", "lr"):
        setup.event(f"train/{name}", float(row[name]), state.step)


def _validate(setup: Setup, state: Progress, epoch: int) -> None:
    start = time.perf_counter()
    value = setup.evaluate()
    spent = max(1e-9, state.seconds - state.seconds_then)
    row = {
        "step": state.step,
        "epoch": epoch + 1,
        "train_loss": state.loss_sum / max(1, state.loss_steps),
        "valid_perplexity": value,
        **setup.also(),
        "tokens": state.tokens,
        "residues_per_second": round((state.residues - state.residues_then) / spent, 1),
    }
    state.loss_sum, state.loss_steps = 0.0, 0
    better = state.best_perplexity is None or value < state.best_perplexity
    if better:
        state.best_step, state.best_perplexity = state.step, value
        setup.keep()
    state.seconds += time.perf_counter() - start
    state.seconds_then, state.residues_then = state.seconds, state.residues
    row["seconds"] = round(state.seconds, 2)
    state.history.append(row)
    setup.log.write(row)
    setup.event("valid/perplexity", value, state.step)
    setup.view.epoch(_shown(row), better)


def _shown(row: Mapping[str, Any]) -> Epoch:
    """A validation as the views of training know it."""
    return Epoch(
        int(row["epoch"]),
        int(row["step"]),
        float(row["train_loss"]),
        float(row["valid_perplexity"]),
        float(row["residues_per_second"]),
    )


def _save(setup: Setup, state: Progress) -> None:
    arrays = {name: np.asarray(value) for name, value in setup.trainer.state().items()}
    progress = {
        "fingerprint": setup.fingerprint,
        "plan": setup.plan.to_dict(),
        "state": dataclasses.asdict(state),
    }
    setup.log.sync()
    setup.checkpoint.save(arrays, progress)


def _restore(setup: Setup) -> Progress:
    found = setup.checkpoint.load()
    if found is None:
        setup.log.keep(lambda row: False)
        return Progress()
    arrays, progress = found
    same = {"fingerprint": setup.fingerprint, "plan": setup.plan.to_dict()}
    setup.checkpoint.check_same(progress, **same)
    state = Progress.from_dict(progress["state"])
    values: dict[str, Any] = dict(arrays)
    values["step"] = int(np.ravel(values["step"])[0])
    setup.trainer.load_state(values)
    setup.log.keep(lambda row: int(row.get("step", 0)) <= state.step)
    return state


def stored_plan(checkpoint: CheckpointFile) -> Plan | None:
    """The plan of the run that a checkpoint belongs to, if there is one.

    Raises:
        CheckpointError: the file is damaged.
    """
    found = checkpoint.progress()
    return None if found is None else Plan(**found["plan"])
