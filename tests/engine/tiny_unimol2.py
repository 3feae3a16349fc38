"""The tiny Uni-Mol2 of tests/data/unimol2_tiny: its molecules as the engine takes them, and what
unimol_tools computes of them (tests/api/make_unimol2_goldens.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

import moltide
from moltide.conformers import coordinates_of

FOLDER = Path(__file__).parent.parent / "data" / "unimol2_tiny"
BLOCKS = json.loads((FOLDER / "molecules.json").read_text())
NO_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "pair_dropout": 0.0}


def golden():
    return load_file(FOLDER / "golden.safetensors")


def tiny_encoder(dtype="float32"):
    return moltide.load(FOLDER, dtype=dtype)


def tiny_model(dtype="float32", outputs=0, **config):
    """The engine's model with another config; `outputs` of a head on the first token."""
    from moltide import _engine

    loaded = tiny_encoder().model
    model = _engine.Model({**loaded.config, **NO_DROPOUT, **config}, dtype)
    if outputs:
        model.set_head({"pool": "cls", "outputs": outputs, "dropout": 0.0}, 1)
    for name, _ in model.parameters():
        model.set_parameter(name, loaded.get_parameter(name))
    return model


def batch(rows=None):
    """tokens, cu_seqlens and what the engine calls coordinates, of some of the molecules."""
    chosen = BLOCKS if rows is None else [BLOCKS[r] for r in rows]
    tokens, cu = tiny_encoder().tokenizer.encode(chosen)
    return np.asarray(tokens), cu, coordinates_of(tokens)
