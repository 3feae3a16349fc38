"""RoBERTa, ESM C, RNA-FM and RiNALMo: the gradient of every weight beside the publishers' classes,
and LoRA adapters in PEFT's format on RoBERTa."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from family_models import FAMILIES, make, tokenizer_of, worst
from safetensors.numpy import load_file
from transformers_models import need_transformers

import moltide as mt
from moltide import _engine
from moltide.encoder import Encoder
from reference.philox import uniform

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*outside the vocabulary.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

RATE, SEED = 0.4, 5
_RNA = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
NO_DROPOUT = {
    "roberta": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "esmc": {},
    "rnafm": _RNA,
    "mrnafm": _RNA,
    "rinalmo": _RNA,
}
TEXTS = {
    "roberta": ["CC(=O)Oc1ccccc1C(=O)O", "C[C@@H](N)C(=O)[O-]", "CCOc1ccc(Cl)cc1"],
    "esmc": ["MKTVRQERLKSIVRIL", "GDKNADGWIEFEEL", "MKWVTF"],
    "rnafm": ["ACGUACGUUAGC", "GGGAAAUCCGCUA", "GGCAC"],
    "mrnafm": ["ACGUACGUUAGC", "AUGGGGAAAUCCGCU", "AUGCAC"],
    "rinalmo": ["ACGUACGUUAGC", "GGGAAAUCCGCUA", "GGCAC"],
}


def masked_lm_gradients(encoder: Encoder, texts: list[str]) -> tuple[Any, Any, Any, Any]:
    """The engine's loss and gradients, and for each sequence what it read and what was hidden."""
    tokenizer = encoder.tokenizer
    tokens, cu = tokenizer.encode(texts)
    framing = {tokenizer.cls_id, tokenizer.eos_id, tokenizer.mask_id, tokenizer.pad_id}
    ordinary = sorted({int(t) for t in tokens} - framing)
    trainer = _engine.Trainer(
        encoder.model,
        {"objective": "mlm", "seed": SEED, "mlm_probability": RATE, "mlm_mask": 1.0,
         "mlm_random": 0.0, "mlm_residues": ordinary},
    )  # fmt: skip
    trainer.set_dataset(tokens, np.asarray(cu, np.int64))
    loss, gradients = trainer.gradients(np.arange(len(texts)))
    # Step 0, micro-batch 0, layer 0, RandomSite::masking.
    draws = uniform(SEED, 17, np.arange(len(tokens)), 4)[:, 0]
    hidden = np.isin(tokens, ordinary) & (draws < RATE)
    assert 3 < hidden.sum() < len(tokens) - 3
    read = np.split(np.where(hidden, tokenizer.mask_id, tokens), cu[1:-1])
    return loss, gradients, read, np.split(np.where(hidden, tokens, -100), cu[1:-1])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_gradient_is_the_publishers(tmp_path: Path, name: str) -> None:
    """The gradients stand in the place of the weights, so that the name map is part of it."""
    torch, _ = need_transformers()
    model = make(tmp_path / "theirs", name, **NO_DROPOUT[name]).double()
    encoder = mt.load(tmp_path / "theirs")
    loss, gradients, read, labels = masked_lm_gradients(encoder, TEXTS[name])

    losses = []
    for ids, hidden in zip(read, labels, strict=True):
        given = torch.from_numpy(ids[None].astype(np.int64))
        out = model(input_ids=given, attention_mask=torch.ones_like(given)).logits[0]
        want = torch.from_numpy(hidden.astype(np.int64))
        losses.append(torch.nn.functional.cross_entropy(out, want, reduction="sum"))
    exact = sum(losses) / sum(int((hidden >= 0).sum()) for hidden in labels)
    exact.backward()
    assert loss == pytest.approx(float(exact.detach()), rel=1e-5)

    for parameter, values in gradients.items():
        encoder.model.set_parameter(parameter, np.asarray(values, np.float32))
    encoder.save(tmp_path / "ours")
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    compared = 0
    for key, parameter in model.named_parameters():
        if key not in ours or parameter.grad is None or "token_type" in key:
            continue
        want = parameter.grad.numpy()
        size = np.abs(want).max()
        if key.endswith("key.bias") and size < 1e-12:
            # It moves all scores of a query alike, which the softmax does not see.
            assert np.abs(ours[key]).max() < 1e-5
            continue
        assert size > 0, key
        assert np.abs(ours[key] - want).max() <= 1e-4 * size, key
        compared += 1
    assert compared > 15


@pytest.fixture
def peft() -> Any:
    return pytest.importorskip("peft", reason="compares with PEFT")


TARGETS = ("attn.q", "attn.v", "attn.out", "mlp.up", "mlp.down")


def logits_of(model: Any, folder: Path, texts: list[str]) -> list[np.ndarray]:
    """Masked-LM logits of the published model, each sequence alone, in float64."""
    torch, _ = need_transformers()
    tokenizer = tokenizer_of(folder, "roberta")
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            out = model.double()(input_ids=ids, attention_mask=torch.ones_like(ids))
        found.append(out.logits[0].numpy())
    return found


def test_peft_loads_our_roberta_adapter(peft: Any, tmp_path: Path) -> None:
    theirs = make(tmp_path / "base", "roberta")
    encoder = mt.load(tmp_path / "base")
    encoder.add_adapter("lab", rank=3, alpha=5.0, targets=TARGETS, seed=1)
    rng = np.random.default_rng(0)
    for parameter, shape in encoder.model.parameters():
        if parameter.endswith("lora_b"):
            encoder.model.set_parameter(parameter, rng.normal(0, 0.2, shape).astype(np.float32))
    encoder.save_adapter("lab", tmp_path / "adapter")
    texts = FAMILIES["roberta"].texts
    want = logits_of(theirs, tmp_path / "base", texts)
    adapted = peft.PeftModel.from_pretrained(theirs.float(), tmp_path / "adapter").eval()
    got = logits_of(adapted, tmp_path / "base", texts)
    assert worst(want, got) > 1e-2
    assert worst(encoder.logits(texts, adapter="lab"), got) < 1e-5


def test_we_load_a_roberta_adapter_of_peft(peft: Any, tmp_path: Path) -> None:
    torch, _ = need_transformers()
    theirs = make(tmp_path / "base", "roberta")
    modules = ["query", "key", "value", "attention.output.dense", "intermediate.dense"]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=modules, lora_dropout=0.0)
    adapted = peft.get_peft_model(theirs, config).eval()
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    encoder = mt.load(tmp_path / "base")
    encoder.load_adapter(tmp_path / "adapter", "lab")
    texts = FAMILIES["roberta"].texts
    want = logits_of(adapted, tmp_path / "base", texts)
    assert worst(encoder.logits(texts, adapter="lab"), want) < 1e-5
    # Written back, it is the same adapter.
    encoder.save_adapter("lab", tmp_path / "again")
    one, two = (load_file(tmp_path / f / "adapter_model.safetensors") for f in ("adapter", "again"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[key], two[key]) for key in one)
    # Merged, the whole model is one that Transformers reads.
    encoder.merge_adapter("lab")
    encoder.save(tmp_path / "merged")
    family = FAMILIES["roberta"]
    merged = getattr(family.module(), family.masked_lm).from_pretrained(tmp_path / "merged").eval()
    assert worst(logits_of(merged, tmp_path / "merged", texts), want) < 1e-5
