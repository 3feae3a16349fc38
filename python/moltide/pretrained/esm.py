"""The Transformers layout of ESM-2, ESM-1b and ESM-1v (`model_type` "esm").

Source of names and semantics: Transformers' EsmModel, EsmForMaskedLM, EsmForSequenceClassification
and EsmForTokenClassification, releases 4.25 to 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moltide.errors import CheckpointError
from moltide.pretrained.architectures import (
    Architectures,
    head_config,
    head_layout,
    with_labels,
)
from moltide.pretrained.families import Described
from moltide.pretrained.json_files import Fields
from moltide.pretrained.names import NameMap

__all__ = ["architecture_for", "head_config", "head_layout", "layout_of", "prefix_for"]

_LAYER = "encoder.layer.{i}."

NAMES = NameMap(
    prefix="esm.",
    encoder={
        "embed.tokens.weight": "embeddings.word_embeddings.weight",
        "embed.positions.weight": "embeddings.position_embeddings.weight",
        "embed.norm.weight": "embeddings.layer_norm.weight",
        "embed.norm.bias": "embeddings.layer_norm.bias",
        "layers.{i}.attn_norm.weight": _LAYER + "attention.LayerNorm.weight",
        "layers.{i}.attn_norm.bias": _LAYER + "attention.LayerNorm.bias",
        "layers.{i}.attn.q.weight": _LAYER + "attention.self.query.weight",
        "layers.{i}.attn.q.bias": _LAYER + "attention.self.query.bias",
        "layers.{i}.attn.k.weight": _LAYER + "attention.self.key.weight",
        "layers.{i}.attn.k.bias": _LAYER + "attention.self.key.bias",
        "layers.{i}.attn.v.weight": _LAYER + "attention.self.value.weight",
        "layers.{i}.attn.v.bias": _LAYER + "attention.self.value.bias",
        "layers.{i}.attn.out.weight": _LAYER + "attention.output.dense.weight",
        "layers.{i}.attn.out.bias": _LAYER + "attention.output.dense.bias",
        "layers.{i}.mlp_norm.weight": _LAYER + "LayerNorm.weight",
        "layers.{i}.mlp_norm.bias": _LAYER + "LayerNorm.bias",
        "layers.{i}.mlp.up.weight": _LAYER + "intermediate.dense.weight",
        "layers.{i}.mlp.up.bias": _LAYER + "intermediate.dense.bias",
        "layers.{i}.mlp.down.weight": _LAYER + "output.dense.weight",
        "layers.{i}.mlp.down.bias": _LAYER + "output.dense.bias",
        "final_norm.weight": "encoder.emb_layer_norm_after.weight",
        "final_norm.bias": "encoder.emb_layer_norm_after.bias",
        "contact.weight": "contact_head.regression.weight",
        "contact.bias": "contact_head.regression.bias",
    },
    heads={
        "lm": {
            "lm_head.dense.weight": "lm_head.dense.weight",
            "lm_head.dense.bias": "lm_head.dense.bias",
            "lm_head.norm.weight": "lm_head.layer_norm.weight",
            "lm_head.norm.bias": "lm_head.layer_norm.bias",
            "lm_head.decoder.weight": "lm_head.decoder.weight",
            "lm_head.bias": "lm_head.bias",
        },
        "sequence": {
            "head.dense.weight": "classifier.dense.weight",
            "head.dense.bias": "classifier.dense.bias",
            "head.out.weight": "classifier.out_proj.weight",
            "head.out.bias": "classifier.out_proj.bias",
        },
        "token": {
            "head.out.weight": "classifier.weight",
            "head.out.bias": "classifier.bias",
        },
    },
    spellings=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
    rope_frequencies=r"(.*\.)?rotary_embeddings\.inv_freq",
    harmless=(
        (r"embeddings\.position_ids", "an index buffer, rebuilt from the config"),
        (r"pooler\.dense\.(weight|bias)", "a pooler that pretraining never trained"),
        (r"lm_head\.decoder\.bias", "a second name of lm_head.bias"),
    ),
)

ARCHITECTURES = Architectures(
    {
        "EsmForSequenceClassification": "sequence",
        "EsmForTokenClassification": "token",
        "EsmForMaskedLM": "lm",
    },
    bare="EsmModel",
    prefix=NAMES.prefix,
)
architecture_for, layout_of, prefix_for = (
    *(ARCHITECTURES.choose, ARCHITECTURES.layout_of, ARCHITECTURES.prefix_for),
)

# ESM's training masked 15 % of the residues and wrote <mask> over 80 % of those.
MASK_RATIO_TRAIN = 0.15 * 0.8


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of EsmConfig that change a result; defaults are those of Transformers.

    Raises:
        CheckpointError: ESMFold, a decoder, quantised weights, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = _architecture(published, fields)
    width = fields.integer("hidden_size", 768)
    heads = fields.integer("num_attention_heads", 12)
    if width % heads:
        raise fields.refuse("num_attention_heads", heads, f"a divisor of hidden_size {width}")
    position = fields.choice("position_embedding_type", "absolute", ("rotary", "absolute"))
    if position == "rotary" and (width // heads) % 2:
        raise fields.refuse("num_attention_heads", heads, "an even hidden_size / heads for rotary")
    pad = fields.optional_integer("pad_token_id")
    mask = fields.optional_integer("mask_token_id")
    token_dropout = fields.boolean("token_dropout", False)
    if token_dropout and mask is None:
        raise fields.refuse("mask_token_id", mask, "a token id, because token_dropout is true")
    notes = []
    if fields.values.get("hidden_act", "gelu") not in ("gelu", None):
        notes.append(
            f"hidden_act {fields.values['hidden_act']!r} is ignored, as Transformers' ESM does: "
            "the activation is the erf GELU"
        )
    # Position ids start after the padding id, so the table's first rows are never looked up.
    first_row = (1 if pad is None else pad) + 1
    rows = fields.integer("max_position_embeddings", 1026)
    if position == "absolute" and rows <= first_row:
        raise fields.refuse("max_position_embeddings", rows, "more than pad_token_id + 1")
    eos = fields.values.get("eos_token_id")
    config: dict[str, Any] = {
        "layers": fields.integer("num_hidden_layers", 12),
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "ffn_width": fields.integer("intermediate_size", 3072),
        "vocab": fields.integer("vocab_size", None),
        "position": "rotary" if position == "rotary" else "learned",
        "max_positions": rows,
        "position_offset": first_row if position == "absolute" else 0,
        "rope_base": fields.number("rope_theta", 10000.0, 1.0, 1e12),
        "rope_inv_freq": [],
        "norm": "layernorm",
        "norm_place": "pre",
        "norm_eps": fields.number("layer_norm_eps", 1e-12, 0.0, 1.0),
        "qk_norm": False,
        "activation": "gelu",
        "attention": "softmax",
        "attn_bias": True,
        "mlp_bias": True,
        "residual_scale": 1.0,
        "token_dropout": token_dropout,
        "mask_ratio_train": MASK_RATIO_TRAIN,
        "embed_norm": fields.boolean("emb_layer_norm_before", False),
        "final_norm": True,
        "hidden_dropout": fields.number("hidden_dropout_prob", 0.1, 0.0, 1.0),
        "attention_dropout": fields.number("attention_probs_dropout_prob", 0.1, 0.0, 1.0),
        "lm_head": "lm_head" in promised,
        "tie_lm_head": fields.boolean("tie_word_embeddings", True),
        "contact_head": True,
        "pad_token": 1 if pad is None else pad,
        "mask_token": -1 if mask is None else mask,
        "cls_token": fields.optional_integer("cls_token_id") or 0,
        "eos_token": eos if isinstance(eos, int) else 2,
    }
    return Described(config, promised, notes)


def _architecture(published: Mapping[str, Any], fields: Fields) -> frozenset[str]:
    """The groups of tensors that the published class promises; refuses classes we cannot run."""
    names = fields.texts("architectures")
    if published.get("is_folding_model") or "EsmForProteinFolding" in names:
        raise CheckpointError(
            f"{fields.where}: this is ESMFold (is_folding_model), a structure predictor; allowed: "
            f"{', '.join([ARCHITECTURES.bare, *ARCHITECTURES.layouts])}, for example "
            "facebook/esm2_t36_3B_UR50D"
        )
    return ARCHITECTURES.promised(published, fields)


def exact_tensors(config: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """Rotary frequencies travel with the weights, one copy a layer: the place that every release
    of Transformers reads them from, and misses them in."""
    if config["position"] != "rotary":
        return {}
    values = np.array(config.get("rope_inv_freq") or [], dtype=np.float32)
    if not values.size:
        exponents = np.arange(0, config["head_dim"], 2, dtype=np.float32) / config["head_dim"]
        powers = (config["rope_base"] ** exponents.astype(np.float64)).astype(np.float32)
        values = (np.float32(1.0) / powers).astype(np.float32)
    place = prefix + _LAYER + "attention.self.rotary_embeddings.inv_freq"
    return {place.replace("{i}", str(layer)): values for layer in range(config["layers"])}


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json that Transformers reads; fields of `source` that we do not set are kept."""
    learned = config["position"] == "learned"
    published = {
        **source,
        "architectures": [architecture],
        "model_type": "esm",
        "vocab_size": config["vocab"],
        "hidden_size": config["width"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "intermediate_size": config["ffn_width"],
        "max_position_embeddings": config["max_positions"],
        "position_embedding_type": "absolute" if learned else "rotary",
        "rope_theta": config["rope_base"],
        "layer_norm_eps": config["norm_eps"],
        "hidden_act": "gelu",
        "emb_layer_norm_before": config["embed_norm"],
        "token_dropout": config["token_dropout"],
        "hidden_dropout_prob": config["hidden_dropout"],
        "attention_probs_dropout_prob": config["attention_dropout"],
        "tie_word_embeddings": config["tie_lm_head"],
        "pad_token_id": config["pad_token"],
        "mask_token_id": config["mask_token"] if config["mask_token"] >= 0 else None,
        "cls_token_id": config["cls_token"],
        "eos_token_id": config["eos_token"],
        "is_folding_model": False,
    }
    if layout_of(architecture) in ("sequence", "token") and head is not None:
        return with_labels(published, source, head["outputs"])
    return published
