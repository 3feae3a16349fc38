"""Uni-Mol2 (Ji et al. 2024, arXiv:2406.14969; `model_type` "unimol2" here, since its weights are
published without a config.json).

Source of names, sizes and semantics: UniMolV2Model of unimol_tools 0.1.6, which reads
modelzoo/<SIZE>/checkpoint.pt (huggingface.co/dptech/Uni-Mol2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moltide.conformers.generate import EFFORTS
from moltide.pretrained.architectures import Architectures, with_labels
from moltide.pretrained.families import Described
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import Fields
from moltide.pretrained.names import NameMap
from moltide.pretrained.safe_tensors import StoredTensor
from moltide.pretrained.unimol import head_config, head_layout
from moltide.tokenization.base import Tokenizer
from moltide.tokenization.molecule_graphs import ELEMENT_VOCABULARY, MoleculeGraphTokenizer

__all__ = ["head_config", "head_layout"]

_LAYER = "encoder.layers.{i}."
_KERNEL = "se3_invariant_kernel."
_TRIANGLE = _LAYER + "pair_tri_mul."


def _both(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


NAMES = NameMap(
    prefix="module.",
    encoder={
        "embed.tokens.weight": "embed_tokens.weight",
        "embed.atoms.weight": "atom_feature.atom_encoder.weight",
        "embed.degrees.weight": "atom_feature.degree_encoder.weight",
        "embed.virtual.weight": "atom_feature.vnode_encoder.weight",
        **_both("embed.norm", "encoder.layer_norm"),
        "pair.paths.weight": "edge_feature.shorest_path_encoder.weight",
        "pair.bonds.weight": "edge_feature.edge_encoder.weight",
        "pair.virtual.weight": "edge_feature.vnode_virtual_distance.weight",
        "pair.mul.weight": _KERNEL + "gaussian.mul.weight",
        "pair.bias.weight": _KERNEL + "gaussian.bias.weight",
        "pair.means": _KERNEL + "gaussian.mean",
        **_both("pair.hidden", _KERNEL + "out_proj.layer1"),
        **_both("pair.out", _KERNEL + "out_proj.layer2"),
        **_both("pair.norm", "encoder.pair_layer_norm"),
        **_both("layers.{i}.attn_norm", _LAYER + "self_attn_layer_norm"),
        **{f"layers.{{i}}.attn.{x}.weight": _LAYER + f"self_attn.linear_{x}.weight" for x in "qkv"},
        **_both("layers.{i}.attn.out", _LAYER + "self_attn.linear_o"),
        **_both("layers.{i}.attn.pair", _LAYER + "self_attn.linear_bias"),
        **_both("layers.{i}.mlp_norm", _LAYER + "final_layer_norm"),
        **_both("layers.{i}.mlp.up", _LAYER + "ffn.linear_1"),
        **_both("layers.{i}.mlp.down", _LAYER + "ffn.linear_2"),
        **_both("layers.{i}.outer_norm", _LAYER + "x_layer_norm_opm"),
        **_both("layers.{i}.outer.in", _LAYER + "opm.linear_in"),
        **_both("layers.{i}.outer.out", _LAYER + "opm.linear_out"),
        **_both("layers.{i}.triangle_norm", _LAYER + "pair_layer_norm_trimul"),
        **_both("layers.{i}.triangle.ab", _TRIANGLE + "linear_ab_p"),
        **_both("layers.{i}.triangle.ab_gate", _TRIANGLE + "linear_ab_g"),
        **_both("layers.{i}.triangle.gate", _TRIANGLE + "linear_g"),
        **_both("layers.{i}.triangle.out_norm", _TRIANGLE + "layer_norm_out"),
        **_both("layers.{i}.triangle.out", _TRIANGLE + "linear_z"),
        **_both("layers.{i}.pair_mlp_norm", _LAYER + "pair_layer_norm_ffn"),
        **_both("layers.{i}.pair_mlp.up", _LAYER + "pair_ffn.linear_1"),
        **_both("layers.{i}.pair_mlp.down", _LAYER + "pair_ffn.linear_2"),
    },
    heads={
        "sequence": {
            **_both("head.dense", "classification_head.dense"),
            **_both("head.out", "classification_head.out_proj"),
        },
    },
    # The head that moves atoms in pretraining.
    kept=(r"movement_pred_head\..*",),
)

_CLASSES = Architectures(layouts={"UniMolV2Model": "sequence"}, bare="UniMolV2Encoder", prefix="")
layout_of, prefix_for = _CLASSES.layout_of, _CLASSES.prefix_for

# layers, width, heads; the inner layer of the MLP is as wide as the model.
_SIZES = {
    "84m": (12, 768, 48),
    "164m": (24, 768, 48),
    "310m": (32, 1024, 64),
    "570m": (32, 1536, 96),
    "1.1B": (64, 1536, 96),
}
_FILES = {f"modelzoo/{size.upper()}/checkpoint.pt": size for size in _SIZES}
BARE_WEIGHTS = {
    name: {"model_type": "unimol2", "model_size": size} for name, size in _FILES.items()
}


def weights(published: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the PyTorch files that these weights are published under."""
    size = published.get("model_size")
    return (*(name for name, one in _FILES.items() if one == size), "checkpoint.pt")


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read sizes, by name (`model_size`) or one by one as unimol_tools calls them.

    Raises:
        CheckpointError: another size or activation, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = _CLASSES.promised(published, fields)
    fields.choice("activation_fn", "gelu", ("gelu",))
    fields.number("gaussian_std_width", 1.0, 1.0, 1.0)
    sizes = _SIZES[fields.choice("model_size", "84m", tuple(_SIZES))]
    layers, width, heads = (
        fields.integer(name, size)
        for name, size in zip(
            ("num_encoder_layers", "encoder_embed_dim", "num_attention_heads"), sizes, strict=True
        )
    )
    if width % heads or (width // heads) % 4:
        raise fields.refuse(
            "num_attention_heads", heads, f"encoder_embed_dim {width} / heads a multiple of 4"
        )
    config: dict[str, Any] = {
        "layers": layers,
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        # Published code rounds to whole multiples of the width.
        "ffn_width": fields.integer("ffn_embedding_dim", width, width) // width * width,
        "vocab": len(ELEMENT_VOCABULARY),
        "position": "none",
        "norm": "layernorm",
        "norm_place": "pre",
        "norm_eps": 1e-5,
        "qk_norm": False,
        "activation": "gelu",
        "attention": "softmax_pair_bias",
        "pair_basis": fields.integer("num_kernels", 128, 2),
        "pair_width": fields.integer("pair_embed_dim", 512),
        "pair_hidden": fields.integer("pair_hidden_dim", 64),
        "pair_dropout": fields.number("pair_dropout", 0.25, 0.0, 1.0),
        "attn_bias": True,
        "qkv_bias": False,
        "mlp_bias": True,
        "residual_scale": 1.0,
        "token_dropout": False,
        "embed_norm": True,
        "final_norm": False,
        "hidden_dropout": fields.number("dropout", 0.1, 0.0, 1.0),
        "attention_dropout": fields.number("attention_dropout", 0.1, 0.0, 1.0),
        "embed_dropout": 0.0,
        "lm_head": False,
        "tie_lm_head": False,
        "contact_head": False,
        "pad_token": 0,
        "mask_token": ELEMENT_VOCABULARY.index("[MASK]"),
        "cls_token": 0,
        "eos_token": -1,
    }
    # The class has a head whether weights of one were published or not.
    return Described(config, promised - {"head"})


def read_tokenizer(
    files: Files, config: dict[str, Any], published: Mapping[str, Any], notes: list[str]
) -> Tokenizer:
    """The periodic table, and how conformers are made.

    Raises:
        CheckpointError: a field outside its range.
    """
    fields = Fields(published, files.where)
    return MoleculeGraphTokenizer(
        seed=fields.integer("conformer_seed", 42, 0),
        effort=fields.choice("conformer_mode", "fast", EFFORTS),
    )


def fold(
    published: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    kept: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Published code never reads the row of id 0, which the engine's first token has: zero."""
    stored = tensors.get("embed.tokens.weight")
    if stored is None or stored.shape[0] != len(ELEMENT_VOCABULARY):
        return {}
    table = stored.read_finite()
    if not table[0].any():
        return {}
    kept["embed_tokens.row_0"] = table[0].copy()
    table[0] = 0
    return {"embed.tokens.weight": table}


def architecture_for(
    config: Mapping[str, Any], head: Mapping[str, Any] | None, wanted: str | None
) -> str:
    """Class name to publish under.

    Raises:
        ConfigError: `wanted` cannot hold this model.
    """
    return _CLASSES.choose(config, head, wanted, head_layout)


def unfold(
    config: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
    architecture: str,
) -> dict[str, np.ndarray]:
    """The head of pretraining and the row that nobody reads, as they were."""
    found = {name: values for name, values in kept.items() if name != "embed_tokens.row_0"}
    if "embed_tokens.row_0" in kept:
        table = read("embed.tokens.weight").copy()
        table[0] = kept["embed_tokens.row_0"]
        found["embed_tokens.weight"] = table
    return found


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """Sizes and dropout under unimol_tools' names; other fields of `source` are kept."""
    published = {
        "conformer_mode": "fast",
        "conformer_seed": 42,
        **source,
        "architectures": [architecture],
        "model_type": "unimol2",
        "num_encoder_layers": config["layers"],
        "encoder_embed_dim": config["width"],
        "num_attention_heads": config["heads"],
        "ffn_embedding_dim": config["ffn_width"],
        "num_kernels": config["pair_basis"],
        "pair_embed_dim": config["pair_width"],
        "pair_hidden_dim": config["pair_hidden"],
        "activation_fn": "gelu",
        "dropout": config["hidden_dropout"],
        "attention_dropout": config["attention_dropout"],
        "pair_dropout": config["pair_dropout"],
    }
    if layout_of(architecture) == "sequence" and head is not None:
        return with_labels(published, source, head["outputs"])
    return published
