"""Shapes of every parameter of an EncoderConfig, under the engine's canonical names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shape = tuple[int, ...]


def parameter_shapes(
    config: Mapping[str, Any], head: Mapping[str, Any] | None = None
) -> dict[str, Shape]:
    """Canonical name -> shape; matrices are (out, in).

    Sizes: C width, F feed-forward width, V vocabulary, P positions, H heads.
    """
    width, vocab = config["width"], config["vocab"]
    shapes: dict[str, Shape] = {"embed.tokens.weight": (vocab, width)}
    if config["position"] == "learned":
        shapes["embed.positions.weight"] = (config["max_positions"], width)
    if config["embed_norm"]:
        shapes |= _norm("embed.norm", width, _norm_bias(config))
    if config.get("pair_width"):
        shapes |= _pair_stream(config)
    elif config.get("attention") == "softmax_pair_bias":
        shapes |= _pair_bias(config)
    for layer in range(config["layers"]):
        shapes |= _layer(f"layers.{layer}.", config)
    if config["final_norm"]:
        bias = _norm_bias(config) and config.get("final_norm_bias", True)
        shapes |= _norm("final_norm", width, bias)
    if config["lm_head"]:
        shapes |= _linear("lm_head.dense", width, width, True)
        shapes |= _norm("lm_head.norm", width, _norm_bias(config))
        if not config["tie_lm_head"]:
            shapes["lm_head.decoder.weight"] = (vocab, width)
        if config.get("lm_bias", True):
            shapes["lm_head.bias"] = (vocab,)
    if config["contact_head"]:
        shapes["contact.weight"] = (1, config["layers"] * config["heads"])
        shapes["contact.bias"] = (1,)
    if head is not None:
        hidden = head["hidden"]
        if hidden:
            shapes |= _linear("head.dense", hidden, width, True)
        if head.get("form") == "skip":
            shapes |= _linear("head.dense2", hidden, hidden, True)
        shapes |= _linear("head.out", head["outputs"], hidden or width, True)
    return shapes


def _pair_bias(config: Mapping[str, Any]) -> dict[str, Shape]:
    basis, types = config["pair_basis"], config["vocab"] ** 2
    return {
        "pair.mul.weight": (types, 1),
        "pair.bias.weight": (types, 1),
        "pair.means.weight": (1, basis),
        "pair.stds.weight": (1, basis),
        **_linear("pair.hidden", basis, basis, True),
        **_linear("pair.heads", config["heads"], basis, True),
    }


def _pair_stream(config: Mapping[str, Any]) -> dict[str, Shape]:
    width, pair, basis = config["width"], config["pair_width"], config["pair_basis"]
    return {
        "embed.atoms.weight": (512, width),
        "embed.degrees.weight": (128, width),
        "embed.virtual.weight": (1, width),
        "pair.paths.weight": (512, pair),
        "pair.bonds.weight": (64, pair),
        "pair.virtual.weight": (1, pair),
        "pair.mul.weight": (512, 1),
        "pair.bias.weight": (512, 1),
        "pair.means": (basis,),
        **_linear("pair.hidden", basis, basis, True),
        **_linear("pair.out", pair, basis, True),
        **_norm("pair.norm", pair, True),
    }


def _pair_layer(prefix: str, config: Mapping[str, Any]) -> dict[str, Shape]:
    width, pair, hidden = config["width"], config["pair_width"], config["pair_hidden"]
    return {
        **_linear(prefix + "attn.pair", config["heads"], pair, True),
        **_norm(prefix + "outer_norm", width, True),
        **_linear(prefix + "outer.in", 2 * hidden, width, True),
        **_linear(prefix + "outer.out", pair, hidden * hidden, True),
        **_norm(prefix + "triangle_norm", pair, True),
        **_linear(prefix + "triangle.ab", 2 * hidden, pair, True),
        **_linear(prefix + "triangle.ab_gate", 2 * hidden, pair, True),
        **_linear(prefix + "triangle.gate", pair, pair, True),
        **_norm(prefix + "triangle.out_norm", hidden, True),
        **_linear(prefix + "triangle.out", pair, hidden, True),
        **_norm(prefix + "pair_mlp_norm", pair, True),
        **_linear(prefix + "pair_mlp.up", pair, pair, True),
        **_linear(prefix + "pair_mlp.down", pair, pair, True),
    }


def _layer(prefix: str, config: Mapping[str, Any]) -> dict[str, Shape]:
    width, inner = config["width"], config["heads"] * config["head_dim"]
    bias = config["attn_bias"]
    shapes = _norm(prefix + "attn_norm", width, _norm_bias(config))
    for name in ("q", "k", "v"):
        shapes |= _linear(
            f"{prefix}attn.{name}", inner, width, bias and config.get("qkv_bias", True)
        )
    shapes |= _linear(prefix + "attn.out", width, inner, bias)
    if config.get("qk_norm"):
        shapes |= _norm(prefix + "attn.q_norm", inner, False)
        shapes |= _norm(prefix + "attn.k_norm", inner, False)
    if config.get("attention") == "linear":
        shapes[prefix + "attn.features"] = (config["head_dim"], config["features"])
    shapes |= _norm(prefix + "mlp_norm", width, _norm_bias(config))
    shapes |= _linear(prefix + "mlp.up", config["ffn_width"], width, config["mlp_bias"])
    if config["activation"] == "swiglu":
        shapes |= _linear(prefix + "mlp.gate", config["ffn_width"], width, config["mlp_bias"])
    if config.get("swiglu_beta"):
        shapes[prefix + "mlp.beta"] = (1,)
    if config.get("pair_width"):
        shapes |= _pair_layer(prefix, config)
    return shapes | _linear(prefix + "mlp.down", width, config["ffn_width"], config["mlp_bias"])


def _linear(name: str, rows: int, columns: int, bias: bool) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (rows, columns)}
    if bias:
        shapes[f"{name}.bias"] = (rows,)
    return shapes


def _norm_bias(config: Mapping[str, Any]) -> bool:
    return bool(config["norm"] == "layernorm")


def _norm(name: str, width: int, bias: bool) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (width,)}
    if bias:
        shapes[f"{name}.bias"] = (width,)
    return shapes
