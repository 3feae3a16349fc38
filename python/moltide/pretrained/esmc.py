"""ESM Cambrian (EvolutionaryScale 2024; `model_type` "esmc"), 300M and 600M.

Two layouts: that of Transformers 5.23 (EsmcModel, EsmcForMaskedLM, EsmcForSequenceClassification,
EsmcForTokenClassification), and that of the `esm` package 3.2 (ESMC), in which queries, keys and
values are one matrix, and the gate and the input of SwiGLU another. The latter was published as a
bare PyTorch file, and on the Hub with names of fused layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from moltide.pretrained.architectures import (
    Architectures,
    head_config,
    head_layout,
    with_labels,
)
from moltide.pretrained.families import Described
from moltide.pretrained.json_files import Fields
from moltide.pretrained.names import NameMap
from moltide.pretrained.reads import Reads
from moltide.tokenizer import ESM_VOCABULARY

__all__ = ["architecture_for", "head_config", "head_layout", "layout_of", "prefix_for"]

_LAYER, _BLOCK = "layers.{i}.", "transformer.blocks.{i}."
_PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "o_proj"}

NAMES = NameMap(
    prefix="esmc.",
    encoder={
        "embed.tokens.weight": "embed_tokens.weight",
        "layers.{i}.attn_norm.weight": _LAYER + "input_layernorm.weight",
        "layers.{i}.attn_norm.bias": _LAYER + "input_layernorm.bias",
        **{
            f"layers.{{i}}.attn.{ours}.{end}": f"{_LAYER}self_attn.{theirs}.{end}"
            for ours, theirs in _PROJECTIONS.items()
            for end in ("weight", "bias")
        },
        "layers.{i}.attn.q_norm.weight": _LAYER + "self_attn.q_norm.weight",
        "layers.{i}.attn.k_norm.weight": _LAYER + "self_attn.k_norm.weight",
        "layers.{i}.mlp_norm.weight": _LAYER + "post_attention_layernorm.weight",
        "layers.{i}.mlp_norm.bias": _LAYER + "post_attention_layernorm.bias",
        **{
            f"layers.{{i}}.mlp.{one}.{end}": f"{_LAYER}mlp.{one}_proj.{end}"
            for one in ("gate", "up", "down")
            for end in ("weight", "bias")
        },
        "final_norm.weight": "norm.weight",
    },
    heads={
        "lm": {
            "lm_head.dense.weight": "lm_head.dense.weight",
            "lm_head.dense.bias": "lm_head.dense.bias",
            "lm_head.norm.weight": "lm_head.layer_norm.weight",
            "lm_head.norm.bias": "lm_head.layer_norm.bias",
            "lm_head.decoder.weight": "lm_head.decoder.weight",
            "lm_head.bias": "lm_head.decoder.bias",
        },
        "sequence": {
            "head.dense.weight": "classifier.dense.weight",
            "head.dense.bias": "classifier.dense.bias",
            "head.out.weight": "classifier.out_proj.weight",
            "head.out.bias": "classifier.out_proj.bias",
        },
        "token": {"head.out.weight": "score.weight", "head.out.bias": "score.bias"},
    },
    rope_frequencies=r"rotary_emb\.(original_)?inv_freq",
)

NATIVE = NameMap(
    prefix="",
    encoder={
        "embed.tokens.weight": "embed.weight",
        "layers.{i}.attn_norm.weight": _BLOCK + "attn.layernorm_qkv.0.weight",
        "layers.{i}.attn_norm.bias": _BLOCK + "attn.layernorm_qkv.0.bias",
        "layers.{i}.attn.out.weight": _BLOCK + "attn.out_proj.weight",
        "layers.{i}.attn.q_norm.weight": _BLOCK + "attn.q_ln.weight",
        "layers.{i}.attn.k_norm.weight": _BLOCK + "attn.k_ln.weight",
        "layers.{i}.mlp_norm.weight": _BLOCK + "ffn.0.weight",
        "layers.{i}.mlp_norm.bias": _BLOCK + "ffn.0.bias",
        "layers.{i}.mlp.down.weight": _BLOCK + "ffn.3.weight",
        "final_norm.weight": "transformer.norm.weight",
    },
    heads={
        "lm": {
            "lm_head.dense.weight": "sequence_head.0.weight",
            "lm_head.dense.bias": "sequence_head.0.bias",
            "lm_head.norm.weight": "sequence_head.2.weight",
            "lm_head.norm.bias": "sequence_head.2.bias",
            "lm_head.decoder.weight": "sequence_head.3.weight",
            "lm_head.bias": "sequence_head.3.bias",
        },
    },
    joined={
        _BLOCK + "attn.layernorm_qkv.1.weight": tuple(
            f"layers.{{i}}.attn.{one}.weight" for one in "qkv"
        ),
        _BLOCK + "ffn.1.weight": ("layers.{i}.mlp.gate.weight", "layers.{i}.mlp.up.weight"),
    },
    spellings=(
        (r"^esmc\.", ""),
        (r"\.layernorm_qkv\.layer_norm_(weight|bias)$", r".layernorm_qkv.0.\1"),
        (r"\.layernorm_qkv\.weight$", ".layernorm_qkv.1.weight"),
        (r"\.ffn\.layer_norm_(weight|bias)$", r".ffn.0.\1"),
        (r"\.ffn\.fc1_weight$", ".ffn.1.weight"),
        (r"\.ffn\.fc2_weight$", ".ffn.3.weight"),
        (r"^lm_head\.dense\.", "sequence_head.0."),
        (r"^lm_head\.layer_norm\.", "sequence_head.2."),
        (r"^lm_head\.decoder\.", "sequence_head.3."),
        (r"^lm_head\.(0|2|3)\.", r"sequence_head.\1."),
    ),
    harmless=((r".*\._extra_state", "scales of 8-bit arithmetic"),),
    rope_frequencies=r"(.*\.)?rotary\.inv_freq",
)
OTHER_NAMES = {"ESMC": NATIVE}

ARCHITECTURES = Architectures(
    {
        "EsmcForSequenceClassification": "sequence",
        "EsmcForTokenClassification": "token",
        "EsmcForMaskedLM": "lm",
        "ESMC": "lm",
    },
    bare="EsmcModel",
    prefix=NAMES.prefix,
)
architecture_for, layout_of = ARCHITECTURES.choose, ARCHITECTURES.layout_of

# "|" between chains, in the place of ESM-2's "<null_1>".
ESMC_VOCABULARY = (*ESM_VOCABULARY[:31], "|", "<mask>")
READS = Reads(vocabulary=ESMC_VOCABULARY, split="characters", assumed="ESM C", exact=False)

# The files of December 2024 came without a config.json.
_SIZES = {
    "esmc_300m_2024_12_v0.pth": {"hidden_size": 960, "num_attention_heads": 15}
    | {"num_hidden_layers": 30, "intermediate_size": 2560},
    "esmc_600m_2024_12_v0.pth": {"hidden_size": 1152, "num_attention_heads": 18}
    | {"num_hidden_layers": 36, "intermediate_size": 3072},
}
BARE_WEIGHTS = {
    folder + name: {"model_type": "esmc", "architectures": ["ESMC"], "vocab_size": 64, **sizes}
    for name, sizes in _SIZES.items()
    for folder in ("data/weights/", "")
}
WEIGHTS = tuple(BARE_WEIGHTS)

_NORM_EPS = 1e-5  # nn.LayerNorm's own, in both implementations
_SCALED_FROM = 36  # layers: residual branches are divided by sqrt(layers / 36)


def prefix_for(architecture: str) -> str:
    """The `esm` package writes no prefix either."""
    return "" if architecture in OTHER_NAMES else ARCHITECTURES.prefix_for(architecture)


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of EsmcConfig that change a result; defaults are those of Transformers.

    Raises:
        CheckpointError: a decoder, quantised weights, scaled rotary positions, grouped queries, or
            a field outside its range.
    """
    # The names of the `esm` package.
    older = {"hidden_size": "d_model", "num_attention_heads": "n_heads"}
    older |= {"num_hidden_layers": "n_layers"}
    published = {
        **{name: published[old] for name, old in older.items() if old in published},
        **published,
    }
    fields = Fields(published, where)
    promised = ARCHITECTURES.promised(published, fields)
    width = fields.integer("hidden_size", 2560)
    heads = fields.integer("num_attention_heads", 40)
    if width % heads or (width // heads) % 4:
        raise fields.refuse(
            "num_attention_heads", heads, f"hidden_size {width} / heads a multiple of 4"
        )
    for name, needed in (("num_key_value_heads", heads), ("head_dim", width // heads)):
        if fields.integer(name, needed) != needed:
            raise fields.refuse(name, published[name], str(needed))
    fields.choice("hidden_act", "silu", ("silu",))
    # 8 / 3 of the width, in steps of 256.
    inner = fields.integer("intermediate_size", -(-width * 8 // (3 * 256)) * 256)
    mask, eos = fields.integer("mask_token_id", 32, 0), fields.values.get("eos_token_id")
    config: dict[str, Any] = {
        "layers": fields.integer("num_hidden_layers", 80),
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "ffn_width": inner,
        "vocab": fields.integer("vocab_size", 64),
        "position": "rotary",
        "max_positions": fields.integer("max_position_embeddings", 2048),
        "position_offset": 0,
        "rope_base": _rope_base(fields),
        "rope_inv_freq": [],
        "norm": "layernorm",
        "norm_place": "pre",
        "norm_eps": _NORM_EPS,
        "qk_norm": True,
        "activation": "swiglu",
        "attention": "softmax",
        "attn_bias": fields.boolean("attention_bias", False),
        "mlp_bias": fields.boolean("mlp_bias", False),
        "residual_scale": 1.0,
        "token_dropout": False,
        "embed_norm": False,
        "final_norm": True,
        "final_norm_bias": False,
        # Dropout of the classifier alone; the encoder has that of attention.
        "hidden_dropout": 0.0,
        "attention_dropout": fields.number("attention_dropout", 0.0, 0.0, 1.0),
        "lm_head": "lm_head" in promised,
        "tie_lm_head": False,
        "contact_head": False,
        "pad_token": fields.integer("pad_token_id", 1, 0),
        "mask_token": mask,
        "cls_token": fields.integer("bos_token_id", 0, 0),
        "eos_token": eos if isinstance(eos, int) else 2,
    }
    config["residual_scale"] = math.sqrt(_SCALED_FROM / config["layers"])
    return Described(config, promised, [])


def _rope_base(fields: Fields) -> float:
    found = fields.values.get("rope_parameters")
    if found is None:
        return fields.number("rope_theta", 10000.0, 1.0, 1e12)
    if not isinstance(found, dict):
        raise fields.refuse("rope_parameters", found, "an object")
    inner = Fields(found, f"{fields.where}: rope_parameters")
    inner.choice("rope_type", "default", ("default",))
    return inner.number("rope_theta", 10000.0, 1.0, 1e12)


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json that Transformers reads; fields of `source` that we do not set are kept."""
    published = {
        **source,
        "architectures": [architecture],
        "model_type": "esmc",
        "vocab_size": config["vocab"],
        "hidden_size": config["width"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["heads"],
        "head_dim": config["head_dim"],
        "intermediate_size": config["ffn_width"],
        "max_position_embeddings": config["max_positions"],
        "rope_parameters": {"rope_type": "default", "rope_theta": config["rope_base"]},
        "hidden_act": "silu",
        "attention_bias": config["attn_bias"],
        "mlp_bias": config["mlp_bias"],
        "attention_dropout": config["attention_dropout"],
        "tie_word_embeddings": False,
        "pad_token_id": config["pad_token"],
        "mask_token_id": config["mask_token"],
        "bos_token_id": config["cls_token"],
        "eos_token_id": config["eos_token"],
    }
    if layout_of(architecture) in ("sequence", "token") and head is not None:
        return with_labels(published, source, head["outputs"])
    return published
