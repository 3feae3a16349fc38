"""`fit_assay_model`: from labelled sequences to an AssayModel."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.assay_model.backbone import backbone_reference
from moltide.assay_model.domain import Domain
from moltide.assay_model.head_start import start_head
from moltide.assay_model.model import AssayModel
from moltide.assay_model.spec import FloatArray, ModelSpec, TargetScaling
from moltide.assay_model.uncertainty import Uncertainty, fit_temperature
from moltide.assay_model.validation import score
from moltide.errors import DataError
from moltide.training import (
    CheckpointFile,
    FitPlan,
    FitResult,
    StopRequest,
    TrainingData,
    TrainSettings,
    fit,
    make_plan,
)
from moltide.training.data import tokenize
from moltide.training.log import JsonLog
from moltide.training.loop import stored_plan
from moltide.training.plan import time_steps
from moltide.training.progress import ProgressView

if TYPE_CHECKING:
    from moltide.encoder import Encoder

ADAPTER = "default"
# Validation rows looked at after each epoch, and rows that uncertainty is learned from.
_EPOCH_ROWS, _UNCERTAINTY_ROWS = 2000, 10_000


@dataclass
class Rows:
    """Labelled sequences.

    Attributes:
        sequences: n residue strings.
        targets: (n, k) float64 with NaN = not measured, class indices for classification; or for
            residues one (L_i, k) array a sequence.
        censor: (n, k) int8: -1 the true value is below, +1 above, 0 exact; or None.
        weights: (n,) or None.
    """

    sequences: list[str]
    targets: FloatArray | list[FloatArray]
    censor: npt.NDArray[np.int8] | None = None
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def flat_targets(self) -> FloatArray:
        """(n, k), or (all residues, k)."""
        if isinstance(self.targets, list):
            return np.concatenate([np.asarray(t, np.float64) for t in self.targets])
        return self.targets

    def take(self, index: npt.ArrayLike) -> Rows:
        """The rows at these integers, in that order."""
        chosen = np.asarray(index, np.int64)
        targets: Any = self.targets
        return Rows(
            [self.sequences[i] for i in chosen],
            [targets[i] for i in chosen] if isinstance(targets, list) else targets[chosen],
            None if self.censor is None else self.censor[chosen],
            None if self.weights is None else self.weights[chosen],
        )

    def fingerprint(self) -> str:
        """SHA-256 over sequences, targets, bounds and weights."""
        digest = hashlib.sha256("\n".join(self.sequences).encode())
        for array in (self.flat_targets(), self.censor, self.weights):
            digest.update(b"|" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def censored(self) -> bool:
        return self.censor is not None and bool(np.any(self.censor))


@dataclass
class Preparation:
    """Encoder with adapter and head in place, data tokenized, before the first step."""

    encoder: Encoder
    spec: ModelSpec
    settings: TrainSettings
    scaling: TargetScaling
    data: TrainingData
    backbone: dict[str, Any]

    @property
    def adapter(self) -> str | None:
        return ADAPTER if self.settings.adapter == "lora" else None

    def trainer(self, plan: FitPlan | None = None) -> Any:
        """An engine trainer with the data; `plan` sets the learning rate's schedule."""
        from moltide import _engine

        s = self.settings
        steps = plan.steps if plan is not None else 1
        config: dict[str, Any] = {
            "mode": s.adapter,
            "objective": s.loss,
            "lr": float(s.lr or 0.0),
            "head_lr_scale": float(s.head_lr_scale or 1.0),
            "weight_decay": float(s.weight_decay),
            "clip_norm": float(s.clip_norm),
            "schedule": s.schedule,
            "warmup_steps": plan.warmup_steps if plan is not None else 0,
            "total_steps": steps,
            "seed": int(s.seed),
            "max_tokens": int(s.max_tokens),
            "recompute": bool(s.recompute),
            "huber_delta": float(s.huber_delta),
        }
        if s.adapter == "lora":
            config["adapter"] = ADAPTER
        trainer = _engine.Trainer(self.encoder.model, config)
        data = self.data
        trainer.set_dataset(data.tokens, data.offsets, data.targets, data.censor, data.weights)
        return trainer


def prepare(encoder: Encoder, train: Rows, spec: ModelSpec, settings: TrainSettings) -> Preparation:
    """Check settings and rows, put adapter and head over `encoder` (which is changed).

    Raises:
        ConfigError: a setting outside what is allowed, or a loss that does not suit the task.
        DataError: no rows, or an empty or illegal sequence.
    """
    if not len(train):
        raise DataError("no training rows")
    settings = settings.resolved(
        spec.task,
        len(train),
        censored=train.censored,
        n_classes=len(spec.classes),
        level=spec.level,
    )
    backbone = backbone_reference(encoder)
    tokens, offsets = tokenize(encoder, train.sequences)
    flat = train.flat_targets()
    scaling = (
        TargetScaling.fit(flat) if spec.task == "regression" else TargetScaling.none(flat.shape[1])
    )
    targets = scaling.forward(flat)
    if spec.level == "residue":
        targets = _with_frames(targets, offsets, train.sequences)
    # The engine takes bounds only with a loss that reads them.
    censor = train.censor if settings.loss in ("tobit", "ranking") and train.censored else None
    data = TrainingData(
        tokens,
        offsets,
        np.ascontiguousarray(targets),
        censor,
        None if train.weights is None else train.weights.astype(np.float32),
    )
    if settings.adapter == "lora":
        encoder.add_adapter(
            ADAPTER,
            int(settings.rank),
            float(settings.alpha),
            float(settings.dropout),
            settings.targets,
            int(settings.seed),
        )
    head = {
        "pool": "none" if spec.level == "residue" else settings.pool,
        "hidden": int(settings.head_hidden),
        "outputs": spec.outputs,
        "dropout": float(settings.head_dropout),
        "log_sigma": settings.loss == "tobit",
    }
    encoder.set_head(head, int(settings.seed))
    return Preparation(encoder, spec, settings, scaling, data, backbone)


def _with_frames(
    targets: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64], sequences: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Targets of residues spread over tokens; <cls> and <eos> have none."""
    if int(offsets[-1]) != len(targets) + 2 * len(sequences):
        lengths = np.diff(offsets) - 2
        for i, text in enumerate(sequences):
            if len(text) != lengths[i]:
                raise DataError(
                    f"sequence {i}: {len(text)} characters are {lengths[i]} tokens; per-residue "
                    "targets need one token a residue"
                )
    spread = np.full((int(offsets[-1]), targets.shape[1]), np.nan, np.float32)
    inside = np.ones(len(spread), dtype=bool)
    inside[offsets[:-1]] = False
    inside[offsets[1:] - 1] = False
    spread[inside] = targets
    return spread


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
    from moltide.assay_model.memory import settle_memory

    ready = settle_memory(prepare(encoder, train, spec, settings), say)
    plan = stored_plan(checkpoint) if checkpoint is not None else None
    if plan is None:
        if ready.settings.head_start == "ridge":
            start_head(ready, train)
        plan = _plan(ready)
    if plan.why == "time" and say is not None:
        say(f"{plan.steps:,} steps ({plan.epochs} epochs) fit into {settings.max_minutes:g} min")
    trainer = ready.trainer(plan)
    check = None if valid is None or not len(valid) else _evaluator(ready, valid)
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
    )
    if finish:
        _finish(model, train, valid, int(ready.settings.seed), numbering)
    return model, result


def _plan(ready: Preparation) -> FitPlan:
    def seconds() -> float:
        trainer = ready.trainer()
        return time_steps(trainer, len(ready.data), ready.settings)

    return make_plan(len(ready.data), ready.settings, seconds)


def _evaluator(ready: Preparation, valid: Rows) -> Callable[[], float]:
    """The validation metric over at most 2,000 rows, the same ones every time."""
    shown = valid
    if len(valid) > _EPOCH_ROWS:
        rng = np.random.default_rng(int(ready.settings.seed))
        shown = valid.take(np.sort(rng.choice(len(valid), _EPOCH_ROWS, replace=False)))
    targets = shown.flat_targets()

    def evaluate() -> float:
        outputs: Any = ready.encoder.predict(shown.sequences, adapter=ready.adapter)
        if isinstance(outputs, list):
            outputs = np.concatenate(outputs)
        return score(ready.spec, np.asarray(outputs, np.float64), targets)

    return evaluate


def _finish(model: AssayModel, train: Rows, valid: Rows | None, seed: int, numbering: int) -> None:
    """Domain, and what the validation rows say about errors."""
    if model.spec.level != "sequence":
        return
    model.domain = Domain.fit(train.sequences, seed, numbering)
    if valid is None or not len(valid):
        return
    rng = np.random.default_rng(seed)
    known, held = (_at_most(part, _UNCERTAINTY_ROWS, rng) for part in (train, valid))
    targets = held.flat_targets()
    outputs, representation = model.outputs_and_representation(held.sequences)
    raw = outputs.astype(np.float64)
    if model.spec.task == "classification":
        _fit_temperatures(model, raw, targets)
        return
    residuals = model.scaling.forward(targets).astype(np.float64) - raw
    if held.censor is not None:
        residuals[held.censor != 0] = np.nan
    model.uncertainty = Uncertainty.fit(model.represent(known.sequences), representation, residuals)


def _fit_temperatures(model: AssayModel, logits: FloatArray, targets: FloatArray) -> None:
    for j in range(targets.shape[1]):
        known = ~np.isnan(targets[:, j])
        column = logits[known, j] if model.spec.binary else logits[known]
        model.temperature[j] = 1.0 / fit_temperature(column, targets[known, j], model.spec.binary)


def _at_most(rows: Rows, n: int, rng: np.random.Generator) -> Rows:
    if len(rows) <= n:
        return rows
    return rows.take(np.sort(rng.choice(len(rows), n, replace=False)))


def with_recompute(ready: Preparation, recompute: bool) -> Preparation:
    """The same preparation with recomputation on or off."""
    settings = dataclasses.replace(ready.settings, recompute=recompute)
    return dataclasses.replace(ready, settings=settings)
