"""MoLFormer (Ross et al. 2022, doi:10.1038/s42256-022-00580-7; `model_type` "molformer").

Source of names and semantics: the published config.json and tensor names of
ibm-research/MoLFormer-XL-both-10pct, whose classes are not part of Transformers but custom code
beside the weights (`auto_map`). That code is never run: this module and the engine stand for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moltide.errors import CheckpointError, ConfigError
from moltide.kinds import MOLECULE
from moltide.pretrained.families import Described
from moltide.pretrained.json_files import Fields
from moltide.pretrained.names import NameMap
from moltide.pretrained.reads import Reads
from moltide.tokenization.smiles_pattern import MOLFORMER_PATTERN

_LAYER = "encoder.layer.{i}."

NAMES = NameMap(
    prefix="molformer.",
    encoder={
        "embed.tokens.weight": "embeddings.word_embeddings.weight",
        "layers.{i}.attn.q.weight": _LAYER + "attention.self.query.weight",
        "layers.{i}.attn.q.bias": _LAYER + "attention.self.query.bias",
        "layers.{i}.attn.k.weight": _LAYER + "attention.self.key.weight",
        "layers.{i}.attn.k.bias": _LAYER + "attention.self.key.bias",
        "layers.{i}.attn.v.weight": _LAYER + "attention.self.value.weight",
        "layers.{i}.attn.v.bias": _LAYER + "attention.self.value.bias",
        "layers.{i}.attn.features": _LAYER + "attention.self.feature_map.weight",
        "layers.{i}.attn.out.weight": _LAYER + "attention.output.dense.weight",
        "layers.{i}.attn.out.bias": _LAYER + "attention.output.dense.bias",
        "layers.{i}.attn_norm.weight": _LAYER + "attention.output.LayerNorm.weight",
        "layers.{i}.attn_norm.bias": _LAYER + "attention.output.LayerNorm.bias",
        "layers.{i}.mlp.up.weight": _LAYER + "intermediate.dense.weight",
        "layers.{i}.mlp.up.bias": _LAYER + "intermediate.dense.bias",
        "layers.{i}.mlp.down.weight": _LAYER + "output.dense.weight",
        "layers.{i}.mlp.down.bias": _LAYER + "output.dense.bias",
        "layers.{i}.mlp_norm.weight": _LAYER + "output.LayerNorm.weight",
        "layers.{i}.mlp_norm.bias": _LAYER + "output.LayerNorm.bias",
        "final_norm.weight": "LayerNorm.weight",
        "final_norm.bias": "LayerNorm.bias",
    },
    heads={
        "lm": {
            "lm_head.dense.weight": "lm_head.transform.dense.weight",
            "lm_head.dense.bias": "lm_head.transform.dense.bias",
            "lm_head.norm.weight": "lm_head.transform.LayerNorm.weight",
            "lm_head.norm.bias": "lm_head.transform.LayerNorm.bias",
            "lm_head.decoder.weight": "lm_head.decoder.weight",
        },
        "sequence": {
            "head.dense.weight": "classifier.dense.weight",
            "head.dense.bias": "classifier.dense.bias",
            "head.dense2.weight": "classifier.dense2.weight",
            "head.dense2.bias": "classifier.dense2.bias",
            "head.out.weight": "classifier.out_proj.weight",
            "head.out.bias": "classifier.out_proj.bias",
        },
    },
    rope_frequencies=r"(.*\.)?rotary_embeddings\.inv_freq",
    harmless=(
        (r"(.*\.)?rotary_embeddings\.(cos|sin)_cached", "a table, rebuilt from the config"),
        (r"embeddings\.position_ids", "an index buffer, rebuilt from the config"),
    ),
)

READS = Reads(MOLECULE, pattern=MOLFORMER_PATTERN)

_ARCHITECTURES = {
    "MolformerModel": frozenset[str](),
    "MolformerForMaskedLM": frozenset({"lm_head"}),
    "MolformerForSequenceClassification": frozenset({"head"}),
}

# Where the published custom code lies, for those who load a saved folder with it.
_CUSTOM_CODE = {
    "AutoConfig": "configuration_molformer.MolformerConfig",
    "AutoModel": "modeling_molformer.MolformerModel",
    "AutoModelForMaskedLM": "modeling_molformer.MolformerForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_molformer.MolformerForSequenceClassification",
}


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of MolformerConfig that change a result; defaults are the published ones.

    Raises:
        CheckpointError: another activation or feature map than the published GELU and ramp,
            quantised weights, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = _architecture(published, fields)
    width = fields.integer("hidden_size", 768)
    heads = fields.integer("num_attention_heads", 12)
    if width % heads or (width // heads) % 4:
        raise fields.refuse(
            "num_attention_heads", heads, f"hidden_size {width} / heads a multiple of 4"
        )
    fields.choice("hidden_act", "gelu", ("gelu",))
    fields.choice("feature_map_kernel", "relu", ("relu",))
    if not fields.boolean("classifier_skip_connection", True) and "head" in promised:
        raise fields.refuse("classifier_skip_connection", False, "true")
    notes = []
    if published.get("auto_map"):
        notes.append(
            "config.json names custom code (auto_map); it is not run: the engine has MoLFormer "
            "built in"
        )
    if not fields.boolean("deterministic_eval", False):
        notes.append(
            "the random features stored with the weights are used for every result, as published "
            "with deterministic_eval=True; training draws new ones each step"
        )
    mask = fields.optional_integer("mask_token_id")
    eos, bos = fields.optional_integer("eos_token_id"), fields.optional_integer("bos_token_id")
    config: dict[str, Any] = {
        "layers": fields.integer("num_hidden_layers", 12),
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "ffn_width": fields.integer("intermediate_size", 768),
        "vocab": fields.integer("vocab_size", 2362),
        "position": "rotary",
        # Tokens of the longest sequence it was trained on; rotary positions reach further.
        "max_positions": fields.integer("max_position_embeddings", 202),
        "position_offset": 0,
        "rope_base": 10000.0,
        "rope_inv_freq": [],
        "norm": "layernorm",
        "norm_place": "post",
        "norm_eps": fields.number("layer_norm_eps", 1e-12, 0.0, 1.0),
        "qk_norm": False,
        "activation": "gelu",
        "attention": "linear",
        "features": fields.integer("num_random_features", 32, 1, 256),
        "linear_eps": fields.number("linear_attention_eps", 1e-6, 0.0, 1.0),
        "attn_bias": True,
        "mlp_bias": True,
        "residual_scale": 1.0,
        "token_dropout": False,
        "mask_ratio_train": 0.12,
        "embed_norm": False,
        "final_norm": True,
        "hidden_dropout": fields.number("hidden_dropout_prob", 0.1, 0.0, 1.0),
        "attention_dropout": 0.0,
        "embed_dropout": fields.number("embedding_dropout_prob", 0.2, 0.0, 1.0),
        "lm_head": "lm_head" in promised,
        "lm_bias": False,
        "tie_lm_head": fields.boolean("tie_word_embeddings", False),
        "contact_head": False,
        "pool_specials": True,
        "pad_token": fields.integer("pad_token_id", 2, 0),
        "mask_token": -1 if mask is None else mask,
        "cls_token": 0 if bos is None else bos,
        "eos_token": 1 if eos is None else eos,
    }
    return Described(config, promised, notes)


def _architecture(published: Mapping[str, Any], fields: Fields) -> frozenset[str]:
    """The groups of tensors that the published class promises; refuses classes we cannot run."""
    names = fields.texts("architectures")
    if published.get("is_decoder"):
        raise fields.refuse("is_decoder", True, "false; only encoders are read")
    if published.get("quantization_config"):
        raise CheckpointError(
            f"{fields.where}: quantised weights (quantization_config); load the original weights"
        )
    known = [name for name in names if name in _ARCHITECTURES]
    if names and not known:
        raise fields.refuse("architectures", names, ", ".join(_ARCHITECTURES))
    return _ARCHITECTURES[known[0]] if known else frozenset()


def head_config(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """MolformerForSequenceClassification reads the mean through two layers with connections."""
    if "head.out.weight" not in shapes:
        return None
    return {
        "pool": "mean",
        "form": "skip",
        "hidden": config["width"],
        "outputs": shapes["head.out.weight"][0],
        "dropout": config["hidden_dropout"],
        "log_sigma": False,
    }


def head_layout(config: Mapping[str, Any], head: Mapping[str, Any] | None) -> str | None:
    """Which published head layout can hold `head`: "sequence" or None."""
    if head is None or head.get("log_sigma"):
        return None
    fits = head.get("form") == "skip" and head["pool"] == "mean"
    return "sequence" if fits and head["hidden"] == config["width"] else None


_LAYOUT_OF = {
    "MolformerForSequenceClassification": "sequence",
    "MolformerForMaskedLM": "lm",
}


def layout_of(architecture: str) -> str | None:
    """The head layout of a published class: a key of `NAMES.heads`, None for the bare encoder."""
    return _LAYOUT_OF.get(architecture)


def architecture_for(
    config: Mapping[str, Any], head: Mapping[str, Any] | None, wanted: str | None
) -> str:
    """Class name to publish under: the head's class if it has a published form, else the masked-LM.

    Raises:
        ConfigError: `wanted` cannot hold this model.
    """
    layouts = {head_layout(config, head), "lm" if config["lm_head"] else None}
    possible = [name for name, held in _LAYOUT_OF.items() if held in layouts]
    possible.append("MolformerModel")
    if wanted is None:
        return possible[0]
    if wanted not in possible:
        raise ConfigError(
            f"architecture is {wanted!r}; allowed for this model: {', '.join(possible)}"
        )
    return wanted


def prefix_for(architecture: str) -> str:
    """MolformerModel writes its tensors bare; every class around it writes `molformer.` before."""
    return "" if architecture == "MolformerModel" else NAMES.prefix


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json that the published code reads; fields of `source` not set here are kept."""
    published = {
        "auto_map": _CUSTOM_CODE,
        "deterministic_eval": True,
        **source,
        "architectures": [architecture],
        "model_type": "molformer",
        "vocab_size": config["vocab"],
        "hidden_size": config["width"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "intermediate_size": config["ffn_width"],
        "max_position_embeddings": config["max_positions"],
        "layer_norm_eps": config["norm_eps"],
        "linear_attention_eps": config["linear_eps"],
        "num_random_features": config["features"],
        "feature_map_kernel": "relu",
        "hidden_act": "gelu",
        "hidden_dropout_prob": config["hidden_dropout"],
        "embedding_dropout_prob": config["embed_dropout"],
        "tie_word_embeddings": config["tie_lm_head"],
        "pad_token_id": config["pad_token"],
        "bos_token_id": config["cls_token"],
        "eos_token_id": config["eos_token"],
    }
    if config["mask_token"] >= 0:
        published["mask_token_id"] = config["mask_token"]
    if layout_of(architecture) == "sequence" and head is not None:
        labels = source.get("id2label")
        if not isinstance(labels, dict) or len(labels) != head["outputs"]:
            labels = {str(index): f"LABEL_{index}" for index in range(head["outputs"])}
        published["id2label"] = labels
        published["label2id"] = {name: int(index) for index, name in labels.items()}
    return published
