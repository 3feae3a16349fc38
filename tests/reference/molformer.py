"""MoLFormer in float64, forward and backward, from the paper (Ross et al. 2022, doi:10.1038/
s42256-022-00580-7) and the published config.json; weights go by their published names.

Each sequence stands alone. An encoder block is
  a = norm(x + dense(attention(x)));  x' = norm(a + dense(gelu(dense(a)))),
attention the linear one over queries and keys that were turned by their positions, and a last norm
stands behind all blocks. The masked-LM head is decoder(norm(gelu(dense(y)))); the classifier reads
the mean over all tokens, <bos> and <eos> among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference import layernorm, linear_attention, mlp_act, rope

Array = NDArray[np.float64]
Weights = Mapping[str, Array]
Gradients = dict[str, Array]

_ROPE_BASE = 10000.0


class Molformer:
    """`config`: the published config.json; `weights`: name -> array, with the prefix `molformer.`.

    `features`: layer -> (D, M) in place of the stored feature_map.weight.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Weights,
        features: Mapping[int, Array] | None = None,
    ) -> None:
        self.config = config
        self.weights = {name: np.asarray(w, np.float64) for name, w in weights.items()}
        self.features = dict(features or {})
        self.heads = config["num_attention_heads"]
        self.eps = config["layer_norm_eps"]
        self.gradients: Gradients = {}

    # ---- pieces: each forward gives its result and a function from its gradient to the input's ---

    def _add(self, name: str, gradient: Array) -> None:
        self.gradients[name] = self.gradients.get(name, 0) + gradient

    def _dense(self, x: Array, name: str):
        weight, bias = self.weights[name + ".weight"], self.weights.get(name + ".bias")

        def backward(dy: Array) -> Array:
            self._add(name + ".weight", dy.T @ x)
            if bias is not None:
                self._add(name + ".bias", dy.sum(0))
            return dy @ weight

        return x @ weight.T + (0 if bias is None else bias), backward

    def _norm(self, x: Array, name: str):
        weight, bias = self.weights[name + ".weight"], self.weights[name + ".bias"]

        def backward(dy: Array) -> Array:
            dx, dw, db = layernorm.bwd(dy, x, weight, self.eps)
            self._add(name + ".weight", dw)
            self._add(name + ".bias", db)
            return dx

        return layernorm.fwd(x, weight, bias, self.eps)[0], backward

    def _gelu(self, u: Array):
        return mlp_act.fwd("gelu", u), lambda dy: mlp_act.bwd("gelu", dy, u)

    def _attention(self, x: Array, layer: int):
        at = f"molformer.encoder.layer.{layer}.attention."
        w = self.features.get(layer, self.weights[at + "self.feature_map.weight"])
        cu, position = np.array([0, len(x)]), np.arange(len(x))
        cos, sin = rope.table(len(x), x.shape[1] // self.heads, _ROPE_BASE)
        (q, to_q), (k, to_k), (v, to_v) = (
            self._dense(x, at + "self." + name) for name in ("query", "key", "value")
        )
        q, k = (rope.rotate(m, position, self.heads, cos, sin) for m in (q, k))
        eps = self.config["linear_attention_eps"]
        o = linear_attention.forward(q, k, v, w, cu, self.heads, eps)
        y, to_o = self._dense(o, at + "output.dense")

        def backward(dy: Array) -> Array:
            do = to_o(dy)
            dq, dk, dv = linear_attention.backward(do, q, k, v, w, cu, self.heads, eps)
            dq, dk = (rope.rotate(m, position, self.heads, cos, sin, True) for m in (dq, dk))
            return to_q(dq) + to_k(dk) + to_v(dv)

        return y, backward

    def _block(self, x: Array, layer: int):
        at = f"molformer.encoder.layer.{layer}."
        attended, to_x = self._attention(x, layer)
        a, to_sum = self._norm(x + attended, at + "attention.output.LayerNorm")
        u, to_a = self._dense(a, at + "intermediate.dense")
        g, to_u = self._gelu(u)
        down, to_g = self._dense(g, at + "output.dense")
        y, to_second = self._norm(a + down, at + "output.LayerNorm")

        def backward(dy: Array) -> Array:
            ds = to_second(dy)
            ds = to_sum(ds + to_a(to_u(to_g(ds))))
            return ds + to_x(ds)

        return y, backward

    # ---- the model -------------------------------------------------------------------------

    def encode(self, tokens: NDArray[np.int32]):
        """(hidden states (layers + 1, L, C), the last one behind the last norm; its backward)."""
        name = "molformer.embeddings.word_embeddings.weight"
        stream = [self.weights[name][tokens]]
        steps = []
        for layer in range(self.config["num_hidden_layers"]):
            x, step = self._block(stream[-1], layer)
            stream.append(x)
            steps.append(step)
        y, to_last = self._norm(stream[-1], "molformer.LayerNorm")

        def backward(dy: Array) -> None:
            dx = to_last(dy)
            for step in reversed(steps):
                dx = step(dx)
            table = np.zeros_like(self.weights[name])
            np.add.at(table, tokens, dx)
            self._add(name, table)

        return np.stack([*stream[:-1], y]), backward

    def logits(self, tokens: NDArray[np.int32]):
        """(L, V) of the masked-LM head, and its backward."""
        hidden, to_tokens = self.encode(tokens)
        u, to_y = self._dense(hidden[-1], "lm_head.transform.dense")
        g, to_u = self._gelu(u)
        h, to_g = self._norm(g, "lm_head.transform.LayerNorm")
        z, to_h = self._dense(h, "lm_head.decoder")
        return z, lambda dz: to_tokens(to_y(to_u(to_g(to_h(dz)))))

    def classify(self, tokens: NDArray[np.int32]):
        """(1, labels) of the classification head, and its backward."""
        hidden, to_tokens = self.encode(tokens)
        mean = hidden[-1].mean(0, keepdims=True)
        u, to_mean = self._dense(mean, "classifier.dense")
        g, to_u = self._gelu(u)
        first = g + mean
        u2, to_first = self._dense(first, "classifier.dense2")
        g2, to_u2 = self._gelu(u2)
        z, to_second = self._dense(g2 + first, "classifier.out_proj")

        def backward(dz: Array) -> None:
            dsecond = to_second(dz)
            dfirst = dsecond + to_first(to_u2(dsecond))
            dmean = dfirst + to_mean(to_u(dfirst))
            to_tokens(np.repeat(dmean / len(tokens), len(tokens), axis=0))

        return z, backward
