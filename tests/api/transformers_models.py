"""Randomly initialised Transformers ESM models, made when a test runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

SEQUENCES = [
    "MKTVRQERLKSIVRILERSKEPVSGAQLAEELSVSRQVIVQDIAYLRSLGYNIVATPRGYVLAGG",
    "A",
    "XBUZO.-ACDEFGHIKLMNPQRSTVWY",
    "MK<mask>VRQ<mask><mask>RLKSI",
    "mkTJJAV*",
    "GG",
]


def need_transformers() -> tuple[Any, Any]:
    torch = pytest.importorskip("torch", reason="compares with Transformers on torch")
    transformers = pytest.importorskip("transformers", reason="compares with Transformers")
    transformers.logging.set_verbosity_error()
    return torch, transformers


def make(
    folder: Path,
    head_dim: int,
    kind: str = "EsmForMaskedLM",
    seed: int = 0,
    **changes: Any,
) -> Any:
    """Save a random model with its tokenizer into `folder`; returns it in float32, eval mode."""
    torch, transformers = need_transformers()
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": 33,
        "hidden_size": 2 * head_dim,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 5 * head_dim,
        "max_position_embeddings": 130,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
        "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 1,
        "mask_token_id": 32,
    }
    config = transformers.EsmConfig(**{**options, **changes}, attn_implementation="eager")
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Far enough from the initial values that every parameter shows in the results.
            scale = 0.3 if parameter.ndim == 1 else 1.5 / np.sqrt(parameter.shape[-1])
            offset = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.normal_(offset, float(scale))
        if hasattr(model, "tie_weights"):
            model.tie_weights()
    model.save_pretrained(folder)
    vocab = Path(__file__).parent.parent / "data" / "esm2_tokenizer" / "vocab.txt"
    (folder / "vocab.txt").write_bytes(vocab.read_bytes())
    return model


def rotary_frequencies(model: Any) -> np.ndarray:
    """The model's frequencies: of the encoder in Transformers 5, of each layer before."""
    holder = model.esm
    if not hasattr(holder, "rotary_embeddings"):
        holder = holder.encoder.layer[0].attention.self
    return np.asarray(holder.rotary_embeddings.inv_freq.numpy())


def run(model: Any, sequences: list[str], dtype: str = "float32") -> dict[str, list[np.ndarray]]:
    """Padded batch through Transformers, padding taken out: per sequence hidden states
    (layers + 1, L + 2, C), logits and contacts (float64)."""
    torch, transformers = need_transformers()
    model = model.to(getattr(torch, dtype))
    # Transformers 4 counts padding as residues when it rescales a masked sequence's embedding.
    padded = int(transformers.__version__.split(".")[0]) >= 5
    batches = [sequences] if padded else [[text] for text in sequences]
    results: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for part, values in _run_batch(model, batch).items():
            results.setdefault(part, []).extend(values)
    model.to(torch.float32)
    return results


def _run_batch(model: Any, sequences: list[str]) -> dict[str, list[np.ndarray]]:
    torch, transformers = need_transformers()
    vocab = Path(__file__).parent.parent / "data" / "esm2_tokenizer" / "vocab.txt"
    tokenizer = transformers.EsmTokenizer(str(vocab))
    batch = tokenizer(sequences, return_tensors="pt", padding=True)
    lengths = batch["attention_mask"].sum(1).tolist()
    with torch.no_grad():
        answer = model(**batch, output_hidden_states=True)
        hidden = torch.stack(answer.hidden_states).double().numpy()
        results = {"hidden": [hidden[:, i, :n] for i, n in enumerate(lengths)]}
        if getattr(answer, "logits", None) is not None:
            values = answer.logits.double().numpy()
            per_token = values.ndim == 3
            results["logits"] = [
                values[i, :n] if per_token else values[i] for i, n in enumerate(lengths)
            ]
        if hasattr(model, "predict_contacts"):
            maps = model.predict_contacts(batch["input_ids"], batch["attention_mask"])
            maps = maps.double().numpy()
            results["contacts"] = [maps[i, : n - 2, : n - 2] for i, n in enumerate(lengths)]
    return results
