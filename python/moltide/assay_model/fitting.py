"""`fit_assay_model`: from labelled sequences to an AssayModel."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.assay_model.class_sets import ClassSets
from moltide.assay_model.distribution import quantiles
from moltide.assay_model.domain import fit_domain
from moltide.assay_model.head_start import start_head
from moltide.assay_model.memory import settle_memory
from moltide.assay_model.model import AssayModel
from moltide.assay_model.pace import START_ROWS, UNCERTAINTY_ROWS, scored_rows, seconds_a_pass
from moltide.assay_model.preparation import Preparation, prepare
from moltide.assay_model.recalibration import Recalibration
from moltide.assay_model.rows import Rows
from moltide.assay_model.spec import FloatArray, ModelSpec
from moltide.assay_model.target_domains import TargetDomains
from moltide.assay_model.uncertainty import Uncertainty, fit_temperature
from moltide.assay_model.validation import score
from moltide.training import (
    CheckpointFile,
    FitPlan,
    FitResult,
    StopRequest,
    TrainSettings,
    fit,
    make_plan,
)
from moltide.training.log import JsonLog
from moltide.training.loop import stored_plan
from moltide.training.plan import time_steps
from moltide.training.progress import ProgressView, clock
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.encoder import Encoder


def fit_assay_model(
    encoder: Encoder,
    train: Rows,
    valid: Rows | None,
    spec: ModelSpec,
    settings: TrainSettings,
    *,
    numbering: int = 1,
    checkpoint: CheckpointFile | None = None,
    fingerprint: str = "",
    log: JsonLog | None = None,
    stage: str = "train",
    view: ProgressView | None = None,
    stop: StopRequest | None = None,
    say: Callable[[str], None] | None = None,
    finish: bool = True,
    by_name: bool = True,
) -> tuple[AssayModel, FitResult]:
    """Fine-tune `encoder`, which becomes the model's own, on `train`; `valid` chooses the epoch.

    Args:
        numbering: number of the first residue in what the model says about positions.
        checkpoint, fingerprint, log, stage, view, stop: see `training.fit`.
        say: told in a sentence what was decided on the way (recomputation, steps).
        finish: False leaves uncertainty and domain out (for a model used once and dropped).
        by_name: `encoder` was loaded by its name and not changed, so that a saved model can load
            it again; otherwise it is saved with the model.

    Raises:
        ConfigError, DataError: see `prepare`.
        MemoryPlanError: a step does not fit into the memory that is free.
        Interrupted: on request; the checkpoint is on disk.
    """
    ready = settle_memory(prepare(encoder, train, spec, settings), say)
    plan = stored_plan(checkpoint) if checkpoint is not None else None
    if plan is None:
        plan = _plan(ready, train)
        if ready.settings.head_start == "ridge":
            start_head(ready, train, START_ROWS * plan.scored)
    if plan.why == "time" and say is not None:
        limit = clock(60 * float(settings.max_minutes or 0))
        epochs = plural(plan.epochs, "epoch")
        say(f"{plan.steps:,} steps ({epochs}) planned, for {limit} of training")
    trainer = ready.trainer(plan)
    check = None if valid is None or not len(valid) else _evaluator(ready, valid, plan.scored)
    result = fit(
        trainer,
        len(train),
        ready.settings,
        plan,
        set_parameter=encoder.model.set_parameter,
        evaluate=check,
        checkpoint=checkpoint,
        fingerprint=fingerprint,
        log=log,
        stage=stage,
        view=view,
        stop=stop,
    )
    del trainer
    model = AssayModel(
        encoder,
        spec,
        ready.settings.adapter,
        ready.adapter,
        ready.scaling,
        np.ones(len(spec.target_names)),
        backbone={**ready.backbone, "by_name": by_name},
        shift=ready.weighting.shift if ready.weighting.shift.any() else None,
    )
    seed, most = int(ready.settings.seed), UNCERTAINTY_ROWS * plan.scored
    held = None if valid is None or not len(valid) else _hear(model, _at_most(valid, most, seed))
    if held is not None and spec.of_numbers:
        targets = model.scaling.forward(held.rows.flat_targets()).astype(np.float64)
        model.recalibration = Recalibration.fit(
            held.outputs,
            targets,
            held.rows.censor,
            spec.of_numbers,
            ranks_only=ready.settings.loss == "ranking",
        )
    if finish and spec.level == "sequence":
        model.domain = fit_domain(encoder.tokenizer.kind, train, seed, numbering)
        model.target_domains = TargetDomains.fit(model.domain, train, seed, numbering)
        model.distribution = quantiles(train.flat_targets(), spec.of_numbers)
        if held is not None:
            _fit_errors(model, _at_most(train, most, seed), held)
    return model, result


def _plan(ready: Preparation, train: Rows) -> FitPlan:
    """The plan; with max_minutes its steps leave time for the head's start and the scoring."""
    settings, n = ready.settings, ready.rows
    if settings.max_minutes is None:
        return make_plan(n, settings)
    seconds = 60 * float(settings.max_minutes)
    a_pass = seconds_a_pass(ready.encoder, train.sequences, int(settings.seed))
    scored = scored_rows(seconds, a_pass)
    a_scoring = a_pass * scored
    # Of the start, and of an epoch that is cut off.
    for_steps = max(0.1 * seconds, seconds - (START_ROWS + 2) * a_scoring)

    def a_step() -> float:
        an_epoch = math.ceil(n / settings.batch_size)
        return time_steps(ready.trainer(), n, settings) + a_scoring / an_epoch

    plan = make_plan(n, dataclasses.replace(settings, max_minutes=for_steps / 60), a_step)
    return dataclasses.replace(plan, scored=scored)


def _evaluator(ready: Preparation, valid: Rows, most: int) -> Callable[[], float]:
    """The validation metric over at most `most` rows, the same ones every time."""
    shown = _at_most(valid, most, int(ready.settings.seed))
    targets = shown.flat_targets()

    def evaluate() -> float:
        outputs: Any = ready.encoder.predict(shown.sequences, adapter=ready.adapter)
        if isinstance(outputs, list):
            outputs = np.concatenate(outputs)
        return score(ready.spec, np.asarray(outputs, np.float64), targets)

    return evaluate


@dataclasses.dataclass(frozen=True)
class _Heard:
    """What the head says of validation rows: `outputs` (m, outputs), or of all residues together;
    `representation` (m, C) of sequences."""

    rows: Rows
    outputs: FloatArray
    representation: npt.NDArray[np.float32] | None = None


def _hear(model: AssayModel, rows: Rows) -> _Heard:
    if model.spec.level == "sequence":
        outputs, representation = model.outputs_and_representation(rows.sequences)
        return _Heard(rows, outputs.astype(np.float64), representation)
    of_residues = model.outputs(rows.sequences)
    return _Heard(rows, np.concatenate(list(of_residues)).astype(np.float64))


def _fit_errors(model: AssayModel, train: Rows, held: _Heard) -> None:
    """How far predictions may be off, by the validation rows and the representation of `train`."""
    targets = held.rows.flat_targets()
    if model.spec.of_classes:
        _fit_temperatures(model, held.outputs, targets)
        model.sets = ClassSets.fit(model.probabilities(held.outputs), targets)
    if not model.spec.of_numbers:
        return
    residuals = model.scaling.forward(targets) - model.standardised(held.outputs)
    residuals[:, model.spec.of_classes] = np.nan
    if held.rows.censor is not None:
        residuals[held.rows.censor != 0] = np.nan
    assert held.representation is not None
    model.uncertainty = Uncertainty.fit(
        model.represent(train.sequences), held.representation, residuals
    )


def _fit_temperatures(model: AssayModel, logits: FloatArray, targets: FloatArray) -> None:
    if model.shift is not None:
        logits = logits - model.shift
    for j in model.spec.of_classes:
        known = ~np.isnan(targets[:, j])
        column = logits[known, j] if model.spec.binary else logits[known]
        model.temperature[j] = 1.0 / fit_temperature(column, targets[known, j], model.spec.binary)


def _at_most(rows: Rows, n: int, seed: int) -> Rows:
    if len(rows) <= n:
        return rows
    rng = np.random.default_rng(seed)
    return rows.take(np.sort(rng.choice(len(rows), n, replace=False)))
