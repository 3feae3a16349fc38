"""Parity with Transformers on random ESM configs: hidden states, logits, contacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers_models import SEQUENCES, make, rotary_frequencies, run

import moltide as mt
from moltide.encoder import Encoder

pytestmark = pytest.mark.filterwarnings("ignore:.*outside the vocabulary.*:UserWarning")

HEAD_DIMS = [16, 24, 32, 64, 128]


def ours(encoder: Encoder) -> dict[str, list[np.ndarray]]:
    return {
        "hidden": encoder.hidden_states(SEQUENCES),
        "logits": encoder.logits(SEQUENCES),
        "contacts": encoder.contacts(SEQUENCES),
    }


def worst(got: list[np.ndarray], want: list[np.ndarray], layer: int | None = None) -> float:
    """Largest error over all sequences, relative to the largest value of them all."""
    if layer is not None:
        got, want = [g[layer] for g in got], [w[layer] for w in want]
    assert [g.shape for g in got] == [w.shape for w in want]
    scale = max(np.abs(w).max() for w in want if w.size)
    return max(
        float(np.abs(g - w).max()) for g, w in zip(got, want, strict=True) if w.size
    ) / float(scale)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_float32(tmp_path: Path, head_dim: int) -> None:
    """Every layer, every logit, every contact: within 1e-4 of a float64 run, and close to it."""
    model = make(tmp_path, head_dim)
    want = run(model, SEQUENCES, "float64")
    got = ours(mt.load(tmp_path))
    for layer in range(4):
        assert worst(got["hidden"], want["hidden"], layer) < 1e-5
    assert worst(got["logits"], want["logits"]) < 1e-5
    assert worst(got["contacts"], want["contacts"]) < 1e-4


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_bf16_errs_at_most_twice_as_much_as_transformers_in_bf16(
    tmp_path: Path, head_dim: int
) -> None:
    model = make(tmp_path, head_dim)
    want = run(model, SEQUENCES, "float64")
    theirs = run(model, SEQUENCES, "bfloat16")
    got = ours(mt.load(tmp_path, dtype="bf16"))
    for layer in range(4):
        error = worst(got["hidden"], want["hidden"], layer)
        assert error <= 2 * worst(theirs["hidden"], want["hidden"], layer)
    for part in ("logits", "contacts"):
        assert worst(got[part], want[part]) <= 2 * worst(theirs[part], want[part])


CONFIGS: dict[str, dict[str, Any]] = {
    "ESM-1b": {"position_embedding_type": "absolute", "emb_layer_norm_before": True},
    "absolute alone": {"position_embedding_type": "absolute"},
    "embedding norm alone": {"emb_layer_norm_before": True},
    "no token dropout": {"token_dropout": False},
    "untied": {"tie_word_embeddings": False},
    "one layer": {"num_hidden_layers": 1},
    "another eps": {"layer_norm_eps": 1e-3},
    "another rope base": {"rope_theta": 500.0},
    "longer vocabulary": {"vocab_size": 40},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_other_configs(tmp_path: Path, name: str) -> None:
    model = make(tmp_path, 16, **CONFIGS[name])
    want = run(model, SEQUENCES, "float64")
    got = ours(mt.load(tmp_path))
    for part in ("hidden", "logits", "contacts"):
        assert worst(got[part], want[part]) < 1e-4


def test_stored_rotary_frequencies_count(tmp_path: Path) -> None:
    """Frequencies rounded to half precision, as some published weights carry them: Transformers
    computes with the stored ones."""
    from safetensors.numpy import load_file, save_file

    model = make(tmp_path, 64)
    path = tmp_path / "model.safetensors"
    tensors = {k: v for k, v in load_file(path).items() if not k.endswith("inv_freq")}
    exact = rotary_frequencies(model)
    rounded = exact.astype(np.float16).astype(np.float32)
    assert not np.array_equal(exact, rounded)
    for layer in range(3):
        tensors[f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"] = rounded
    save_file(tensors, path, {"format": "pt"})
    again = type(model).from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert np.array_equal(rotary_frequencies(again), rounded)
    want = run(again, SEQUENCES)
    plain = run(model, SEQUENCES)
    got = ours(mt.load(tmp_path))
    assert worst(plain["hidden"], want["hidden"]) > 1e-4
    assert worst(got["hidden"], want["hidden"]) < 1e-5


@pytest.mark.parametrize("kind", ["EsmForSequenceClassification", "EsmForTokenClassification"])
def test_heads(tmp_path: Path, kind: str) -> None:
    model = make(tmp_path, 16, kind, num_labels=3)
    want = run(model, SEQUENCES, "float64")["logits"]
    got = mt.load(tmp_path).predict(SEQUENCES)
    if kind == "EsmForTokenClassification":
        want = [values[1:-1] for values in want]
    assert worst(list(got), want) < 1e-5


def test_bare_encoder(tmp_path: Path) -> None:
    model = make(tmp_path, 16, "EsmModel")
    want = run(model, SEQUENCES, "float64")
    assert worst(mt.load(tmp_path).hidden_states(SEQUENCES), want["hidden"]) < 1e-5
