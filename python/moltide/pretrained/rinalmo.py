"""RiNALMo (Penić et al. 2025, doi:10.1038/s41467-025-60872-5; `model_type` "rinalmo").

Source of names and semantics: RiNALMoModel and the classes around it in multimolecule 0.2. The
residual of attention is its normalised input, and SwiGLU's slope is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moltide.kinds import RNA
from moltide.pretrained import multimolecule
from moltide.pretrained.architectures import head_config, head_layout
from moltide.pretrained.families import Described
from moltide.pretrained.json_files import Fields
from moltide.pretrained.multimolecule import LAYER
from moltide.pretrained.names import NameMap
from moltide.pretrained.reads import Reads
from moltide.tokenization.nucleotides import RNA_VOCABULARY

__all__ = ["architecture_for", "head_config", "head_layout", "layout_of", "prefix_for"]

NAMES = NameMap(
    prefix=multimolecule.PREFIX,
    encoder={
        **multimolecule.ENCODER,
        "layers.{i}.mlp.gate.weight": LAYER + "intermediate.linear.weight",
        "layers.{i}.mlp.gate.bias": LAYER + "intermediate.linear.bias",
        "layers.{i}.mlp.up.weight": LAYER + "intermediate.linear_gate.weight",
        "layers.{i}.mlp.up.bias": LAYER + "intermediate.linear_gate.bias",
        "layers.{i}.mlp.beta": LAYER + "intermediate.bias",
    },
    heads=multimolecule.HEADS,
    harmless=multimolecule.HARMLESS,
)
ARCHITECTURES = multimolecule.architectures("RiNALMo")
architecture_for, layout_of, prefix_for = (
    *(ARCHITECTURES.choose, ARCHITECTURES.layout_of, ARCHITECTURES.prefix_for),
)
READS = Reads(RNA)


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of RiNALMoConfig that change a result; defaults are those of multimolecule.

    Raises:
        CheckpointError: a decoder, quantised weights, another kind of positions than the published
            rotary one, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = ARCHITECTURES.promised(published, fields)
    config, notes = multimolecule.common_config(fields, (1280, 33, 20), promised)
    fields.choice("position_embedding_type", "rotary", ("rotary",))
    config |= {
        "ffn_width": int(2 / 3 * fields.integer("intermediate_size", 5120)),
        "vocab": fields.integer("vocab_size", len(RNA_VOCABULARY)),
        "position": "rotary",
        "position_offset": 0,
        "rope_base": 10000.0,
        "rope_inv_freq": [],
        "attn_residual_normed": True,
        "activation": "swiglu",
        "swiglu_beta": True,
        "attn_bias": False,
        "token_dropout": fields.boolean("token_dropout", True),
        "embed_norm": False,
        "tie_lm_head": fields.boolean("tie_word_embeddings", False),
    }
    return Described(config, promised, notes)


def unfold(
    config: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
    architecture: str,
) -> dict[str, np.ndarray]:
    """The bias of an untied decoder."""
    return multimolecule.second_bias(config, read, layout_of(architecture))


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json that multimolecule reads; fields of `source` that we do not set are kept."""
    layout = layout_of(architecture)
    published = multimolecule.common_published(config, head, source, architecture, layout)
    published["model_type"] = "rinalmo"
    if int(2 / 3 * published.get("intermediate_size", 0)) != config["ffn_width"]:
        # The least size that two thirds of are rounded down to this one.
        published["intermediate_size"] = next(
            size
            for size in range(config["ffn_width"], 2 * config["ffn_width"] + 3)
            if int(2 / 3 * size) == config["ffn_width"]
        )
    return published
