"""Published encoders as torch modules, and the engine's model with the same weights.

RoBERTa, ESM C and RNA-FM (an ESM-1b) are those of Transformers. RiNALMo is written here from its
paper (Penić et al. 2025, doi:10.1038/s41467-025-60872-5) and its published configuration.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from encoder_kinds import ENCODERS

from moltide import _engine
from moltide.random_init import esm2_config

torch = pytest.importorskip("torch", reason="parity needs torch==2.13.0")
transformers = pytest.importorskip("transformers", reason="parity needs transformers")

LAYERS, HEADS, HEAD_DIM, FFN, VOCAB, POSITIONS = 3, 4, 16, 96, 33, 64
WIDTH = HEADS * HEAD_DIM
LENGTHS = (5, 17, 1, 40)

# Canonical name -> published one, a layer's number in {}.
NAMES = {
    "roberta": {
        r"embed\.tokens": "roberta.embeddings.word_embeddings",
        r"embed\.positions": "roberta.embeddings.position_embeddings",
        r"embed\.norm": "roberta.embeddings.LayerNorm",
        r"layers\.(\d+)\.attn\.q": "roberta.encoder.layer.{}.attention.self.query",
        r"layers\.(\d+)\.attn\.k": "roberta.encoder.layer.{}.attention.self.key",
        r"layers\.(\d+)\.attn\.v": "roberta.encoder.layer.{}.attention.self.value",
        r"layers\.(\d+)\.attn\.out": "roberta.encoder.layer.{}.attention.output.dense",
        r"layers\.(\d+)\.attn_norm": "roberta.encoder.layer.{}.attention.output.LayerNorm",
        r"layers\.(\d+)\.mlp\.up": "roberta.encoder.layer.{}.intermediate.dense",
        r"layers\.(\d+)\.mlp\.down": "roberta.encoder.layer.{}.output.dense",
        r"layers\.(\d+)\.mlp_norm": "roberta.encoder.layer.{}.output.LayerNorm",
        r"lm_head\.norm": "lm_head.layer_norm",
    },
    "esmc": {
        r"embed\.tokens": "esmc.embed_tokens",
        r"layers\.(\d+)\.attn_norm": "esmc.layers.{}.input_layernorm",
        r"layers\.(\d+)\.attn\.([qkv])": "esmc.layers.{}.self_attn.{}_proj",
        r"layers\.(\d+)\.attn\.out": "esmc.layers.{}.self_attn.o_proj",
        r"layers\.(\d+)\.attn\.([qk]_norm)": "esmc.layers.{}.self_attn.{}",
        r"layers\.(\d+)\.mlp_norm": "esmc.layers.{}.post_attention_layernorm",
        r"layers\.(\d+)\.mlp\.(gate|up|down)": "esmc.layers.{}.mlp.{}_proj",
        r"final_norm": "esmc.norm",
        r"lm_head\.norm": "lm_head.layer_norm",
        r"lm_head\.bias": "lm_head.decoder.bias",
    },
    "rna_fm": {
        r"embed\.tokens": "esm.embeddings.word_embeddings",
        r"embed\.positions": "esm.embeddings.position_embeddings",
        r"embed\.norm": "esm.embeddings.layer_norm",
        r"layers\.(\d+)\.attn_norm": "esm.encoder.layer.{}.attention.LayerNorm",
        r"layers\.(\d+)\.attn\.q": "esm.encoder.layer.{}.attention.self.query",
        r"layers\.(\d+)\.attn\.k": "esm.encoder.layer.{}.attention.self.key",
        r"layers\.(\d+)\.attn\.v": "esm.encoder.layer.{}.attention.self.value",
        r"layers\.(\d+)\.attn\.out": "esm.encoder.layer.{}.attention.output.dense",
        r"layers\.(\d+)\.mlp_norm": "esm.encoder.layer.{}.LayerNorm",
        r"layers\.(\d+)\.mlp\.up": "esm.encoder.layer.{}.intermediate.dense",
        r"layers\.(\d+)\.mlp\.down": "esm.encoder.layer.{}.output.dense",
        r"final_norm": "esm.encoder.emb_layer_norm_after",
        r"lm_head\.norm": "lm_head.layer_norm",
    },
    "rinalmo": {},
}


class RinalmoBlock(torch.nn.Module):
    """The attention's residual is its normalised input; Swish's slope in SwiGLU is learned."""

    def __init__(self):
        super().__init__()
        linear, norm = torch.nn.Linear, torch.nn.LayerNorm
        self.attn_norm, self.mlp_norm = norm(WIDTH), norm(WIDTH)
        self.attn = torch.nn.ModuleDict(
            {n: linear(WIDTH, WIDTH, bias=False) for n in ("q", "k", "v", "out")}
        )
        self.mlp = torch.nn.ModuleDict(
            {"gate": linear(WIDTH, FFN), "up": linear(WIDTH, FFN), "down": linear(FFN, WIDTH)}
        )
        self.mlp.beta = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, mask):
        batch, length, _ = x.shape
        h = self.attn_norm(x)
        q, k, v = (
            self.attn[n](h).view(batch, length, HEADS, HEAD_DIM).transpose(1, 2) for n in "qkv"
        )
        half = HEAD_DIM // 2
        angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(half) / half)
        cos, sin = (f(angles).to(x.dtype) for f in (torch.cos, torch.sin))

        def rotate(a):
            first, second = a[..., :half], a[..., half:]
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

        scores = rotate(q) @ rotate(k).transpose(2, 3) / HEAD_DIM**0.5
        scores = scores.masked_fill(mask[:, None, None] == 0, -torch.inf)
        context = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, WIDTH)
        x = h + self.attn["out"](context)
        h = self.mlp_norm(x)
        gate = self.mlp["gate"](h)
        swish = gate * torch.sigmoid(self.mlp.beta * gate)
        return x + self.mlp["down"](swish * self.mlp["up"](h))


class Rinalmo(torch.nn.Module):
    """Its masked-LM model, under the engine's names."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.ModuleDict({"tokens": torch.nn.Embedding(VOCAB, WIDTH)})
        self.layers = torch.nn.ModuleList(RinalmoBlock() for _ in range(LAYERS))
        self.final_norm = torch.nn.LayerNorm(WIDTH)
        self.lm_head = torch.nn.ModuleDict(
            {
                "dense": torch.nn.Linear(WIDTH, WIDTH),
                "norm": torch.nn.LayerNorm(WIDTH),
                "decoder": torch.nn.Linear(WIDTH, VOCAB, bias=False),
            }
        )
        self.lm_head.bias = torch.nn.Parameter(torch.zeros(VOCAB))

    def hidden(self, input_ids, attention_mask):
        """Each block's input, and the encoder's output."""
        masked = input_ids == 32
        x = self.embed["tokens"](input_ids).masked_fill(masked[..., None], 0)
        observed = masked.sum(-1) / attention_mask.sum(-1)
        x = x * ((1 - 0.15 * 0.8) / (1 - observed))[:, None, None].to(x.dtype)
        states = []
        for layer in self.layers:
            states.append(x)
            x = layer(x, attention_mask)
        return [*states, self.final_norm(x)]

    def logits(self, y):
        h = self.lm_head["norm"](torch.nn.functional.gelu(self.lm_head["dense"](y)))
        return self.lm_head["decoder"](h) + self.lm_head.bias


def _transformers_model(kind):
    common = {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "pad_token_id": 1,
        "attn_implementation": "eager",
    }
    if kind == "esmc":
        return transformers.EsmcForMaskedLM(transformers.EsmcConfig(**common))
    common |= {
        "max_position_embeddings": POSITIONS,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-5,
    }
    if kind == "roberta":
        # Two rows of types, as BERT has; only the first is ever read.
        return transformers.RobertaForMaskedLM(
            transformers.RobertaConfig(**common, type_vocab_size=2)
        )
    return transformers.EsmForMaskedLM(
        transformers.EsmConfig(
            **common,
            mask_token_id=32,
            position_embedding_type="absolute",
            emb_layer_norm_before=True,
            token_dropout=False,
        )
    )


class Published:
    """One published encoder with random weights: `torch_model` in float64."""

    def __init__(self, kind, seed=0):
        torch.manual_seed(seed)
        self.kind = kind
        self.torch_model = Rinalmo() if kind == "rinalmo" else _transformers_model(kind)
        with torch.no_grad():
            for name, p in self.torch_model.named_parameters():
                matrix = p.ndim == 2
                p.add_((0.15 if matrix else 0.1) * torch.randn_like(p))
                if "embeddings" in name and matrix:
                    p.mul_(3)
        self.torch_model.double().eval()

    def config(self):
        changes = dict(ENCODERS[self.kind])
        if self.kind == "esmc":
            changes["residual_scale"] = (36 / LAYERS) ** 0.5
        return {**esm2_config(LAYERS, WIDTH, HEADS, FFN, POSITIONS), **changes}

    def published(self, name):
        """The torch module's name of an engine parameter."""
        for pattern, there in NAMES[self.kind].items():
            found = re.fullmatch(pattern + r"(\.\w+)?", name)
            if found:
                *parts, end = found.groups()
                return there.format(*parts) + ("" if "bias" in there else end or "")
        return name

    def engine_model(self, dtype="float32"):
        model = _engine.Model(self.config(), dtype)
        values = dict(self.torch_model.named_parameters())
        for name, _ in model.parameters():
            if name.startswith("contact."):
                continue
            value = values[self.published(name)].detach().numpy()
            if name == "embed.positions.weight" and self.kind == "roberta":
                types = values["roberta.embeddings.token_type_embeddings.weight"]
                value = value + types[0].detach().numpy()
            model.set_parameter(name, value.astype(np.float32))
        return model

    def hidden(self, ids, mask):
        """Each block's input, and the encoder's output, (B, L, C) each."""
        if self.kind == "rinalmo":
            return self.torch_model.hidden(ids, mask)
        encoder = getattr(self.torch_model, self.torch_model.base_model_prefix)
        out = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return [*out.hidden_states[:LAYERS], out.last_hidden_state]

    def logits(self, y):
        if self.kind == "rinalmo":
            return self.torch_model.logits(y)
        return self.torch_model.lm_head(y)


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return [np.r_[0, rng.integers(4, 30, n), 2].astype(np.int32) for n in LENGTHS]


def padded(parts):
    ids = np.ones((len(parts), max(map(len, parts))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, part in enumerate(parts):
        ids[row, : len(part)] = part
        mask[row, : len(part)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def packed(parts):
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)]).astype(np.int32)
