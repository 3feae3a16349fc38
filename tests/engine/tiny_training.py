"""A tiny encoder, sequences and targets for it, and what a trainer is told."""

from __future__ import annotations

import numpy as np

from moltide import _engine
from moltide.random_init import esm2_config, randomise

LENGTHS = (7, 1, 12, 3, 30)
RECOMPUTE = ("none", "mlp", "blocks")


def tokens_of(lengths=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    parts = [np.r_[0, rng.integers(4, 24, n), 2] for n in lengths]
    offsets = np.cumsum([0, *map(len, parts)])
    return np.concatenate(parts).astype(np.int32), offsets.astype(np.int64)


def make_model(dtype="float32", head=None, seed=1, **config):
    model = _engine.Model({**esm2_config(3, 32, 4, 64), **config}, dtype)
    randomise(model, seed)
    rng = np.random.default_rng(seed)
    for name, shape in model.parameters():
        if name.endswith(("weight",)) and "norm" not in name:
            model.set_parameter(name, rng.normal(0, 0.2, shape).astype(np.float32))
        elif name.endswith("bias"):
            model.set_parameter(name, rng.normal(0, 0.1, shape).astype(np.float32))
    if head is not None:
        model.set_head(head, 5)
    return model


def config_of(**values):
    return {"lr": 1e-3, "clip_norm": 0.0, "schedule": "constant", "total_steps": 10, **values}


HEADS = {
    "mse": {"pool": "mean", "outputs": 2},
    "huber": {"pool": "cls", "hidden": 32, "outputs": 2},
    "bce": {"pool": "mean", "hidden": 16, "outputs": 2},
    "cross_entropy": {"pool": "mean", "outputs": 3},
    "ranking": {"pool": "mean", "outputs": 1},
    "tobit": {"pool": "mean", "outputs": 2, "log_sigma": True},
    "mixed": {"pool": "mean", "outputs": 3, "log_sigma": True},
}


# Of the objective mixed.
COLUMNS = ("tobit", "bce", "mse")


def targets_of(objective, rows):
    rng = np.random.default_rng(3)
    outputs = HEADS[objective]["outputs"]
    if objective == "cross_entropy":
        return rng.integers(0, outputs, (rows, 1)).astype(np.float32)
    if objective == "bce":
        return rng.integers(0, 2, (rows, outputs)).astype(np.float32)
    values = rng.normal(0, 1, (rows, outputs)).astype(np.float32)
    if objective == "mixed":
        values[:, 1] = values[:, 1] > 0
        values[2] = np.nan
    if outputs > 1:
        values[1, 0] = np.nan
    return values
