"""Random MoLFormers in the published layout: config.json and tensors by their published names."""

from __future__ import annotations

import numpy as np

from moltide import _engine
from moltide.pretrained import molformer
from moltide.pretrained.shapes import parameter_shapes
from reference.linear_attention import orthogonal_features

LENGTHS = (5, 17, 1, 40)


def published_config(**fields):
    return {
        "architectures": ["MolformerForMaskedLM"],
        "auto_map": {"AutoModel": "modeling_molformer.MolformerModel"},
        "model_type": "molformer",
        "vocab_size": 40,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 32,
        "num_random_features": 12,
        "max_position_embeddings": 202,
        "hidden_dropout_prob": 0.0,
        "embedding_dropout_prob": 0.0,
        "layer_norm_eps": 1e-12,
        "linear_attention_eps": 1e-6,
        "deterministic_eval": True,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
        **fields,
    }


def random_tensors(config, head=None, seed=0):
    """Published name -> float32 values of every tensor of `config`'s class."""
    described = molformer.config_from_published(config, "config")
    layout = molformer.layout_of(config["architectures"][0])
    prefix = molformer.prefix_for(config["architectures"][0])
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in parameter_shapes(described.config, head).items():
        values = rng.normal(0, 0.3 if len(shape) == 2 else 0.1, shape)
        if name.endswith("norm.weight"):
            values += 1
        if name.endswith(".attn.features"):
            values = orthogonal_features(seed, int(name.split(".")[1]), *shape)
        published = molformer.NAMES.published(name, prefix, layout)
        tensors[published] = values.astype(np.float32)
    return tensors


def engine_model(config, tensors, head=None, dtype="float32"):
    """The engine's model of published tensors, whose prefix is `molformer.`."""
    described = molformer.config_from_published(config, "config")
    model = _engine.Model(described.config, dtype)
    if head is not None:
        model.set_head(head, 0)
    for name, _ in model.parameters():
        layout = "sequence" if name.startswith("head.") else "lm"
        model.set_parameter(name, tensors[molformer.NAMES.published(name, "molformer.", layout)])
    return model


def sequences(seed=0, vocab=40, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    return [np.r_[0, rng.integers(4, vocab, n), 1].astype(np.int32) for n in lengths]


def packed(parts):
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)]).astype(np.int32)


def published_gradients(gradients, layout):
    return {molformer.NAMES.published(n, "molformer.", layout): g for n, g in gradients.items()}
