"""LoRA fine-tuning on a real assay, step by step beside PEFT + Transformers from the same start.

    python benchmarks/lora_curve.py --table examples/data/gb1.csv --steps 60 --write

Both sides get the same random ESM-2 checkpoint (or --checkpoint), the same adapter and head values,
the same batches and optimiser settings; dropout is off. In float32 the two loss curves agree to
rounding; in bf16 (autocast on the PyTorch side) within its noise. Needs torch, transformers, peft.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from workload import machine, make_checkpoint

TARGETS = ["attn.q", "attn.k", "attn.v", "attn.out"]
LR, DECAY, CLIP = 1e-3, 0.01, 1.0


def moltide_curve(folder, adapter, sequences, y, batches, dtype):
    """Losses and seconds; saves the adapter and head at their start for the other side."""
    import moltide as mt
    from moltide._engine import Trainer

    encoder = mt.load(folder, dtype=dtype)
    encoder.set_head({"pool": "cls", "hidden": encoder.width, "outputs": 1}, seed=1)
    encoder.add_adapter("lora", rank=8, alpha=16, targets=TARGETS, seed=2)
    encoder.save_adapter("lora", adapter)
    trainer = Trainer(
        encoder.model,
        {
            "mode": "lora", "adapter": "lora", "objective": "mse", "lr": LR, "weight_decay": DECAY,
            "clip_norm": CLIP, "schedule": "linear", "warmup_steps": 5, "total_steps": len(batches),
        },
    )  # fmt: skip
    tokens, cu = encoder.tokenizer.encode(sequences)
    trainer.set_dataset(tokens, cu.astype(np.int64), y[:, None])
    start = time.perf_counter()
    losses = [trainer.step(rows)["loss"] for rows in batches]
    return np.array(losses), time.perf_counter() - start


def peft_curve(folder, adapter, sequences, y, batches, dtype):
    import torch
    from peft import PeftModel
    from transformers import EsmForSequenceClassification

    from moltide.tokenizer import ResidueTokenizer

    base = EsmForSequenceClassification.from_pretrained(
        folder, num_labels=1, problem_type="regression", attn_implementation="sdpa"
    )
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    model.train()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in trained if not n.endswith("bias")], "weight_decay": DECAY},
        {"params": [p for n, p in trained if n.endswith("bias")], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=LR)
    tokens, _ = ResidueTokenizer().encode(sequences)
    ids = torch.from_numpy(tokens.reshape(len(sequences), -1).astype(np.int64))
    target = torch.from_numpy(y)
    losses = []
    start = time.perf_counter()
    for step, rows in enumerate(batches):
        left = max(0.0, 1 - (step - 5) / (len(batches) - 5))
        for group in optimiser.param_groups:
            group["lr"] = LR * ((step + 1) / 5 if step < 5 else left)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            out = model(input_ids=ids[rows]).logits[:, 0].float()
        loss = torch.nn.functional.mse_loss(out, target[rows])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], CLIP)
        optimiser.step()
        losses.append(float(loss.detach()))
    return np.array(losses), time.perf_counter() - start


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for label, losses in curves.items():
        axes.plot(losses, label=label, lw=2.5 if "moltide" in label else 1,
                  ls="-" if "moltide" in label else "--")  # fmt: skip
    axes.set(xlabel="step", ylabel="mean squared error of the batch", title="LoRA on GB1")
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", default=str(Path(__file__).parents[1] / "examples/data/gb1.csv"))
    parser.add_argument("--checkpoint", help="folder of an ESM-2; default: random 8M")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="store table and plot in results")
    options = parser.parse_args()

    table = pd.read_csv(options.table)
    sequences = table["sequence"].tolist()
    y = table["target"].to_numpy(np.float32)
    y = ((y - y.mean()) / y.std()).astype(np.float32)
    rng = np.random.default_rng(0)
    batches = [rng.choice(len(y), options.batch, replace=False) for _ in range(options.steps)]
    results: dict[str, tuple[np.ndarray, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.checkpoint or Path(scratch, "8M"))
        if not options.checkpoint:
            make_checkpoint(folder, "8M")
        for dtype in ("float32", "bf16"):
            adapter = Path(scratch, f"adapter-{dtype}")
            results[f"moltide {dtype}"] = moltide_curve(
                folder, adapter, sequences, y, batches, dtype
            )
            results[f"PEFT {dtype}"] = peft_curve(folder, adapter, sequences, y, batches, dtype)
    exact = results["PEFT float32"][0]
    lines = [
        "# LoRA on GB1 beside PEFT + Transformers, same start, same batches",
        "",
        *(f"- {k}: {v}" for k, v in machine().items()),
        f"- {options.steps} steps of {options.batch} sequences, rank 8 on q, k, v, out",
        "",
        "| run | first loss | last loss | largest difference to PEFT float32 | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for label, (losses, seconds) in results.items():
        gap = np.abs(losses - exact).max()
        lines.append(
            f"| {label} | {losses[0]:.5f} | {losses[-5:].mean():.5f} | {gap:.1e} | {seconds:.1f} |"
        )
    print("\n".join(lines))
    if options.write:
        stem = Path(__file__).parent / "results" / f"{machine()['date']}-lora-curve"
        stem.parent.mkdir(exist_ok=True)
        stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
        draw({k: v[0] for k, v in results.items()}, stem.with_suffix(".svg"))
        print(f"written: {stem}.md, .svg")


if __name__ == "__main__":
    main()
