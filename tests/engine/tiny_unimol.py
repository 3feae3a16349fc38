"""The tiny Uni-Mol of tests/data/unimol_tiny: its weights in the engine, and what unimol_tools
computes with them (tests/api/make_unimol_goldens.py)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from moltide import _engine

FOLDER = Path(__file__).parent.parent / "data" / "unimol_tiny"
CONFIG = {
    "layers": 3,
    "width": 32,
    "heads": 4,
    "head_dim": 8,
    "ffn_width": 48,
    "vocab": 31,
    "position": "none",
    "attention": "softmax_pair_bias",
    "pair_basis": 128,
    "embed_norm": True,
    "lm_head": True,
    "tie_lm_head": False,
    "cls_token": 0,
    "pad_token": 2,
    "eos_token": 3,
    "mask_token": 30,
}
# Published name -> the engine's, a layer's number in \1.
NAMES = {
    r"embed_tokens\.": "embed.tokens.",
    r"encoder\.emb_layer_norm\.": "embed.norm.",
    r"encoder\.final_layer_norm\.": "final_norm.",
    r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.": r"layers.\1.attn.out.",
    r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.": r"layers.\1.attn_norm.",
    r"encoder\.layers\.(\d+)\.fc1\.": r"layers.\1.mlp.up.",
    r"encoder\.layers\.(\d+)\.fc2\.": r"layers.\1.mlp.down.",
    r"encoder\.layers\.(\d+)\.final_layer_norm\.": r"layers.\1.mlp_norm.",
    r"gbf\.": "pair.",
    r"gbf_proj\.linear1\.": "pair.hidden.",
    r"gbf_proj\.linear2\.": "pair.heads.",
    r"lm_head\.dense\.": "lm_head.dense.",
    r"lm_head\.layer_norm\.": "lm_head.norm.",
    r"lm_head\.weight": "lm_head.decoder.weight",
    r"lm_head\.bias": "lm_head.bias",
}


def renamed(published):
    """The engine's names; the fused projection as three."""
    found = {}
    for name, values in published.items():
        fused = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.in_proj\.(.*)", name)
        if fused:
            for letter, part in zip("qkv", np.split(values, 3), strict=True):
                found[f"layers.{fused[1]}.attn.{letter}.{fused[2]}"] = part
            continue
        for pattern, ours in NAMES.items():
            if re.match(pattern, name):
                found[re.sub(pattern, ours, name)] = values
    return found


def tiny_model(dtype="float32", head=None, **config):
    model = _engine.Model({**CONFIG, **config}, dtype)
    weights = renamed(load_file(FOLDER / "model.safetensors"))
    if head is not None:
        model.set_head(head, 5)
    for name, _ in model.parameters():
        if name in weights:
            model.set_parameter(name, weights.pop(name))
        else:
            assert name.startswith("head."), name
    assert not weights, sorted(weights)
    return model


def golden():
    """Arrays by name; `cu` (B+1) besides."""
    found = load_file(FOLDER / "golden.safetensors")
    found["cu"] = np.concatenate([[0], np.cumsum(found["lengths"])]).astype(np.int32)
    return found
