"""From encoder, rows and settings to what the engine's trainer takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.assay_model.backbone import backbone_reference
from moltide.assay_model.model import ADAPTER
from moltide.assay_model.rows import Rows
from moltide.assay_model.spec import ModelSpec, TargetScaling
from moltide.assay_model.spellings import spellings
from moltide.assay_model.weighting import Weighting
from moltide.conformers.places import coordinates_of
from moltide.errors import DataError
from moltide.tasks import MIXED
from moltide.tokenizer import FRAME
from moltide.training import FitPlan, TrainingData, TrainSettings
from moltide.training.data import tokenize

if TYPE_CHECKING:
    from moltide.encoder import Encoder


@dataclass
class Preparation:
    """Encoder with adapter and head in place, data tokenized, before the first step."""

    encoder: Encoder
    spec: ModelSpec
    settings: TrainSettings
    scaling: TargetScaling
    data: TrainingData
    backbone: dict[str, Any]
    weighting: Weighting
    # Losses of the outputs, where these are not all of settings.loss or values weigh differently.
    column_losses: list[str] | None = None
    # What the backward pass computes again beside norms and activations, to the same bits: "none",
    # "mlp" (what goes into its activation) or "blocks" (all but their inputs).
    recompute: str = "none"

    @property
    def rows(self) -> int:
        """Training rows, of which each stands in the data in all its spellings."""
        return len(self.data) // (self.settings.augment + 1)

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
            "objective": s.loss if self.column_losses is None else "mixed",
            "lr": float(s.lr or 0.0),
            "head_lr_scale": float(s.head_lr_scale or 1.0),
            "weight_decay": float(s.weight_decay),
            "clip_norm": float(s.clip_norm),
            "schedule": s.schedule,
            "warmup_steps": plan.warmup_steps if plan is not None else 0,
            "total_steps": steps,
            "seed": int(s.seed),
            "max_tokens": int(s.max_tokens),
            "recompute": self.recompute,
            "huber_delta": float(s.huber_delta),
        }
        if self.column_losses is not None:
            config["column_losses"] = self.column_losses
        if s.adapter == "lora":
            config["adapter"] = ADAPTER
        trainer = _engine.Trainer(self.encoder.model, config)
        data = self.data
        trainer.set_dataset(
            data.tokens,
            data.offsets,
            data.targets,
            data.censor,
            data.weights,
            coordinates_of(data.tokens),
        )
        return trainer


def prepare(encoder: Encoder, train: Rows, spec: ModelSpec, settings: TrainSettings) -> Preparation:
    """Check settings and rows, put adapter and head over `encoder` (which is changed).

    Raises:
        ConfigError: a setting outside what is allowed, or a loss that does not suit the task.
        DataError: no rows, a target of several without a value, or an empty or illegal sequence.
    """
    if not len(train):
        raise DataError("no training rows")
    settings = settings.resolved(
        spec.task,
        len(train),
        censored=train.censored,
        n_classes=max(len(spec.classes_of(j)) for j in range(len(spec.target_names))),
        n_targets=len(spec.target_names),
        level=spec.level,
        kind=encoder.tokenizer.kind,
    )
    backbone = backbone_reference(encoder)
    texts, copies = train.sequences, settings.augment + 1
    if settings.augment:
        texts = [*texts, *spellings(encoder, texts, settings.augment, int(settings.seed))]
    tokens, offsets = tokenize(encoder, texts)
    flat = train.flat_targets()
    scaling = TargetScaling.fit(flat, spec.of_numbers)
    targets = scaling.forward(flat)
    of_rows = train.weights if spec.level == "sequence" else None
    weighting = Weighting.fit(spec, settings, flat, of_rows)
    if len(spec.target_names) > 1 and not weighting.counts.all():
        empty = spec.target_names[int(weighting.counts.argmin())]
        raise DataError(f"target {empty!r} has no value among {len(train):,} training rows")
    weights: npt.NDArray[Any] | None = train.weights
    losses = None
    if spec.level == "residue" or (weighting.alike and spec.task != MIXED):
        pass
    elif settings.loss == "cross_entropy":
        balance = weighting.of_classes(0, flat[:, 0])
        weights = balance if weights is None else weights * balance
    else:
        weights = weighting.terms(flat, train.weights)
        numbers = set(spec.of_numbers)
        losses = [settings.loss if j in numbers else "bce" for j in range(spec.outputs)]
    if spec.level == "residue":
        targets = _with_frames(targets, offsets, train.sequences)
    # The engine takes bounds only with a loss that reads them.
    censor = train.censor if settings.loss in ("tobit", "ranking") and train.censored else None
    data = TrainingData(
        tokens,
        offsets,
        np.ascontiguousarray(_copied(targets, copies)),
        None if censor is None else _copied(censor, copies),
        None if weights is None else np.ascontiguousarray(_copied(weights, copies), np.float32),
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
    return Preparation(encoder, spec, settings, scaling, data, backbone, weighting, losses)


def _copied(rows: npt.NDArray[Any], copies: int) -> npt.NDArray[Any]:
    """Rows (n, ...) one after the other `copies` times, as spellings of their molecules lie."""
    return rows if copies == 1 else np.concatenate([rows] * copies)


def _with_frames(
    targets: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64], sequences: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Targets of residues spread over tokens; <cls> and <eos> have none."""
    if int(offsets[-1]) != len(targets) + FRAME * len(sequences):
        lengths = np.diff(offsets) - FRAME
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
