"""What AssayRegressor and AssayClassifier share: parameters, fitting, saving."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from moltide.errors import ConfigError
from moltide.estimators.inputs import as_sequences, validation_rows
from moltide.kinds import MOLECULE, PROTEIN, UNIT
from moltide.pairs import is_pair
from moltide.training.settings import TrainSettings

if TYPE_CHECKING:
    from moltide.assay_model import AssayModel, ModelSpec, Rows
    from moltide.encoder import Encoder


class AssayEstimator(BaseEstimator):  # type: ignore[misc]
    """Shared by `AssayRegressor` and `AssayClassifier`; see there."""

    def __init__(
        self,
        backbone: Any = "protein-mini",
        adapter: str = "lora",
        *,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: tuple[str, ...] = ("attn.q", "attn.k", "attn.v", "attn.out"),
        pool: str = "mean",
        head_hidden: int = 0,
        head_start: str = "auto",
        head_dropout: float = 0.0,
        loss: str = "auto",
        endpoint_weights: str = "auto",
        class_weight: str = "auto",
        lr: float | None = None,
        head_lr_scale: float | None = None,
        weight_decay: float = 0.01,
        epochs: int | None = None,
        batch_size: int = 32,
        warmup: float = 0.1,
        schedule: str = "cosine",
        clip_norm: float = 1.0,
        huber_delta: float = 1.0,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        max_minutes: float | None = None,
        max_tokens: int = 2048,
        recompute: bool | None = None,
        level: str = "sequence",
        device: str = "auto",
        dtype: str = "auto",
        seed: int = 0,
        augment: int = 0,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.targets = targets
        self.pool = pool
        self.head_hidden = head_hidden
        self.head_start = head_start
        self.head_dropout = head_dropout
        self.loss = loss
        self.endpoint_weights = endpoint_weights
        self.class_weight = class_weight
        self.lr = lr
        self.head_lr_scale = head_lr_scale
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.warmup = warmup
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.huber_delta = huber_delta
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.max_minutes = max_minutes
        self.max_tokens = max_tokens
        self.recompute = recompute
        self.level = level
        self.device = device
        self.dtype = dtype
        self.seed = seed
        self.augment = augment
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags

    def _settings(self) -> TrainSettings:
        names = {field.name for field in dataclasses.fields(TrainSettings)}
        values = {name: getattr(self, name) for name in names}
        values["targets"] = tuple(self.targets)
        settings = TrainSettings(**values)
        settings.check()
        if self.level not in ("sequence", "residue"):
            raise ConfigError(f"level is {self.level!r}; allowed: sequence, residue")
        fraction = self.validation_fraction
        if isinstance(fraction, bool) or not 0 <= float(fraction) < 1:
            raise ConfigError(
                f"validation_fraction is {fraction!r}; allowed: 0 (none) up to but not 1"
            )
        return settings

    def _open(self) -> Encoder:
        """The backbone, which may be changed."""
        from moltide.assay_model.backbone import open_backbone

        encoder = open_backbone(self.backbone, self.device, self.dtype)
        if self.level == "residue" and encoder.tokenizer.kind == MOLECULE:
            raise ConfigError("level is 'residue'; allowed of molecules: 'sequence'")
        return encoder

    def _fit(
        self,
        encoder: Encoder,
        rows: Rows,
        spec: ModelSpec,
        settings: TrainSettings,
        groups: Any,
        labels: npt.NDArray[np.float64] | None = None,
    ) -> None:
        from moltide.assay_model import fit_assay_model
        from moltide.training.progress import default_view

        unit = f"{UNIT[encoder.tokenizer.kind]}s"
        rows = dataclasses.replace(rows, names=[str(i) for i in range(len(rows))])
        paired = encoder.tokenizer.kind == PROTEIN and any(map(is_pair, rows.sequences))
        if paired and self.level == "residue":
            raise ConfigError("level is 'residue'; allowed of pairs of chains: 'sequence'")
        spec = dataclasses.replace(spec, paired=paired)
        train, valid = validation_rows(
            len(rows), float(self.validation_fraction), int(self.seed), groups, labels
        )
        self.model_, result = fit_assay_model(
            encoder,
            rows.take(train),
            rows.take(valid),
            spec,
            settings,
            view=default_view(spec.metric, int(self.verbose), unit=unit),
            by_name=isinstance(self.backbone, str | os.PathLike),
        )
        self.history_ = [dataclasses.asdict(epoch) for epoch in result.history]
        self.best_epoch_ = result.best_epoch
        self.best_score_ = result.best_score
        self.n_steps_ = result.steps

    def _sequences(self, X: Any) -> list[str]:
        check_is_fitted(self, "model_")
        kind, chemistry = self.model_.encoder.tokenizer.kind, self.model_.chemistry
        sequences = as_sequences(X, kind, chemistry)
        self.model_.check_pairs(sequences)
        return sequences

    def in_domain(self, X: Any) -> npt.NDArray[np.bool_]:
        """(n,) True where a sequence resembles the training sequences; `domain_notes` says why
        not."""
        return np.array([not note for note in self.domain_notes(X)], dtype=bool)

    def domain_notes(self, X: Any) -> list[str]:
        """For each sequence "", or what sets it apart from the training sequences.

        Raises:
            ConfigError: a per-residue model.
        """
        sequences = self._sequences(X)
        if self.model_.domain is None:
            raise ConfigError("a per-residue model keeps no training sequences to compare with")
        return list(self.model_.domain.check(sequences))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model; `moltide.load_assay_model(folder)` reads it back.

        Raises:
            NotFittedError: not fitted.
            ConfigError: the folder holds other files, and no model that `save` wrote.
            OSError: folder not writable, disk full; no file is left half written.
        """
        from moltide.assay_model.files import save

        check_is_fitted(self, "model_")
        save(self.model_, folder, {"estimator": self._document()})

    def _document(self) -> dict[str, Any]:
        """Parameters and fitted attributes as plain JSON types."""
        parameters = dict(self.get_params())
        parameters["targets"] = list(parameters["targets"])
        named = isinstance(self.backbone, str | os.PathLike)
        parameters["backbone"] = os.fspath(self.backbone) if named else ""
        for name, value in parameters.items():
            if isinstance(value, np.generic):  # from GridSearchCV
                parameters[name] = value.item()
        # A model of `moltide finetune` has the first two alone.
        fitted: dict[str, Any] = {"flat": self._flat_, "n_targets_": self.n_targets_}
        for name in ("history_", "best_epoch_", "best_score_", "n_steps_"):
            if hasattr(self, name):
                fitted[name] = getattr(self, name)
        if hasattr(self, "classes_"):
            several = isinstance(self.classes_, list)
            listed = self.classes_ if several else [self.classes_]
            plain = [one.tolist() for one in listed]
            fitted["classes_"] = plain if several else plain[0]
        return {"parameters": parameters, "fitted": fitted}

    def _adopt(self, model: AssayModel, fitted: dict[str, Any]) -> None:
        """Take a loaded model and what was saved beside it."""
        self.model_ = model
        for name, value in fitted.items():
            setattr(self, name, value)
