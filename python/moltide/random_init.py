"""Encoders with random weights: where pretraining starts, and the control of fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from moltide.encoder import Encoder
    from moltide.tokenizer import ResidueTokenizer

# Standard deviation of weights in BERT's and ESM's initialisation (initializer_range).
DEVIATION = 0.02


def esm2_config(
    layers: int, width: int, heads: int, ffn_width: int | None = None, max_positions: int = 1026
) -> dict[str, Any]:
    """Engine config of an ESM-2 (Lin et al. 2023, doi:10.1126/science.ade2574) of this shape."""
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "head_dim": width // heads,
        "ffn_width": 4 * width if ffn_width is None else ffn_width,
        "vocab": 33,
        "position": "rotary",
        "max_positions": max_positions,
        "token_dropout": True,
        "lm_head": True,
        "tie_lm_head": True,
        "contact_head": True,
    }


def randomise(model: Any, seed: int, deviation: float = DEVIATION) -> None:
    """Give every encoder parameter of `model` its initial value: weights normal, biases zero.

    Args:
        model: a `moltide._engine.Model`.
        seed: with the order of the parameters, all that the values depend on.
        deviation: standard deviation of the weights. The published 0.02 suits widths around 1,000;
            narrow encoders leave the start faster with about 1 / sqrt(width).
    """
    rng = np.random.Generator(np.random.Philox(seed))
    for name, shape in model.parameters():
        if name.startswith(("head.", "adapters.")):
            continue
        if name.endswith(("norm.weight", ".beta")):
            values = np.ones(shape, dtype=np.float32)
        elif name.endswith(".bias"):
            values = np.zeros(shape, dtype=np.float32)
        elif name.endswith(".attn.features"):
            values = orthogonal_features(rng, *shape)
        else:
            values = rng.normal(0.0, deviation, shape).astype(np.float32)
        model.set_parameter(name, values)


def orthogonal_features(rng: np.random.Generator, head_dim: int, features: int) -> np.ndarray:
    """A (head_dim, features) matrix for linear attention (Choromanski et al. 2021, section 2.4):
    columns orthogonal in blocks of head_dim, as long as normal vectors."""
    blocks = []
    for _ in range(0, features, head_dim):
        normal = rng.standard_normal((head_dim, head_dim))
        directions, _ = np.linalg.qr(normal)
        blocks.append(directions * np.linalg.norm(normal, axis=1))
    return np.concatenate(blocks, axis=1)[:, :features].astype(np.float32)


def random_encoder(
    config: dict[str, Any],
    seed: int = 0,
    dtype: str = "float32",
    deviation: float = DEVIATION,
    tokenizer: ResidueTokenizer | None = None,
) -> Encoder:
    """An untrained encoder of this engine config; see `randomise`.

    Args:
        tokenizer: settles the vocabulary and the special ids; None: ESM's.

    Raises:
        ValueError: a config the engine refuses.
    """
    from moltide._engine import Model
    from moltide.encoder import Encoder
    from moltide.tokenizer import ResidueTokenizer

    if tokenizer is None:
        tokenizer = ResidueTokenizer()
    else:
        ids = {
            name: getattr(tokenizer, name.replace("token", "id"))
            for name in ("cls_token", "eos_token", "pad_token", "mask_token")
        }
        config = {**config, "vocab": max(len(tokenizer), config["vocab"]), **ids}
    model = Model(config, dtype)
    randomise(model, seed, deviation)
    return Encoder(model, tokenizer, name="random")
