"""Uni-Mol (Zhou et al., ICLR 2023, openreview 6K2RM6wVqKu; `model_type` "unimol").

Source of names and semantics: the tensor names of mol_pre_all_h_220816.pt and
mol_pre_no_h_220816.pt (github.com/deepmodeling/Uni-Mol), which are published without a config.json,
and the configuration and dictionary that unimol_tools 0.1.6 writes beside them. Molecules alone:
the models of pockets, proteins and crystals read other things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moltide.conformers.generate import EFFORTS
from moltide.errors import CheckpointError
from moltide.pretrained.architectures import Architectures, with_labels
from moltide.pretrained.families import Described
from moltide.pretrained.files import Files
from moltide.pretrained.json_files import Fields
from moltide.pretrained.names import NameMap
from moltide.pretrained.tokenizer_settings import read_text
from moltide.tokenization.atoms import SPECIALS, AtomTokenizer
from moltide.tokenization.base import FRAME, Tokenizer

_LAYER = "encoder.layers.{i}."
_ATTENTION = _LAYER + "self_attn."
_FUSED = _ATTENTION + "in_proj"

NAMES = NameMap(
    prefix="unimol.",
    encoder={
        "embed.tokens.weight": "embed_tokens.weight",
        "embed.norm.weight": "encoder.emb_layer_norm.weight",
        "embed.norm.bias": "encoder.emb_layer_norm.bias",
        "pair.mul.weight": "gbf.mul.weight",
        "pair.bias.weight": "gbf.bias.weight",
        "pair.means.weight": "gbf.means.weight",
        "pair.stds.weight": "gbf.stds.weight",
        "pair.hidden.weight": "gbf_proj.linear1.weight",
        "pair.hidden.bias": "gbf_proj.linear1.bias",
        "pair.heads.weight": "gbf_proj.linear2.weight",
        "pair.heads.bias": "gbf_proj.linear2.bias",
        "layers.{i}.attn_norm.weight": _LAYER + "self_attn_layer_norm.weight",
        "layers.{i}.attn_norm.bias": _LAYER + "self_attn_layer_norm.bias",
        # Names of the three parts of in_proj (`joined` below), for adapters.
        **{
            f"layers.{{i}}.attn.{part}.{kind}": f"{_FUSED}.{part}.{kind}"
            for part in "qkv"
            for kind in ("weight", "bias")
        },
        "layers.{i}.attn.out.weight": _ATTENTION + "out_proj.weight",
        "layers.{i}.attn.out.bias": _ATTENTION + "out_proj.bias",
        "layers.{i}.mlp_norm.weight": _LAYER + "final_layer_norm.weight",
        "layers.{i}.mlp_norm.bias": _LAYER + "final_layer_norm.bias",
        "layers.{i}.mlp.up.weight": _LAYER + "fc1.weight",
        "layers.{i}.mlp.up.bias": _LAYER + "fc1.bias",
        "layers.{i}.mlp.down.weight": _LAYER + "fc2.weight",
        "layers.{i}.mlp.down.bias": _LAYER + "fc2.bias",
        "final_norm.weight": "encoder.final_layer_norm.weight",
        "final_norm.bias": "encoder.final_layer_norm.bias",
    },
    heads={
        "lm": {
            "lm_head.dense.weight": "lm_head.dense.weight",
            "lm_head.dense.bias": "lm_head.dense.bias",
            "lm_head.norm.weight": "lm_head.layer_norm.weight",
            "lm_head.norm.bias": "lm_head.layer_norm.bias",
            "lm_head.decoder.weight": "lm_head.weight",
            "lm_head.bias": "lm_head.bias",
        },
        "sequence": {
            "head.dense.weight": "classification_head.dense.weight",
            "head.dense.bias": "classification_head.dense.bias",
            "head.out.weight": "classification_head.out_proj.weight",
            "head.out.bias": "classification_head.out_proj.bias",
        },
    },
    # The heads that pretraining restored coordinates and distances with, and the norm before them.
    kept=(r"(pair2coord_proj|dist_head|encoder\.final_head_layer_norm)\..*",),
    joined={
        f"{_FUSED}.{kind}": tuple(f"layers.{{i}}.attn.{part}.{kind}" for part in "qkv")
        for kind in ("weight", "bias")
    },
)

_CLASSES = Architectures(
    layouts={
        "UnimolForSequenceClassification": "sequence",
        "UnimolForMaskedLM": "lm",
    },
    bare="UnimolModel",
    prefix="",
)
layout_of, prefix_for = _CLASSES.layout_of, _CLASSES.prefix_for

_KERNELS = 128  # Gaussians of a distance, the same in all published models
_ALL_H, _NO_H = "mol_pre_all_h_220816.pt", "mol_pre_no_h_220816.pt"
_DICTIONARIES = ("dict.txt", "mol.dict.txt")
# Sizes are the defaults of `config_from_published`.
BARE_WEIGHTS = {
    name: {"model_type": "unimol", "weight_name": name, "remove_hs": name == _NO_H}
    for name in (_ALL_H, _NO_H)
}


def weights(published: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the PyTorch files that these weights are published under, the likeliest first."""
    named = published.get("weight_name")
    usual = (_NO_H, _ALL_H) if published.get("remove_hs") else (_ALL_H, _NO_H)
    plain = isinstance(named, str) and named.endswith(".pt") and "/" not in named
    return (str(named), *usual) if plain else usual


def config_from_published(published: Mapping[str, Any], where: str) -> Described:
    """Read the fields of UnimolConfig that change a result; defaults are the published model's.

    Raises:
        CheckpointError: a model of something else than molecules, another activation, quantised
            weights, or a field outside its range.
    """
    fields = Fields(published, where)
    promised = _CLASSES.promised(published, fields)
    fields.choice("data_type", "molecule", ("molecule",))
    fields.choice("activation_fn", "gelu", ("gelu",))
    width = fields.integer("hidden_size", 512)
    heads = fields.integer("num_attention_heads", 64)
    if width % heads or (width // heads) % 4:
        raise fields.refuse(
            "num_attention_heads", heads, f"hidden_size {width} / heads a multiple of 4"
        )
    config: dict[str, Any] = {
        "layers": fields.integer("num_hidden_layers", 15),
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "ffn_width": fields.integer("intermediate_size", 2048),
        "vocab": fields.integer("vocab_size", 31),
        "position": "none",
        "max_positions": fields.integer("max_position_embeddings", 512, FRAME + 1),
        "position_offset": 0,
        "rope_base": 10000.0,
        "rope_inv_freq": [],
        "norm": "layernorm",
        "norm_place": "pre",
        "norm_eps": 1e-5,
        "qk_norm": False,
        "activation": "gelu",
        "attention": "softmax_pair_bias",
        "pair_basis": _KERNELS,
        "attn_bias": True,
        "mlp_bias": True,
        "residual_scale": 1.0,
        "token_dropout": False,
        "mask_ratio_train": 0.12,
        "embed_norm": True,
        "final_norm": True,
        "hidden_dropout": fields.number("hidden_dropout_prob", 0.1, 0.0, 1.0),
        "attention_dropout": fields.number("attention_dropout_prob", 0.1, 0.0, 1.0),
        "embed_dropout": fields.number("embedding_dropout_prob", 0.1, 0.0, 1.0),
        "lm_head": False,
        "tie_lm_head": False,
        "contact_head": False,
        "pad_token": fields.integer("pad_token_id", 0, 0),
        "mask_token": -1,
        "cls_token": fields.integer("bos_token_id", 1, 0),
        "eos_token": fields.integer("eos_token_id", 2, 0),
    }
    return Described(config, promised - {"lm_head"})


def read_tokenizer(
    files: Files, config: dict[str, Any], published: Mapping[str, Any], notes: list[str]
) -> Tokenizer:
    """The dictionary and how conformers are made; `config`'s special ids are settled by it.

    Raises:
        CheckpointError: no dictionary, one that contradicts config.json, or a field outside its
            range.
    """
    fields = Fields(published, files.where)
    named = published.get("dict_name")
    names = [named] if isinstance(named, str) and "/" not in named else []
    path = next((p for name in [*names, *_DICTIONARIES] if (p := files.get(name))), None)
    if path is None:
        looked = ", ".join(_DICTIONARIES)
        raise CheckpointError(f"{files.where}: no dictionary; looked for {looked}")
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    # A count may stand behind each token.
    vocabulary = _in_order([line.split()[0] for line in lines], published, str(path))
    if len(vocabulary) != config["vocab"]:
        raise CheckpointError(
            f"{path}: {len(vocabulary)} tokens with {SPECIALS['mask_token']}, config.json says "
            f"vocab_size {config['vocab']}"
        )
    tokenizer = AtomTokenizer(
        vocabulary,
        where=str(path),
        remove_hydrogens=fields.boolean("remove_hs", False),
        seed=fields.integer("conformer_seed", 42, 0),
        effort=fields.choice("conformer_mode", "fast", EFFORTS),
        most_atoms=config["max_positions"] - FRAME,
    )
    config.update(cls_token=tokenizer.cls_id, eos_token=tokenizer.eos_id)
    config.update(pad_token=tokenizer.pad_id, mask_token=tokenizer.mask_id)
    if files.has(_ALL_H) and files.has(_NO_H) and "weight_name" in published:
        notes.append(
            f"the weights are those of {published['weight_name']}; a config.json with "
            '{"model_type": "unimol", "remove_hs": true} chooses those without hydrogens'
        )
    return tokenizer


def _in_order(listed: list[str], published: Mapping[str, Any], where: str) -> list[str]:
    """Tokens in id order, the mask last.

    Published weights number tokens as the dictionary lists them. unimol_tools numbers the special
    ones first and says so in config.json: what is said there of all four counts.
    """
    mask = SPECIALS["mask_token"]
    tokens = [token for token in listed if token != mask]
    keys = {
        "bos_token_id": "cls_token",
        "unk_token_id": "unk_token",
        "pad_token_id": "pad_token",
        "eos_token_id": "eos_token",
    }
    said = {published[key]: SPECIALS[name] for key, name in keys.items() if key in published}
    if len(said) == len(keys):
        if sorted(said) != list(range(len(keys))):
            raise CheckpointError(
                f"{where}: config.json gives the special tokens the ids {sorted(said)}; allowed "
                f"are 0 to {len(keys) - 1}"
            )
        rest = [token for token in tokens if token not in said.values()]
        tokens = [said[index] for index in sorted(said)] + rest
    return [*tokens, mask]


def head_config(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """unimol_tools reads [CLS] through one linear layer; before, through a tanh layer first."""
    if "head.out.weight" not in shapes:
        return None
    return {
        "pool": "cls",
        "hidden": shapes["head.dense.weight"][0] if "head.dense.weight" in shapes else 0,
        "outputs": shapes["head.out.weight"][0],
        "dropout": 0.2,
        "log_sigma": False,
    }


def head_layout(config: Mapping[str, Any], head: Mapping[str, Any] | None) -> str | None:
    """Which published head layout can hold `head`: "sequence" or None."""
    if head is None or head.get("log_sigma") or head.get("form", "tanh") != "tanh":
        return None
    fits = head["pool"] == "cls" and head["hidden"] in (0, config["width"])
    return "sequence" if fits else None


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
    """The heads of pretraining, as they were read."""
    return dict(kept)


def published_from_config(
    config: Mapping[str, Any],
    head: Mapping[str, Any] | None,
    source: Mapping[str, Any],
    architecture: str,
) -> dict[str, Any]:
    """The config.json of unimol_tools' Transformers classes; other fields of `source` are kept."""
    kept = {k: v for k, v in source.items() if k not in ("weight_name", "pretrained_model_path")}
    published = {
        "data_type": "molecule",
        "remove_hs": False,
        "conformer_mode": "fast",
        "conformer_seed": 42,
        **kept,
        "architectures": [architecture],
        "model_type": "unimol",
        "vocab_size": config["vocab"],
        "hidden_size": config["width"],
        "intermediate_size": config["ffn_width"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "max_position_embeddings": config["max_positions"],
        "activation_fn": "gelu",
        "hidden_dropout_prob": config["hidden_dropout"],
        "attention_dropout_prob": config["attention_dropout"],
        "embedding_dropout_prob": config["embed_dropout"],
        "dict_name": "dict.txt",
        "pad_token_id": config["pad_token"],
        "bos_token_id": config["cls_token"],
        "eos_token_id": config["eos_token"],
    }
    published.pop("pretrained_dict_path", None)
    if layout_of(architecture) == "sequence" and head is not None:
        return with_labels(published, source, head["outputs"])
    return published
