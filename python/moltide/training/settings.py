"""What can be set about fine-tuning, its checks, and the values that "auto" stands for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moltide.errors import ConfigError
from moltide.kinds import MOLECULE, PROTEIN
from moltide.options import check_choice, check_integer, check_number, option
from moltide.tasks import CLASSIFICATION, MIXED, REGRESSION

ADAPTERS = ("lora", "full", "head")
LOSSES = ("auto", "mse", "huber", "ranking", "tobit", "bce", "cross_entropy")
REGRESSION_LOSSES = ("mse", "huber", "ranking", "tobit")
SCHEDULES = ("cosine", "linear", "constant")
DEFAULT_TARGETS = ("attn.q", "attn.k", "attn.v", "attn.out")

HEAD_STARTS = ("auto", "ridge", "random")
ENDPOINT_WEIGHTS = ("auto", "root", "equal", "rows")
CLASS_WEIGHTS = ("auto", "balanced", "none")

# Peak learning rates. A head that starts at the ridge solution has large weights, through which
# small changes of the encoder go far.
_LEARNING_RATE = {
    "random": {"lora": 1e-3, "full": 2e-4, "head": 3e-3},
    "ridge": {"lora": 5e-4, "full": 1e-4, "head": 3e-3},
}
# Sequences seen in all epochs together, the number of epochs kept within bounds.
_VISITS, _FEWEST_EPOCHS, _MOST_EPOCHS = 60_000, 5, 40


@dataclass(frozen=True)
class TrainSettings:
    """Settings of one fine-tuning run; None and "auto" are filled in by `resolved`.

    Attributes:
        adapter: "lora" (backbone frozen, low-rank updates), "full", or "head" (backbone frozen).
        rank, alpha, dropout, targets: of the LoRA adapter.
        pool: what the head reads: "mean" over residues, or "cls".
        head_hidden: width of a tanh layer in the head; 0: the head is linear.
        head_start: "ridge": a linear head starts at the ridge solution on the frozen backbone
            (logistic for classes); "random": near zero; "auto": "ridge" where it is possible, but
            "random" for molecules with a backbone that trains too.
        head_dropout: dropout before each linear map of the head.
        loss: "auto": tobit with censored labels, else mse; bce for two classes, else
            cross_entropy. With targets of both kinds it is that of the numbers.
        endpoint_weights: of several targets: "root": a value weighs one over the square root of
            its target's number of values; "equal": one over that number; "rows": all alike;
            "auto": "root" (with ranking "rows").
        class_weight: "balanced": values of a class weigh one over its number, at most 20 to 1, and
            probabilities are corrected for it; "none"; "auto": "balanced" with several targets.
        lr: peak learning rate. head_lr_scale: the head's, relative to it.
        weight_decay: decoupled, not on norms and biases.
        epochs: passes over the training rows; None: by their number.
        batch_size: sequences in one update.
        warmup: share of the steps over which the rate rises. schedule: how it falls afterwards.
        clip_norm: largest global gradient norm; 0: no clipping.
        huber_delta: in units of the target's standard deviation.
        patience: epochs without a better validation metric after which training ends; None: by
            the number of epochs.
        max_minutes: time for training; the number of steps is planned to fit.
        max_tokens: tokens that pass through the engine at once (a longer sequence passes alone);
            memory depends on it.
        recompute: recompute blocks in the backward pass (same bits, less memory); None: if needed,
            and a part of each block where all weights train in float32 in one pass.
        seed: fixes everything random.
        augment: of molecules as SMILES, random spellings of each beside the canonical one; training
            sees another in each epoch, and everything else the canonical one.
    """

    adapter: str = "lora"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = DEFAULT_TARGETS
    pool: str = "mean"
    head_hidden: int = 0
    head_start: str = "auto"
    head_dropout: float = 0.0
    loss: str = "auto"
    endpoint_weights: str = "auto"
    class_weight: str = "auto"
    lr: float | None = None
    head_lr_scale: float | None = None
    weight_decay: float = 0.01
    epochs: int | None = None
    batch_size: int = 32
    warmup: float = 0.1
    schedule: str = "cosine"
    clip_norm: float = 1.0
    huber_delta: float = 1.0
    patience: int | None = None
    max_minutes: float | None = None
    max_tokens: int = 2048
    recompute: bool | None = None
    seed: int = 0
    augment: int = 0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Settings out of a JSON object.

        Raises:
            ConfigError: an unknown name.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ConfigError(
                f"unknown setting {unknown[0]!r}; allowed: {', '.join(sorted(names))}"
            )
        known = dict(values)
        if "targets" in known:
            known["targets"] = tuple(known["targets"])
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        values = dataclasses.asdict(self)
        values["targets"] = list(self.targets)
        if not self.augment:  # runs of earlier versions do not name it
            del values["augment"]
        return values

    def check(self) -> None:
        """Refuse values outside what is allowed.

        Raises:
            ConfigError: naming the setting, its value, and what is allowed.
        """
        check_choice("adapter", self.adapter, ADAPTERS)
        check_choice("pool", self.pool, ("mean", "cls"))
        check_choice("head_start", self.head_start, HEAD_STARTS)
        check_choice("loss", self.loss, LOSSES)
        check_choice("endpoint_weights", self.endpoint_weights, ENDPOINT_WEIGHTS)
        check_choice("class_weight", self.class_weight, CLASS_WEIGHTS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_integer("rank", self.rank, 1)
        check_integer("head_hidden", self.head_hidden, 0)
        check_integer("batch_size", self.batch_size, 1)
        check_integer("max_tokens", self.max_tokens, 1)
        check_integer("seed", self.seed, 0)
        check_integer("augment", self.augment, 0)
        check_integer("epochs", self.epochs, 1, optional=True)
        check_integer("patience", self.patience, 1, optional=True)
        check_number("alpha", self.alpha, 0, above=True)
        check_number("dropout", self.dropout, 0, 1)
        check_number("head_dropout", self.head_dropout, 0, 1)
        check_number("lr", self.lr, 0, 10, above=True, optional=True)
        check_number("head_lr_scale", self.head_lr_scale, 0, above=True, optional=True)
        check_number("weight_decay", self.weight_decay, 0)
        check_number("warmup", self.warmup, 0, 1)
        check_number("clip_norm", self.clip_norm, 0)
        check_number("huber_delta", self.huber_delta, 0, above=True)
        check_number("max_minutes", self.max_minutes, 0, above=True, optional=True)
        if not self.targets:
            raise ConfigError(
                f"{option('targets')} is empty; an adapter needs at least one projection"
            )

    def resolved(
        self,
        task: str,
        n_train: int,
        *,
        censored: bool = False,
        n_classes: int = 0,
        n_targets: int = 1,
        level: str = "sequence",
        kind: str = PROTEIN,
    ) -> TrainSettings:
        """The same settings with every None and "auto" (but `recompute`) given its value.

        `kind` is what the sequences are, one of `moltide.kinds.KINDS`.

        Raises:
            ConfigError: a value outside what is allowed, or a loss that does not suit the task.
        """
        self.check()
        loss = self.loss
        if loss == "auto" and task != CLASSIFICATION:
            loss = "tobit" if censored else "mse"
        elif loss == "auto":
            loss = "bce" if n_classes <= 2 else "cross_entropy"
        allowed = [one for one in LOSSES[1:] if one not in REGRESSION_LOSSES]
        if task != CLASSIFICATION:
            # Pairs of rows have no place beside a loss of single values.
            allowed = [one for one in REGRESSION_LOSSES if task == REGRESSION or one != "ranking"]
        if loss not in allowed:
            what = "numbers beside classes" if task == MIXED else task
            raise ConfigError(
                f"{option('loss')} is {loss!r}; for {what} allowed: {', '.join(allowed)}"
            )
        if loss == "bce" and n_classes > 2:
            raise ConfigError(
                f"{option('loss')} is 'bce' with {n_classes} classes; use 'cross_entropy'"
            )
        if censored and loss not in ("tobit", "ranking"):
            raise ConfigError(
                f"{option('loss')} is {loss!r}, but some labels are bounds (such as >10); allowed "
                "with bounds: tobit, ranking"
            )
        endpoints, balance = self._weights(loss, n_targets, level)
        possible = level == "sequence" and not self.head_hidden
        start = self.head_start
        if start == "auto":
            # Molecules are unlike each other, not variants of one: a head fitted to the frozen
            # backbone holds it to what it knew (`benchmarks/head_start.py`).
            free = kind == MOLECULE and self.adapter != "head"
            start = "ridge" if possible and not free else "random"
        elif start == "ridge" and not possible:
            raise ConfigError(
                "head_start is 'ridge'; that needs one label a sequence and head_hidden=0"
            )
        epochs = self.epochs
        if epochs is None:
            epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, math.ceil(_VISITS / max(1, n_train))))
        return dataclasses.replace(
            self,
            loss=loss,
            endpoint_weights=endpoints,
            class_weight=balance,
            head_start=start,
            lr=self.lr if self.lr is not None else _LEARNING_RATE[start][self.adapter],
            head_lr_scale=self.head_lr_scale if self.head_lr_scale is not None else 1.0,
            epochs=epochs,
            patience=self.patience if self.patience is not None else max(3, math.ceil(epochs / 3)),
        )

    def _weights(self, loss: str, n_targets: int, level: str) -> tuple[str, str]:
        """`endpoint_weights` and `class_weight` with "auto" given its value."""
        single = n_targets == 1 or level != "sequence"
        endpoints, balance = self.endpoint_weights, self.class_weight
        if endpoints == "auto":
            endpoints = "rows" if single or loss == "ranking" else "root"
        elif endpoints != "rows" and loss == "ranking":
            raise ConfigError(
                f"{option('endpoint_weights')} is {endpoints!r}; with {option('loss', 'ranking')} "
                "pairs of rows are compared: allowed: auto, rows"
            )
        if balance == "auto":
            balance = "none" if single else "balanced"
        elif balance == "balanced" and level != "sequence":
            raise ConfigError("class_weight is 'balanced'; for labels of residues allowed: none")
        return endpoints, balance
