"""A whole encoder in float64, forward, straight from its config: norms before or after branches, as
papers write them. Config and parameter names are the engine's.

Post-norm: Vaswani et al. 2017; pre-norm: Xiong et al. 2020; QK-norm: Dehghani et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import attention, layernorm, linear_attention, mlp_act, rope
from reference.dropout import dropout
from reference.embedding import fwd as embed
from reference.embedding import token_dropout_scale

Array = NDArray[np.float64]
Ints = NDArray[np.int32]
# RandomSite and PassContext::stream of the engine: what a stream of draws is for.
EMBEDDING, ATTENTION_BRANCH, MLP_BRANCH, ATTENTION, FEATURES = 1, 2, 3, 4, 20


class Encoder:
    """`seed` (training): dropout as the engine draws it in its first micro-batch; None: none."""

    def __init__(
        self, config: Mapping[str, Any], values: Mapping[str, Array], seed: int | None = None
    ) -> None:
        self.c, self.values, self.seed = config, values, seed

    def drop(self, x: Array, field: str, layer: int, site: int) -> Array:
        p = self.c[field]
        if self.seed is None or p == 0:
            return x
        return x * dropout(np.ones(x.shape, np.float32), p, self.seed, (layer << 8) | site)

    def norm(self, x: Array, name: str) -> Array:
        w = self.values[name + ".weight"]
        b = self.values.get(name + ".bias", np.zeros_like(w))
        return layernorm.fwd(x, w, b, self.c["norm_eps"])[0]

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.values[name + ".weight"].T + self.values.get(name + ".bias", 0.0)

    def attend(self, h: Array, at: str, layer: int, cu: Ints, position: Ints) -> Array:
        c = self.c
        q, k, v = (self.linear(h, at + "attn." + name) for name in "qkv")
        if c["qk_norm"]:
            q, k = self.norm(q, at + "attn.q_norm"), self.norm(k, at + "attn.k_norm")
        if c["position"] == "rotary":
            table = rope.table(int(position.max()) + 1, c["head_dim"], c["rope_base"])
            q, k = (rope.rotate(x, position, c["heads"], *table) for x in (q, k))
        if c["attention"] == "linear":
            w = self.features(at, layer)
            o = linear_attention.forward(q, k, v, w, cu, c["heads"], c["linear_eps"])
        else:
            o = self.softmax(q, k, v, layer, cu)
        return self.drop(self.linear(o, at + "attn.out"), "hidden_dropout", layer, ATTENTION_BRANCH)

    def softmax(self, q: Array, k: Array, v: Array, layer: int, cu: Ints) -> Array:
        c, keep = self.c, None
        if self.seed is not None and c["attention_dropout"] > 0:
            keep = attention.dropout_mask(
                cu, c["heads"], c["attention_dropout"], self.seed, (layer << 8) | ATTENTION
            )
        return attention.forward(q, k, v, cu, c["heads"], c["head_dim"] ** -0.5, keep)[0]

    def features(self, at: str, layer: int) -> Array:
        """The stored ones, in training those drawn for the first step."""
        stored = self.values[at + "attn.features"]
        if self.seed is None:
            return stored
        stream = (layer << 8) | FEATURES
        return linear_attention.orthogonal_features(self.seed, stream, *stored.shape)

    def mlp(self, h: Array, at: str, layer: int) -> Array:
        u = self.linear(h, at + "mlp.up")
        beta = 1.0
        if self.c["activation"] == "swiglu":
            u = np.concatenate([self.linear(h, at + "mlp.gate"), u], axis=1)
            beta = float(self.values.get(at + "mlp.beta", np.ones(1))[0])
        g = mlp_act.fwd(self.c["activation"], u, beta)
        return self.drop(self.linear(g, at + "mlp.down"), "hidden_dropout", layer, MLP_BRANCH)

    def half(self, x: Array, norm: str, branch: Callable[[Array], Array], normed: bool) -> Array:
        scale = self.c["residual_scale"]
        if self.c["norm_place"] == "post":
            return self.norm(x + scale * branch(x), norm)
        h = self.norm(x, norm)
        return (h if normed else x) + scale * branch(h)

    def hidden(self, tokens: Ints, cu: Ints) -> list[Array]:
        """Each block's input, then the encoder's output, (T, C) each."""
        c, get = self.c, self.values.get
        position = np.concatenate([np.arange(n) for n in np.diff(cu)]).astype(np.int32)
        scale = None
        if c["token_dropout"]:
            scale = token_dropout_scale(tokens, cu, c["mask_token"], c["mask_ratio_train"])
        learned = get("embed.positions.weight")
        rows = None if learned is None else position + c["position_offset"]
        x = embed(tokens, self.values["embed.tokens.weight"], scale, learned, rows)
        if c["embed_norm"]:
            x = self.norm(x, "embed.norm")
        x = self.drop(x, "embed_dropout", 0, EMBEDDING)
        states = []
        for i in range(c["layers"]):
            states.append(x)
            at = f"layers.{i}."
            x = self.half(
                x,
                at + "attn_norm",
                lambda h, at=at, i=i: self.attend(h, at, i, cu, position),
                c["attn_residual_normed"],
            )
            x = self.half(x, at + "mlp_norm", lambda h, at=at, i=i: self.mlp(h, at, i), False)
        return [*states, self.norm(x, "final_norm") if c["final_norm"] else x]
