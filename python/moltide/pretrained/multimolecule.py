"""What the RNA models that multimolecule publishes have in common.

Source of names and semantics: multimolecule 0.2 (`PreTrainedConfig`, `MaskedLMHead`,
`SequencePredictionHead`, `TokenPredictionHead`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moltide.pretrained.architectures import Architectures, with_labels
from moltide.pretrained.json_files import Fields

PREFIX = "model."
LAYER = "encoder.layer.{i}."

# Names that every model has, whatever its blocks.
ENCODER = {
    "embed.tokens.weight": "embeddings.word_embeddings.weight",
    "embed.positions.weight": "embeddings.position_embeddings.weight",
    "embed.norm.weight": "embeddings.layer_norm.weight",
    "embed.norm.bias": "embeddings.layer_norm.bias",
    "layers.{i}.attn_norm.weight": LAYER + "attention.layer_norm.weight",
    "layers.{i}.attn_norm.bias": LAYER + "attention.layer_norm.bias",
    **{
        f"layers.{{i}}.attn.{ours}.{end}": f"{LAYER}attention.{theirs}.{end}"
        for ours, theirs in (
            *(("q", "self.query"), ("k", "self.key"), ("v", "self.value")),
            ("out", "output.dense"),
        )
        for end in ("weight", "bias")
    },
    "layers.{i}.mlp_norm.weight": LAYER + "layer_norm.weight",
    "layers.{i}.mlp_norm.bias": LAYER + "layer_norm.bias",
    "layers.{i}.mlp.down.weight": LAYER + "output.dense.weight",
    "layers.{i}.mlp.down.bias": LAYER + "output.dense.bias",
    "final_norm.weight": "encoder.layer_norm.weight",
    "final_norm.bias": "encoder.layer_norm.bias",
}
HEADS = {
    "lm": {
        "lm_head.dense.weight": "lm_head.transform.dense.weight",
        "lm_head.dense.bias": "lm_head.transform.dense.bias",
        "lm_head.norm.weight": "lm_head.transform.layer_norm.weight",
        "lm_head.norm.bias": "lm_head.transform.layer_norm.bias",
        "lm_head.decoder.weight": "lm_head.decoder.weight",
        "lm_head.bias": "lm_head.bias",
    },
    # The head of a sequence reads the pooler: the first token through a tanh layer.
    "sequence": {
        "head.dense.weight": "model.pooler.dense.weight",
        "head.dense.bias": "model.pooler.dense.bias",
        "head.out.weight": "sequence_head.decoder.weight",
        "head.out.bias": "sequence_head.decoder.bias",
    },
    "token": {
        "head.out.weight": "token_head.decoder.weight",
        "head.out.bias": "token_head.decoder.bias",
    },
}
HARMLESS = (
    (r"embeddings\.position_ids", "an index buffer, rebuilt from the config"),
    (r"pooler\.dense\.(weight|bias)", "a pooler that masked-LM training never trained"),
    (r"lm_head\.decoder\.bias", "a second name of lm_head.bias"),
    (r"ss_head\..*", "a head for secondary structure"),
    (r".*(rotary_embeddings\.inv_freq|canonical_token_ids)", "a buffer, rebuilt from the config"),
)
# ESM's training, and that of its kin, masked 15 % of the tokens and wrote <mask> over 80 % of them.
MASK_RATIO_TRAIN = 0.15 * 0.8


def architectures(stem: str) -> Architectures:
    """The classes of the family that multimolecule calls `stem`."""
    return Architectures(
        {
            f"{stem}ForSequencePrediction": "sequence",
            f"{stem}ForTokenPrediction": "token",
            f"{stem}ForMaskedLM": "lm",
            f"{stem}ForPreTraining": "lm",
            f"{stem}ForSecondaryStructurePrediction": "lm",
        },
        bare=f"{stem}Model",
        prefix=PREFIX,
    )


def common_config(fields: Fields, sizes: tuple[int, int, int], promised: frozenset[str]) -> Any:
    """The engine's config as far as the models agree, and notes.

    Args:
        sizes: default hidden_size, num_hidden_layers, num_attention_heads.

    Raises:
        CheckpointError: a head that multimolecule can make and the engine cannot, or a field
            outside its range.
    """
    width = fields.integer("hidden_size", sizes[0])
    heads = fields.integer("num_attention_heads", sizes[2])
    if width % heads or (width // heads) % 4:
        raise fields.refuse(
            "num_attention_heads", heads, f"hidden_size {width} / heads a multiple of 4"
        )
    eps = fields.number("layer_norm_eps", 1e-5, 0.0, 1.0)
    _check_head(fields)
    config: dict[str, Any] = {
        "layers": fields.integer("num_hidden_layers", sizes[1]),
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "max_positions": fields.integer("max_position_embeddings", 1026),
        "norm": "layernorm",
        "norm_place": "pre",
        "norm_eps": eps,
        "lm_norm_eps": _lm_norm_eps(fields, eps),
        "attention": "softmax",
        "mlp_bias": True,
        "mask_ratio_train": MASK_RATIO_TRAIN,
        "final_norm": True,
        "hidden_dropout": fields.number("hidden_dropout", 0.1, 0.0, 1.0),
        "attention_dropout": fields.number("attention_dropout", 0.1, 0.0, 1.0),
        "lm_head": "lm_head" in promised,
        "contact_head": False,
        "pad_token": fields.integer("pad_token_id", 0, 0),
        "mask_token": fields.integer("mask_token_id", 4, 0),
        "cls_token": fields.integer("bos_token_id", 1, 0),
        "eos_token": fields.integer("eos_token_id", 2, 0),
    }
    notes = []
    if any("SecondaryStructure" in name for name in fields.texts("architectures")):
        notes.append("the head for secondary structure is not used")
    return config, notes


def _check_head(fields: Fields) -> None:
    head = fields.values.get("head")
    if head is None:
        return
    if not isinstance(head, dict):
        raise fields.refuse("head", head, "an object")
    inner = Fields(head, f"{fields.where}: head")
    for name in ("transform", "act"):
        if head.get(name) not in (None, "identity"):
            raise inner.refuse(name, head[name], "null: one linear layer")
    if not inner.boolean("bias", True):
        raise inner.refuse("bias", False, "true")


def _lm_norm_eps(fields: Fields, eps: float) -> float:
    """Epsilon of the masked-LM head's norm, where it is another than the encoder's; else 0."""
    lm_head = fields.values.get("lm_head")
    if lm_head is None:
        return 0.0
    if not isinstance(lm_head, dict):
        raise fields.refuse("lm_head", lm_head, "an object")
    inner = Fields(lm_head, f"{fields.where}: lm_head")
    inner.choice("transform", "nonlinear", ("nonlinear",))
    inner.choice("transform_act", "gelu", ("gelu",))
    if lm_head.get("act") is not None:
        raise inner.refuse("act", lm_head["act"], "null")
    if not inner.boolean("bias", True):
        raise inner.refuse("bias", False, "true")
    own = inner.number("layer_norm_eps", eps, 0.0, 1.0)
    return 0.0 if own == eps else own


def second_bias(
    config: Mapping[str, Any], read: Callable[[str], np.ndarray], layout: str | None
) -> dict[str, np.ndarray]:
    """The bias of the masked-LM head under its second name, which an untied decoder asks for."""
    untied = layout == "lm" and not config["tie_lm_head"]
    return {"lm_head.decoder.bias": read("lm_head.bias")} if untied else {}


def common_published(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
    layout: str | None,
) -> dict[str, Any]:
    """A config.json as far as the models agree."""
    of_head = dict(source["lm_head"]) if isinstance(source.get("lm_head"), dict) else {}
    of_head["layer_norm_eps"] = config.get("lm_norm_eps") or config["norm_eps"]
    published = {
        **source,
        "architectures": [architecture],
        "vocab_size": config["vocab"],
        "hidden_size": config["width"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "max_position_embeddings": config["max_positions"],
        "position_embedding_type": "absolute" if config["position"] == "learned" else "rotary",
        "layer_norm_eps": config["norm_eps"],
        "lm_head": of_head,
        "hidden_dropout": config["hidden_dropout"],
        "attention_dropout": config["attention_dropout"],
        "token_dropout": config["token_dropout"],
        "tie_word_embeddings": config["tie_lm_head"],
        "pad_token_id": config["pad_token"],
        "mask_token_id": config["mask_token"],
        "bos_token_id": config["cls_token"],
        "eos_token_id": config["eos_token"],
    }
    if layout in ("sequence", "token") and head is not None:
        published = with_labels(published, source, head["outputs"])
        published["num_labels"] = head["outputs"]
        published["head"] = None
    return published
