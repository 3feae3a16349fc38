"""MoLFormer in PyTorch, written anew from the paper for the tests: modules named as the published
ones are, so that PEFT and state dicts meet the published layout."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import gelu


class SelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, heads = config["hidden_size"], config["num_attention_heads"]
        self.heads, self.eps = heads, config["linear_attention_eps"]
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.feature_map = nn.Module()
        features = torch.zeros(width // heads, config["num_random_features"])
        self.feature_map.register_buffer("weight", features)

    def turned(self, x):
        half = x.shape[-1] // 2
        place = torch.arange(x.shape[-2], dtype=x.dtype)[:, None]
        angle = place / 10000 ** (torch.arange(half, dtype=x.dtype) / half)
        low, high = x[..., :half], x[..., half:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)

    def forward(self, x, mask):
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        q, k = (torch.relu(self.turned(m) @ self.feature_map.weight) for m in (q, k))
        k = k * mask[:, None, :, None]
        total = (q @ k.sum(-2).unsqueeze(-1)).clamp(min=self.eps)
        return (q @ (k.transpose(-1, -2) @ v) / total).transpose(1, 2).flatten(-2)


class Output(nn.Module):
    def __init__(self, config, size):
        super().__init__()
        self.dense = nn.Linear(size, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def forward(self, x, residual):
        return self.LayerNorm(residual + self.dense(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = nn.Module()
        self.attention.self = SelfAttention(config)
        self.attention.output = Output(config, config["hidden_size"])
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(config["hidden_size"], config["intermediate_size"])
        self.output = Output(config, config["intermediate_size"])

    def forward(self, x, mask):
        x = self.attention.output(self.attention.self(x, mask), x)
        return self.output(gelu(self.intermediate.dense(x)), x)


class Body(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.encoder = nn.Module()
        layers = range(config["num_hidden_layers"])
        self.encoder.layer = nn.ModuleList(Layer(config) for _ in layers)
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def forward(self, tokens, mask):
        x = self.embeddings.word_embeddings(tokens)
        for layer in self.encoder.layer:
            x = layer(x, mask)
        return self.LayerNorm(x)


class Classifier(nn.Module):
    def __init__(self, config, outputs):
        super().__init__()
        width = config["hidden_size"]
        self.dense, self.dense2 = nn.Linear(width, width), nn.Linear(width, width)
        self.out_proj = nn.Linear(width, outputs)

    def forward(self, x):
        x = x + gelu(self.dense(x))
        return self.out_proj(x + gelu(self.dense2(x)))


class SequenceClassification(nn.Module):
    """forward(input_ids, attention_mask) -> (N, outputs); what else PEFT hands on is ignored."""

    def __init__(self, config, outputs):
        super().__init__()
        self.config = dict(config)
        self.molformer = Body(config)
        self.classifier = Classifier(config, outputs)

    def forward(self, input_ids, attention_mask, **_):
        mask = attention_mask.to(self.molformer.LayerNorm.weight.dtype)
        hidden = self.molformer(input_ids, mask)
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.classifier(mean)
