"""Randomly initialised RoBERTa, ESM C, RNA-FM and RiNALMo models, as their publishers save them."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers_models import need_transformers

DATA = Path(__file__).parent.parent / "data"
PROTEINS = ["MKTVRQERLKSIVRIL", "A", "XBUZO.-|ACDEFG", "MK<mask>VRQ<mask>L", "mkTJJAV*"]
MOLECULES = ["CCO", "CC(=O)Oc1ccccc1C(=O)O", "C[C@@H](N)C(=O)[O-]", "C<mask>c1ccccc1Cl", "[Na+]"]
NUCLEOTIDES = ["ACGUACGUUAGC", "a", "acgtNRY.*", "AC<mask>GU<mask>A", "GGGAAAUCC"]
CODONS = ["ACGUACGUUAGC", "aug", "acgtnn", "ACG<mask>GUA", "GGGAAAUCC"]


@dataclass(frozen=True)
class Family:
    """`package` has the class `{stem}Config` and the others; `heads` maps the class of a head to
    whether it answers for each token."""

    package: str
    stem: str
    texts: list[str]
    options: dict[str, Any]
    heads: dict[str, bool] = field(default_factory=dict)
    prefix: str = "model"

    @property
    def masked_lm(self) -> str:
        return f"{self.stem}ForMaskedLM"

    def module(self) -> Any:
        need_transformers()
        return pytest.importorskip(self.package, reason=f"compares with {self.package}")


_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_RNA_HEADS = {"ForSequencePrediction": False, "ForTokenPrediction": True}
_BERT_HEADS = {"ForSequenceClassification": False, "ForTokenClassification": True}

FAMILIES = {
    "roberta": Family(
        "transformers",
        "Roberta",
        MOLECULES,
        {**_SIZES, "vocab_size": 400, "intermediate_size": 48, "max_position_embeddings": 40}
        | {"type_vocab_size": 2, "layer_norm_eps": 1e-5, "pad_token_id": 1},
        _BERT_HEADS,
        "roberta",
    ),
    "esmc": Family(
        "transformers",
        "Esmc",
        PROTEINS,
        {**_SIZES, "intermediate_size": 40},
        _BERT_HEADS,
        "esmc",
    ),
    "rnafm": Family(
        "multimolecule",
        "RnaFm",
        NUCLEOTIDES,
        {**_SIZES, "intermediate_size": 48, "max_position_embeddings": 30, "num_labels": 3},
        _RNA_HEADS,
    ),
    "mrnafm": Family(
        "multimolecule",
        "RnaFm",
        CODONS,
        {**_SIZES, "intermediate_size": 48, "max_position_embeddings": 30, "num_labels": 3}
        | {"codon": True, "embed_norm": False},
        _RNA_HEADS,
    ),
    "rinalmo": Family(
        "multimolecule",
        "RiNALMo",
        NUCLEOTIDES,
        {**_SIZES, "intermediate_size": 50, "num_labels": 3},
        _RNA_HEADS,
    ),
}


def make(folder: Path, name: str, kind: str = "ForMaskedLM", seed: int = 0, **changes: Any) -> Any:
    """Save a random model with its tokenizer into `folder`; returns it in float32, eval mode."""
    family = FAMILIES[name]
    module = family.module()
    torch, _ = need_transformers()
    torch.manual_seed(seed)
    config = getattr(module, f"{family.stem}Config")(**{**family.options, **changes})
    config._attn_implementation = "eager"
    model = getattr(module, family.stem + kind)(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # Far enough from the initial values that every parameter shows in the results.
            scale = 0.3 if parameter.ndim == 1 else 1.5 / np.sqrt(parameter.shape[-1])
            offset = 1.0 if "norm" in parameter_name.lower() else 0.0
            offset *= parameter_name.endswith("weight")
            parameter.normal_(offset, float(scale))
        model.tie_weights()
    model.save_pretrained(folder)
    save_tokenizer(folder, name)
    return model


def save_tokenizer(folder: Path, name: str) -> None:
    """The published tokenizer's files."""
    if name == "roberta":
        for file in ("vocab.json", "merges.txt"):
            (folder / file).write_bytes((DATA / "chemberta" / "bpe" / file).read_bytes())
    elif name == "esmc":
        importlib.import_module("transformers").EsmcTokenizer().save_pretrained(folder)
    else:
        codon = name == "mrnafm"
        importlib.import_module("multimolecule").RnaTokenizer(codon=codon).save_pretrained(folder)


def tokenizer_of(folder: Path, name: str) -> Any:
    """The publisher's own tokenizer of a folder."""
    if FAMILIES[name].package == "multimolecule":
        return importlib.import_module("multimolecule").RnaTokenizer.from_pretrained(folder)
    return importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)


def run(model: Any, folder: Path, name: str, texts: list[str] | None = None) -> dict[str, list]:
    """Each sequence alone through the published model in float64, tokenized by its publisher:
    hidden states (layers + 1, L, C) and logits, if it has them."""
    torch, _ = need_transformers()
    family, tokenizer = FAMILIES[name], tokenizer_of(folder, name)
    model = model.double()
    results: dict[str, list[np.ndarray]] = {"hidden": [], "logits": []}
    encoder = getattr(model, family.prefix, model)
    for text in texts or family.texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            inner = encoder(**given, output_hidden_states=True)
            states = [*inner.hidden_states[:-1], inner.last_hidden_state]
            results["hidden"].append(torch.cat(states).numpy())
            if encoder is not model:
                results["logits"].append(model(**given).logits[0].numpy())
    model.float()
    return results


def worst(got: list[np.ndarray], want: list[np.ndarray]) -> float:
    """Largest error over all sequences, relative to the largest value of them all."""
    assert [g.shape for g in got] == [w.shape for w in want]
    scale = max(np.abs(w).max() for w in want)
    return float(max(np.abs(g - w).max() for g, w in zip(got, want, strict=True)) / scale)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
