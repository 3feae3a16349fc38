"""Writes the committed golden files that come from Transformers and PEFT.

    python tests/api/make_goldens.py

Needs torch, transformers and peft; the tests that read the files need none of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import EsmForMaskedLM, EsmForSequenceClassification, EsmTokenizer

DATA = Path(__file__).parent.parent / "data"
TINY = DATA / "esm2_tiny_random"
SEQUENCES = ["MKTVRQERLKSIVRILERSKEPVSGAQLAEELS", "ACDEFGHIKLMNPQRSTVWY", "XBUZO.-A<mask>G"]


def contacts() -> None:
    """predict_contacts over the batches of golden.safetensors."""
    model = EsmForMaskedLM.from_pretrained(TINY, attn_implementation="eager").eval()
    golden = load_file(TINY / "golden.safetensors")
    outputs = {}
    for batch in ("b0", "b1"):
        ids = golden[f"{batch}.input_ids"].long()
        mask = golden[f"{batch}.attention_mask"].long()
        with torch.no_grad():
            outputs[f"{batch}.contacts"] = model.predict_contacts(ids, mask).contiguous()
    save_file(outputs, TINY / "contacts.safetensors")


def adapter() -> None:
    """A LoRA adapter with a classifier as PEFT saves it, and what it answers."""
    torch.manual_seed(11)
    base = EsmForSequenceClassification.from_pretrained(TINY, num_labels=2)
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=4,
        lora_alpha=12,
        target_modules=["query", "value", "attention.output.dense", "intermediate.dense"],
    )
    model = get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
            if "classifier" in name:
                parameter.normal_(0, 0.5)
    folder = DATA / "peft_tiny"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "esm2_tiny_random"
    settings["target_modules"] = sorted(settings["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    tokenizer = EsmTokenizer(str(DATA / "esm2_tokenizer" / "vocab.txt"))
    batch = tokenizer(SEQUENCES, return_tensors="pt", padding=True)
    with torch.no_grad():
        answer = model(**batch, output_hidden_states=True)
    golden = {
        "input_ids": batch["input_ids"].int(),
        "attention_mask": batch["attention_mask"].int(),
        "logits": answer.logits,
        "last_hidden": answer.hidden_states[-1],
    }
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps({"sequences": SEQUENCES}, indent=2) + "\n")


if __name__ == "__main__":
    contacts()
    adapter()
