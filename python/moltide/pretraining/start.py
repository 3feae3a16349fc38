"""The encoder that training starts from."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.errors import CheckpointError, ConfigError
from moltide.kinds import MANY, MOLECULE, RNA, UNIT
from moltide.options import option
from moltide.pretraining.descriptors import COUNT
from moltide.pretraining.options import PretrainOptions
from moltide.pretraining.symbols import Symbols
from moltide.sequences import LETTERS
from moltide.tokenizer import FRAME
from moltide.training.arithmetic import training_dtype

if TYPE_CHECKING:
    from moltide.encoder import Encoder
    from moltide.tokenizer import ResidueTokenizer

_NEW, _MASKED_LM = "esm", "EsmForMaskedLM"


def starting_encoder(options: PretrainOptions) -> Encoder:
    """A new encoder of the shape asked for, or the checkpoint to go on from.

    Raises:
        ConfigError: a shape the engine refuses, a backbone without masked-LM head, or positions
            for fewer residues than `longest`.
        CheckpointError: no such checkpoint or config.json, or one that is not read.
    """
    from moltide.random_init import esm2_config, random_encoder

    if options.backbone is not None:
        encoder = _loaded(options)
    else:
        tokenizer = _tokenizer(options.kind)
        if options.config is not None:
            config = _published(Path(options.config))
        else:
            config = esm2_config(
                int(options.layers or 0),
                int(options.width or 0),
                int(options.heads or 0),
                options.ffn_width,
                max(1026, options.longest + FRAME),
            )
            config["token_dropout"] = options.kind != MOLECULE
        config.update(
            vocab=len(tokenizer),
            mask_token=tokenizer.mask_id,
            pad_token=tokenizer.pad_id,
            cls_token=tokenizer.cls_id,
            eos_token=tokenizer.eos_id,
        )
        # Nothing here trains a contact head.
        config["contact_head"] = False
        init = options.init if options.init is not None else 1 / math.sqrt(config["width"])
        dtype = training_dtype(options.dtype)
        try:
            encoder = random_encoder(config, options.seed, dtype, init, tokenizer)
        except ValueError as error:
            raise ConfigError(f"the model cannot be made: {error}") from error
    _check(encoder, options)
    if options.descriptors:
        encoder.set_head({"pool": "mean", "outputs": COUNT}, options.seed)
    return encoder


def _tokenizer(kind: str | None) -> ResidueTokenizer:
    """What a new encoder reads by: the published tokens of its kind, in ESM's layout."""
    from moltide.smiles_tokenizer import SmilesTokenizer
    from moltide.tokenization.nucleotides import ESM_NUCLEOTIDES, NucleotideTokenizer
    from moltide.tokenizer import ResidueTokenizer

    if kind == MOLECULE:
        return SmilesTokenizer()
    if kind == RNA:
        return NucleotideTokenizer(ESM_NUCLEOTIDES, published_as="EsmTokenizer")
    return ResidueTokenizer()


def _loaded(options: PretrainOptions) -> Encoder:
    from moltide.pretrained import load

    return load(os.fspath(options.backbone or ""), options.device, training_dtype(options.dtype))


def _published(path: Path) -> dict[str, Any]:
    from moltide.pretrained.families import family_of
    from moltide.pretrained.json_files import read_json_object

    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        raise CheckpointError(f"no such config.json: {path}")
    published = {**read_json_object(path), "architectures": [_MASKED_LM]}
    family = family_of(published, str(path))
    if published["model_type"] != _NEW:
        raise ConfigError(
            f"{path} describes a {published['model_type']!r} model; new ones have the layout "
            f"{_NEW!r}. A checkpoint of any layout goes on with {option('backbone')}"
        )
    return dict(family.config_from_published(published, str(path)).config)


def _check(encoder: Encoder, options: PretrainOptions) -> None:
    config = encoder.config
    if not config["lm_head"]:
        raise ConfigError(f"{encoder.name} has no masked-LM head, which pretraining trains")
    if config["position"] == "learned":
        limit = config["max_positions"] - config.get("position_offset", 0) - FRAME
        if options.longest > limit:
            raise ConfigError(
                f"{option('longest')} is {options.longest}; the model has learned positions for "
                f"{limit} of them"
            )
    tokenizer = encoder.tokenizer
    if tokenizer.in_space:
        raise ConfigError(
            f"{encoder.name} reads molecules in space; moltide pretrains models of text alone"
        )
    if options.kind not in (None, tokenizer.kind):
        raise ConfigError(
            f"{option('kind')} is {options.kind!r}; {encoder.name} reads {MANY[tokenizer.kind]}"
        )
    for name in ("augment", "descriptors"):
        if getattr(options, name) and tokenizer.kind != MOLECULE:
            given = option(name, getattr(options, name))
            raise ConfigError(f"{given} is for molecules ({option('kind', MOLECULE)})")
    letters = LETTERS.get(tokenizer.kind, "")
    unknown = [one for one in letters if tokenizer.id_of(one) == tokenizer.unk_id]
    if len(unknown) == len(letters) and tokenizer.kind == RNA:
        raise ConfigError(
            f"{encoder.name} reads codons; moltide pretrains models of single nucleotides"
        )
    if unknown or len(tokenizer) > config["vocab"]:
        raise ConfigError(
            f"{encoder.name}: its vocabulary lacks {UNIT[tokenizer.kind]}s ({''.join(unknown)})"
        )


def engine_trainer(encoder: Encoder, options: PretrainOptions, steps: int, warmup: int) -> Any:
    """The engine's trainer of a run of `steps` steps."""
    from moltide._engine import Trainer

    symbols = Symbols(encoder.tokenizer)
    values = {
        "mode": "full",
        "objective": "mlm",
        "lr": options.peak_lr,
        "beta1": float(options.beta1),
        "beta2": float(options.beta2),
        "weight_decay": float(options.weight_decay),
        "clip_norm": float(options.clip_norm),
        "schedule": options.schedule,
        "warmup_steps": warmup,
        "total_steps": steps,
        "min_lr_ratio": float(options.min_lr_ratio),
        "seed": options.seed,
        "max_tokens": options.max_tokens,
        "recompute": "blocks" if options.recompute else "none",
        "mlm_probability": float(options.mask_rate),
        "mlm_mask": float(options.mask_token),
        "mlm_random": float(options.mask_random),
        "head_weight": float(options.descriptor_weight) if options.descriptors else 0.0,
        "mlm_residues": symbols.ids[symbols.predicted].tolist(),
    }
    try:
        return Trainer(encoder.model, values)
    except ValueError as error:
        raise ConfigError(str(error)) from error
