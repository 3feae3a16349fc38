"""The kinds of encoder that the engine runs, as configs of tiny models: name -> what differs from
ESM-2."""

from __future__ import annotations

import numpy as np

from moltide import _engine
from moltide.random_init import esm2_config, randomise

ENCODERS = {
    # Zhuang et al. 2021; ChemBERTa (Chithrananda et al. 2020, arXiv:2010.09885).
    "roberta": {
        "position": "learned",
        "max_positions": 64,
        "position_offset": 2,
        "token_dropout": False,
        "norm_place": "post",
        "embed_norm": True,
        "final_norm": False,
    },
    # ESM Cambrian (EvolutionaryScale 2024).
    "esmc": {
        "token_dropout": False,
        "qk_norm": True,
        "activation": "swiglu",
        "attn_bias": False,
        "mlp_bias": False,
        "residual_scale": 1.3,
        "final_norm_bias": False,
        "tie_lm_head": False,
    },
    # Chen et al. 2022, arXiv:2204.00300.
    "rna_fm": {
        "position": "learned",
        "max_positions": 64,
        "position_offset": 2,
        "token_dropout": False,
        "embed_norm": True,
    },
    # Penić et al. 2025, doi:10.1038/s41467-025-60872-5.
    "rinalmo": {
        "activation": "swiglu",
        "swiglu_beta": True,
        "attn_bias": False,
        "attn_residual_normed": True,
        "tie_lm_head": False,
    },
    # Ross et al. 2022, doi:10.1038/s42256-022-00580-7.
    "molformer": {
        "token_dropout": False,
        "norm_place": "post",
        "attention": "linear",
        "features": 12,
        "contact_head": False,
        "tie_lm_head": False,
        "lm_bias": False,
    },
    # No published model: what the others leave out, together.
    "mixed": {
        "token_dropout": False,
        "norm_place": "post",
        "qk_norm": True,
        "activation": "relu",
        "residual_scale": 0.7,
        "final_norm_bias": False,
    },
}


def encoder_model(kind, dtype, layers=3, width=32, heads=4, ffn=64, seed=1, **changes):
    """A random model of this kind, its norms away from one."""
    config = {**esm2_config(layers, width, heads, ffn), **ENCODERS[kind], **changes}
    model = _engine.Model(config, dtype)
    randomise(model, seed, 0.2)
    rng = np.random.default_rng(seed)
    for name, shape in model.parameters():
        if name.endswith(("norm.weight", ".beta")):
            model.set_parameter(name, rng.normal(1, 0.2, shape).astype(np.float32))
        elif name.endswith(".bias"):
            model.set_parameter(name, rng.normal(0, 0.1, shape).astype(np.float32))
    return model
