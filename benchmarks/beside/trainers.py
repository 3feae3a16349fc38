"""Engines that fine-tune: each returns a function that takes one step and returns its loss.

A step: forward, mean squared error, backward, clipping to norm 1, AdamW, for a batch of variants.
LoRA has rank 8 on queries, keys and values; the regression head is trained too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workload import assay_sequences, padded, token_rows

from beside.configurations import BATCH, RECOMPUTE
from beside.exports import checkpoint_folder

# Batches that the steps go through in turn.
BATCHES = 4
# Tokens that moltide computes at once: its default, and fewer, which are lighter and on a few
# threads as fast.
DEFAULT_TOKENS = 2048
FEWER_TOKENS = 512


def pass_settings(dtype: str, how: str, mode: str, batch_tokens: int) -> dict[str, int | str]:
    """Tokens at once, and what the engine recomputes: what `moltide finetune` does by default, but
    for fewer tokens."""
    if how == RECOMPUTE:
        return {"max_tokens": FEWER_TOKENS, "recompute": "blocks"}
    if dtype == "bf16":
        return {"max_tokens": DEFAULT_TOKENS, "recompute": "none"}
    # With all weights trained, a step that passes at once is the lightest.
    if mode == "full" and batch_tokens <= DEFAULT_TOKENS:
        return {"max_tokens": DEFAULT_TOKENS, "recompute": "mlp"}
    return {"max_tokens": FEWER_TOKENS, "recompute": "none"}


def load_trainer(
    engine: str, dtype: str, how: str, mode: str, size: str, length: int, folder: str, threads: int
) -> Callable[[], float]:
    sequences = assay_sequences(BATCHES * BATCH, length)
    y = np.random.default_rng(0).normal(size=len(sequences)).astype(np.float32)
    checkpoint = checkpoint_folder(Path(folder), size)
    if engine == "moltide":
        return _moltide(checkpoint, dtype, how, mode, sequences, y, threads)
    return _transformers(checkpoint, dtype, mode, sequences, y, threads, engine == "torch.compile")


def _moltide(
    checkpoint: Path, dtype: str, how: str, mode: str, sequences: list[str], y, threads: int
):
    import moltide
    from moltide._engine import Trainer

    moltide.set_num_threads(threads)
    encoder = moltide.load(checkpoint, dtype=dtype)
    encoder.set_head({"pool": "cls", "hidden": encoder.width, "outputs": 1})
    config = {"mode": mode, "adapter": "", "objective": "mse", "lr": 1e-4, "clip_norm": 1.0}
    if mode == "lora":
        encoder.add_adapter("a", rank=8, alpha=16, targets=["attn.q", "attn.k", "attn.v"])
        config["adapter"] = "a"
    tokens, cu = encoder.tokenizer.encode(sequences)
    config |= pass_settings(dtype, how, mode, len(tokens) // BATCHES)
    trainer = Trainer(encoder.model, config)
    trainer.set_dataset(tokens, cu.astype(np.int64), y[:, None])
    batches = itertools.cycle(np.arange(len(sequences)).reshape(-1, BATCH))
    return lambda: trainer.step(next(batches))["loss"]


def _transformers(checkpoint, dtype: str, mode: str, sequences, y, threads: int, compiled: bool):
    import torch
    from transformers import EsmForSequenceClassification

    torch.set_num_threads(threads)
    model = EsmForSequenceClassification.from_pretrained(
        checkpoint, num_labels=1, problem_type="regression", attn_implementation="sdpa"
    )
    if mode == "lora":
        from peft import LoraConfig, get_peft_model

        targets = ["query", "key", "value"]
        adapter = LoraConfig(
            r=8, lora_alpha=16, target_modules=targets, modules_to_save=["classifier"]
        )
        model = get_peft_model(model, adapter)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    forward = torch.compile(model, dynamic=False) if compiled else model
    rows = token_rows(sequences)
    data = []
    for i in range(0, len(rows), BATCH):
        ids, mask = map(torch.from_numpy, padded(rows[i : i + BATCH]))
        data.append((ids, mask, torch.from_numpy(y[i : i + BATCH])))
    batches = itertools.cycle(data)

    def step() -> float:
        ids, mask, target = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            predicted = forward(input_ids=ids, attention_mask=mask).logits[:, 0].float()
        loss = torch.nn.functional.mse_loss(predicted, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step
