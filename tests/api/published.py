"""Small random checkpoints in the published ESM layout, written without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

TINY = {
    "architectures": ["EsmForMaskedLM"],
    "model_type": "esm",
    "vocab_size": 33,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "position_embedding_type": "rotary",
    "token_dropout": True,
    "emb_layer_norm_before": False,
    "layer_norm_eps": 1e-5,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 1,
    "mask_token_id": 32,
}


def tiny_tensors(seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Every tensor of EsmForMaskedLM for `TINY` with `changes`, by published name."""
    c = {**TINY, **changes}
    width, ffn = c["hidden_size"], c["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "esm.embeddings.word_embeddings.weight": (c["vocab_size"], width),
        "esm.encoder.emb_layer_norm_after.weight": (width,),
        "esm.encoder.emb_layer_norm_after.bias": (width,),
        "esm.contact_head.regression.weight": (
            1,
            c["num_hidden_layers"] * c["num_attention_heads"],
        ),
        "esm.contact_head.regression.bias": (1,),
        "lm_head.dense.weight": (width, width),
        "lm_head.dense.bias": (width,),
        "lm_head.layer_norm.weight": (width,),
        "lm_head.layer_norm.bias": (width,),
        "lm_head.bias": (c["vocab_size"],),
    }
    for i in range(c["num_hidden_layers"]):
        layer = f"esm.encoder.layer.{i}."
        for name, rows, columns in (
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", ffn, width),
            ("output.dense", width, ffn),
        ):
            shapes[f"{layer}{name}.weight"] = (rows, columns)
            shapes[f"{layer}{name}.bias"] = (rows,)
        for name in ("attention.LayerNorm", "LayerNorm"):
            shapes[f"{layer}{name}.weight"] = (width,)
            shapes[f"{layer}{name}.bias"] = (width,)
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def write_tiny(
    folder: Path,
    tensors: dict[str, np.ndarray] | None = None,
    **changes: Any,
) -> Path:
    """Write config.json and model.safetensors; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**TINY, **changes}))
    save_file(
        tiny_tensors(**changes) if tensors is None else tensors,
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return folder


def write_sharded(folder: Path, tensors: dict[str, np.ndarray], shards: int = 3) -> Path:
    """Write config.json, shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(TINY))
    weight_map = {}
    names = sorted(tensors)
    for number in range(shards):
        shard = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / shard, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
