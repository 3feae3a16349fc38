"""What can be asked of a pretraining run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.errors import ConfigError
from moltide.kinds import KINDS, PROTEIN, UNIT
from moltide.options import check_choice, check_integer, check_number, option
from moltide.pretraining.order import OrderSettings
from moltide.pretraining.reading import Columns
from moltide.tokenizer import FRAME
from moltide.training.arithmetic import training_dtype

if TYPE_CHECKING:
    from moltide.encoder import Encoder

SCHEDULES = ("cosine", "linear", "constant")
LONG = ("pieces", "crop")
KEEP = ("best", "last")
# Peak learning rates of new weights, and of a checkpoint that goes on.
_LR_NEW, _LR_MORE = 1e-3, 1e-4


@dataclass(frozen=True)
class PretrainOptions:
    """Attributes:
    train: FASTA, CSV, TSV or Parquet files. out: the folder RUN/.
    kind: "protein", "molecule" or "rna"; None: of the checkpoint (`backbone`), or proteins.
    sequence, cluster, weight: columns of tables; the cluster of a record (of a molecule its
        scaffold, where no column is named), and what it weighs where records are sampled.
    descriptors: learn to predict RDKit's descriptors of a molecule too, from the mean over its
        tokens; `descriptor_weight`: of their squared error beside the masked-token loss.
    augment: random SMILES beside each molecule's canonical one (Bjerrum 2017, arXiv:1703.07076).
    on_bad_row: "set_aside" (counted, listed in RUN/skipped.csv) or "error".
    shortest, longest: residues (nucleotides) of a record at least, and of what the model sees of
        it at most.
    long: "pieces" (moving cuts, all residues every epoch) or "crop" (one random window).
    cluster_weight: draw clusters in proportion to their size to this power (0: each once an
        epoch), then a member; None: every record once an epoch.
    valid: validation file; None: clusters with a share `holdout` of the records are held out, of
        the cluster column or at `identity` (None: 0.5, of RNA 0.8).
    valid_tokens: residues validated on while training; the end uses all.
    layers, width, heads, ffn_width: of a new ESM-2 (ffn_width None: 4 width).
    config: a published config.json in their place. backbone: go on from this checkpoint.
    init: standard deviation of initial weights; None: 1 / sqrt(width).
    steps, epochs, max_minutes: the end; the first to come. None of them: one epoch.
    batch_tokens: tokens of an update. max_tokens: of them in the engine at once (memory).
    lr (None: 1e-3, with `backbone` 1e-4), warmup (steps; None: 2 % of all, 10 to 2,000), schedule,
        min_lr_ratio, beta1, beta2, weight_decay, clip_norm: of AdamW.
    mask_rate, mask_token, mask_random: share of residues to predict; of these, the shares
        replaced by <mask> and by a random residue. Validation hides 15 %, all by <mask>.
    valid_every, save_every: steps between validations (None: 20 in the run, at least 50 steps
        apart), and between checkpoints (None: by time).
    keep: the "best" weights on validation are the result, or the "last".
    save_dtype: "float32" or "bf16" of model.safetensors.
    threads: None: as set outside. cache: folder for the corpus in place of one in RUN/ that goes
        when the run is done. tensorboard: also write TensorBoard events to RUN/tensorboard.
    """

    train: Sequence[str | os.PathLike[str]]
    out: str | os.PathLike[str]
    kind: str | None = None
    sequence: str | None = None
    augment: int = 0
    descriptors: bool = False
    descriptor_weight: float = 1.0
    cluster: str | None = None
    weight: str | None = None
    on_bad_row: str = "set_aside"
    shortest: int = 16
    longest: int = 1022
    long: str = "pieces"
    cluster_weight: float | None = None
    valid: str | os.PathLike[str] | None = None
    holdout: float = 0.02
    identity: float | None = None
    valid_tokens: int = 100_000
    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    ffn_width: int | None = None
    config: str | os.PathLike[str] | None = None
    backbone: str | os.PathLike[str] | None = None
    init: float | None = None
    dtype: str = "auto"
    device: str = "auto"
    steps: int | None = None
    epochs: float | None = None
    max_minutes: float | None = None
    batch_tokens: int = 4096
    max_tokens: int = 8192
    lr: float | None = None
    warmup: int | None = None
    schedule: str = "cosine"
    min_lr_ratio: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    mask_rate: float = 0.15
    mask_token: float = 0.8
    mask_random: float = 0.1
    recompute: bool = False
    valid_every: int | None = None
    save_every: int | None = None
    keep: str = "best"
    save_dtype: str = "float32"
    seed: int = 0
    threads: int | None = None
    cache: str | os.PathLike[str] | None = None
    tensorboard: bool = False
    report: bool = True
    dry_run: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what is wrong before anything is read.

        Raises:
            ConfigError: naming the option, its value, and what is allowed.
        """
        if isinstance(self.train, (str, os.PathLike)) or not self.train:
            raise ConfigError(f"{option('train')} is a list of one or more files")
        for name, allowed in (("long", LONG), ("schedule", SCHEDULES), ("keep", KEEP)):
            check_choice(name, getattr(self, name), allowed)
        check_choice("save_dtype", self.save_dtype, ("float32", "bf16"))
        check_choice("dtype", self.dtype, ("auto", "float32", "bf16"))
        check_choice("on_bad_row", self.on_bad_row, ("error", "set_aside"))
        for name in ("shortest", "longest", "batch_tokens", "max_tokens", "valid_tokens"):
            check_integer(name, getattr(self, name), 1)
        for name in ("layers", "width", "heads", "ffn_width", "steps", "valid_every"):
            check_integer(name, getattr(self, name), 1, optional=True)
        for name in ("save_every", "threads"):
            check_integer(name, getattr(self, name), 1, optional=True)
        check_integer("warmup", self.warmup, 0, optional=True)
        check_integer("augment", self.augment, 0)
        check_number("descriptor_weight", self.descriptor_weight, 0, 1000, above=True)
        if self.kind is not None:
            check_choice("kind", self.kind, KINDS)
        check_integer("seed", self.seed, 0)
        check_number("holdout", self.holdout, 0, 0.5, above=True)
        for name in ("mask_token", "mask_random", "min_lr_ratio", "beta1", "beta2"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("identity", self.identity, 0.3, 1, optional=True)
        check_number("mask_rate", self.mask_rate, 0, 1, above=True)
        check_number("cluster_weight", self.cluster_weight, 0, 10, optional=True)
        for name in ("init", "epochs", "max_minutes"):
            check_number(name, getattr(self, name), 0, above=True, optional=True)
        check_number("lr", self.lr, 0, 10, above=True, optional=True)
        for name in ("weight_decay", "clip_norm"):
            check_number(name, getattr(self, name), 0)
        self._check_together()

    def _check_together(self) -> None:
        if self.mask_token + self.mask_random > 1:
            raise ConfigError(
                f"{option('mask_token')} {self.mask_token:g} and {option('mask_random')} "
                f"{self.mask_random:g} add up to more than 1; the rest stays as it is"
            )
        longest = option("longest")
        if self.longest < self.shortest:
            raise ConfigError(
                f"{longest} is {self.longest}, below {option('shortest')} ({self.shortest})"
            )
        unit = UNIT[self.kind or PROTEIN]
        for name in ("batch_tokens", "max_tokens"):
            if getattr(self, name) < self.longest + FRAME:
                raise ConfigError(
                    f"{option(name)} is {getattr(self, name)}; a sequence of {self.longest} "
                    f"{unit}s ({longest}) takes {self.longest + FRAME} tokens"
                )
        if self.cluster_weight is not None and self.cluster is None:
            raise ConfigError(
                f"{option('cluster_weight')} needs clusters: name their column "
                f"({option('cluster')})"
            )
        self._check_source()

    def _check_source(self) -> None:
        """Where the model comes from."""
        layers, width, heads = option("layers"), option("width"), option("heads")
        config, backbone = option("config"), option("backbone")
        shape = [name for name in ("layers", "width", "heads") if getattr(self, name) is not None]
        sources = [name for name in ("config", "backbone") if getattr(self, name) is not None]
        if len(sources) == 2 or (sources and (shape or self.ffn_width is not None)):
            raise ConfigError(
                f"the model comes from one place: {layers}, {width} and {heads}, or {config}, or "
                f"{backbone}"
            )
        if not sources and len(shape) < 3:
            raise ConfigError(
                f"which model? {layers}, {width} and {heads} of a new one, a published "
                f"config.json ({config}), or a checkpoint to go on from ({backbone})"
            )
        if self.backbone is not None and self.init is not None:
            raise ConfigError(f"{option('init')} is for new weights; {backbone} has its own")
        if not sources and int(self.width or 0) % int(self.heads or 1):
            raise ConfigError(
                f"{heads} is {self.heads}; allowed: a divisor of {width} {self.width}"
            )

    @property
    def peak_lr(self) -> float:
        """`lr`, or what stands for None."""
        if self.lr is not None:
            return float(self.lr)
        return _LR_NEW if self.backbone is None else _LR_MORE

    def columns_of(self, encoder: Encoder) -> Columns:
        """The columns of the training files, for what `encoder` reads."""
        kind = encoder.tokenizer.kind
        # The seed draws SMILES alone: without them, runs of any seed share a corpus.
        seed = self.seed if self.augment else 0
        return Columns(
            self.sequence, self.cluster, self.weight, kind, self.augment, seed, self.descriptors
        )

    @property
    def files(self) -> list[Path]:
        return [Path(path) for path in self.train]

    def order(self) -> OrderSettings:
        """What decides the order of the data."""
        return OrderSettings(self.seed, self.longest, self.shortest, self.long, self.cluster_weight)

    def identity_of(self) -> dict[str, Any]:
        """What decides the result beside the data and the weights, as plain JSON types."""
        left_out = {
            *("train", "valid", "out", "threads", "cache", "tensorboard", "report", "dry_run"),
            *("overwrite", "save_every", "device", "recompute"),
        }
        values = dataclasses.asdict(self)
        values["dtype"] = training_dtype(self.dtype)
        return {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in values.items()
            if name not in left_out
        }
