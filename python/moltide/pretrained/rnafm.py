"""RNA-FM and mRNA-FM (Chen et al. 2022, arXiv:2204.00300; `model_type` "rnafm").

Source of names and semantics: RnaFmModel and the classes around it in multimolecule 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moltide.errors import ConfigError
from moltide.kinds import RNA
from moltide.pretrained import multimolecule
from moltide.pretrained.architectures import head_config, head_layout
from moltide.pretrained.families import Described
from moltide.pretrained.json_files import Fields
from moltide.pretrained.multimolecule import LAYER
from moltide.pretrained.names import NameMap
from moltide.pretrained.reads import Reads
from moltide.tokenization.nucleotides import CODON_VOCABULARY, RNA_VOCABULARY

__all__ = ["architecture_for", "head_config", "head_layout", "layout_of", "prefix_for"]

NAMES = NameMap(
    prefix=multimolecule.PREFIX,
    encoder={
        **multimolecule.ENCODER,
        "layers.{i}.mlp.up.weight": LAYER + "intermediate.dense.weight",
        "layers.{i}.mlp.up.bias": LAYER + "intermediate.dense.bias",
    },
    heads=multimolecule.HEADS,
    harmless=multimolecule.HARMLESS,
    # The pair head of pretraining reads attention maps; nothing here does.
    kept=(r"ss_head\.decoder\.(weight|bias)",),
)
ARCHITECTURES = multimolecule.architectures("RnaFm")
architecture_for, layout_of, prefix_for = (
    *(ARCHITECTURES.choose, ARCHITECTURES.layout_of, ARCHITECTURES.prefix_for),
)
READS = Reads(RNA)

# Published position ids start one row later than they would after the padding row.
_SHIFT = 1


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of RnaFmConfig that change a result; defaults are those of multimolecule.

    Raises:
        CheckpointError: a decoder, quantised weights, another activation or kind of positions than
            the engine has, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = ARCHITECTURES.promised(published, fields)
    config, notes = multimolecule.common_config(fields, (640, 12, 20), promised)
    position = fields.choice("position_embedding_type", "absolute", ("absolute", "rotary"))
    first_row = config["pad_token"] + 1 + _SHIFT
    if position == "absolute" and config["max_positions"] <= first_row:
        raise fields.refuse(
            "max_position_embeddings", config["max_positions"], f"more than {first_row}"
        )
    codon = fields.boolean("codon", False)
    config |= {
        "ffn_width": fields.integer("intermediate_size", 5120),
        "vocab": fields.integer("vocab_size", len(CODON_VOCABULARY if codon else RNA_VOCABULARY)),
        "position": "rotary" if position == "rotary" else "learned",
        "position_offset": 0 if position == "rotary" else first_row,
        "activation": fields.choice("hidden_act", "gelu", ("gelu", "relu")),
        "attn_bias": True,
        "token_dropout": fields.boolean("token_dropout", False),
        "embed_norm": fields.boolean("embed_norm", True),
        "tie_lm_head": fields.boolean("tie_word_embeddings", True),
    }
    return Described(config, promised, notes)


def unfold(
    config: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
    architecture: str,
) -> dict[str, np.ndarray]:
    """The pair head of RnaFmForPreTraining, as it was loaded.

    Raises:
        ConfigError: there is none.
    """
    bias = multimolecule.second_bias(config, read, layout_of(architecture))
    if architecture not in ("RnaFmForPreTraining", "RnaFmForSecondaryStructurePrediction"):
        return bias
    if not kept or architecture == "RnaFmForSecondaryStructurePrediction":
        raise ConfigError(
            f"architecture is {architecture!r}, which has a head for pairs of nucleotides; this "
            "model has none: publish it as 'RnaFmForMaskedLM'"
        )
    return {**bias, **kept}


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json that multimolecule reads; fields of `source` that we do not set are kept."""
    layout = layout_of(architecture)
    return {
        "codon": config["vocab"] == len(CODON_VOCABULARY),
        **multimolecule.common_published(config, head, source, architecture, layout),
        "model_type": "rnafm",
        "intermediate_size": config["ffn_width"],
        "hidden_act": config["activation"],
        "embed_norm": config["embed_norm"],
    }
