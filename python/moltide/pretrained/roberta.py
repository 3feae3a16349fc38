"""The Transformers layout of RoBERTa (`model_type` "roberta"), which ChemBERTa is published in.

Source of names and semantics: Transformers' RobertaModel, RobertaForMaskedLM,
RobertaForSequenceClassification and RobertaForTokenClassification, releases 3.0 to 5.23, and
RobertaForRegression of the ChemBERTa-2 authors (Ahmad et al. 2022, arXiv:2209.01712), whose head
is the classifier under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moltide.errors import CheckpointError
from moltide.kinds import MOLECULE
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
from moltide.pretrained.safe_tensors import StoredTensor

__all__ = ["architecture_for", "head_config", "head_layout", "layout_of", "prefix_for"]

_LAYER = "encoder.layer.{i}."
_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
# Transformers adds this bias to the logits; lm_head.bias is the same tensor if the decoder is tied.
_BIAS = "lm_head.decoder.bias"

NAMES = NameMap(
    prefix="roberta.",
    encoder={
        "embed.tokens.weight": "embeddings.word_embeddings.weight",
        "embed.positions.weight": _POSITIONS,
        "embed.norm.weight": "embeddings.LayerNorm.weight",
        "embed.norm.bias": "embeddings.LayerNorm.bias",
        "layers.{i}.attn.q.weight": _LAYER + "attention.self.query.weight",
        "layers.{i}.attn.q.bias": _LAYER + "attention.self.query.bias",
        "layers.{i}.attn.k.weight": _LAYER + "attention.self.key.weight",
        "layers.{i}.attn.k.bias": _LAYER + "attention.self.key.bias",
        "layers.{i}.attn.v.weight": _LAYER + "attention.self.value.weight",
        "layers.{i}.attn.v.bias": _LAYER + "attention.self.value.bias",
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
        "regression": {
            "head.dense.weight": "regression.dense.weight",
            "head.dense.bias": "regression.dense.bias",
            "head.out.weight": "regression.out_proj.weight",
            "head.out.bias": "regression.out_proj.bias",
        },
    },
    spellings=((r"\.gamma$", ".weight"), (r"\.beta$", ".bias")),
    harmless=(
        (r"embeddings\.(position|token_type)_ids", "an index buffer, rebuilt from the config"),
        (r"pooler\.dense\.(weight|bias)", "a pooler that masked-LM training never trained"),
        (r"norm_(mean|std)", "scales of RobertaForRegression's targets, also in its config.json"),
    ),
    kept=(_TYPES.replace(".", r"\."), _BIAS.replace(".", r"\.")),
)

ARCHITECTURES = Architectures(
    {
        "RobertaForSequenceClassification": "sequence",
        "RobertaForTokenClassification": "token",
        "RobertaForMaskedLM": "lm",
        "RobertaForRegression": "regression",
    },
    bare="RobertaModel",
    prefix=NAMES.prefix,
)
architecture_for, layout_of, prefix_for = (
    *(ARCHITECTURES.choose, ARCHITECTURES.layout_of, ARCHITECTURES.prefix_for),
)
READS = Reads(MOLECULE, pads=False)


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of RobertaConfig that change a result; defaults are those of Transformers.

    Raises:
        CheckpointError: a decoder, quantised weights, another activation or kind of positions than
            the engine has, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = ARCHITECTURES.promised(published, fields)
    width = fields.integer("hidden_size", 768)
    heads = fields.integer("num_attention_heads", 12)
    if width % heads or (width // heads) % 4:
        raise fields.refuse(
            "num_attention_heads", heads, f"hidden_size {width} / heads a multiple of 4"
        )
    fields.choice("position_embedding_type", "absolute", ("absolute",))
    # The masked-LM head computes with the erf GELU whatever this says.
    activation = fields.choice("hidden_act", "gelu", ("gelu", "relu"))
    # Position ids start after the padding id, so the table's first rows are never looked up.
    pad = fields.integer("pad_token_id", 1, 0)
    rows = fields.integer("max_position_embeddings", 512)
    if rows <= pad + 1:
        raise fields.refuse("max_position_embeddings", rows, "more than pad_token_id + 1")
    dropout = fields.number("hidden_dropout_prob", 0.1, 0.0, 1.0)
    notes = []
    if published.get("norm_mean"):
        notes.append(
            "predictions are scaled as in training: config.json's norm_std and norm_mean undo it"
        )
    cls, eos = fields.values.get("bos_token_id"), fields.values.get("eos_token_id")
    config: dict[str, Any] = {
        "layers": fields.integer("num_hidden_layers", 12),
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "ffn_width": fields.integer("intermediate_size", 3072),
        "vocab": fields.integer("vocab_size", 50265),
        "position": "learned",
        "max_positions": rows,
        "position_offset": pad + 1,
        "norm": "layernorm",
        "norm_place": "post",
        "norm_eps": fields.number("layer_norm_eps", 1e-12, 0.0, 1.0),
        "activation": activation,
        "attention": "softmax",
        "attn_bias": True,
        "mlp_bias": True,
        "token_dropout": False,
        "embed_norm": True,
        "final_norm": False,
        "embed_dropout": dropout,
        "hidden_dropout": dropout,
        "attention_dropout": fields.number("attention_probs_dropout_prob", 0.1, 0.0, 1.0),
        "lm_head": "lm_head" in promised,
        "tie_lm_head": fields.boolean("tie_word_embeddings", True),
        "contact_head": False,
        "pad_token": pad,
        "mask_token": -1,
        "cls_token": cls if isinstance(cls, int) else 0,
        "eos_token": eos if isinstance(eos, int) else 2,
    }
    return Described(config, promised, notes)


def fold(
    published: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    kept: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Positions with the first token type added: one sequence has no other. Both tables as they
    were stay in `kept`. The decoder's own bias counts where there are two."""
    computed = {"lm_head.bias": kept.pop(_BIAS)} if _BIAS in kept else {}
    types, stored = kept.get(_TYPES), tensors.get("embed.positions.weight")
    if types is None or stored is None or len(stored.shape) != 2:
        return computed
    expected = (published.get("type_vocab_size", 2), stored.shape[1])
    if types.shape != expected:
        raise CheckpointError(
            f"{stored.path}: tensor {_TYPES!r} has shape {list(types.shape)}, config.json says "
            f"{list(expected)}"
        )
    kept[_POSITIONS] = stored.read_finite()
    return {**computed, "embed.positions.weight": kept[_POSITIONS] + types[0]}


def unfold(
    config: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
    architecture: str,
) -> dict[str, np.ndarray]:
    """The tables of positions and token types: as they were stored, or, where the positions have
    been trained since, with the first type in the positions, so that no sum is rounded twice. And
    the decoder's bias, where Transformers does not tie it."""
    prefix = prefix_for(architecture)
    untied = layout_of(architecture) == "lm" and not config["tie_lm_head"]
    bias = {_BIAS: read("lm_head.bias")} if untied else {}
    positions = read("embed.positions.weight")
    types = kept.get(_TYPES, np.zeros((1, config["width"]), dtype=np.float32))
    before = kept.get(_POSITIONS)
    if before is not None and np.array_equal(before + types[0], positions):
        return {**bias, prefix + _POSITIONS: before, prefix + _TYPES: types}
    return {**bias, prefix + _POSITIONS: positions, prefix + _TYPES: types - types[0]}


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json that Transformers reads; fields of `source` that we do not set are kept."""
    published = {
        "bos_token_id": config["cls_token"],
        "eos_token_id": config["eos_token"],
        "type_vocab_size": 1,
        **source,
        "architectures": [architecture],
        "model_type": "roberta",
        "vocab_size": config["vocab"],
        "hidden_size": config["width"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "intermediate_size": config["ffn_width"],
        "max_position_embeddings": config["max_positions"],
        "position_embedding_type": "absolute",
        "layer_norm_eps": config["norm_eps"],
        "hidden_act": config["activation"],
        "hidden_dropout_prob": config["hidden_dropout"],
        "attention_probs_dropout_prob": config["attention_dropout"],
        "tie_word_embeddings": config["tie_lm_head"],
        # It says where positions start; the tokenizer's own may be another.
        "pad_token_id": config["position_offset"] - 1,
    }
    if layout_of(architecture) in ("sequence", "token") and head is not None:
        return with_labels(published, source, head["outputs"])
    return published
