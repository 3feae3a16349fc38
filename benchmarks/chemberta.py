"""Fine-tuning a ChemBERTa on a table of molecules: moltide beside Transformers, on the same cores.

    python benchmarks/chemberta.py --data DATA/molecules --models 77M --write         # ten minutes
    python benchmarks/chemberta.py --data DATA/molecules --models base --tables esol --rounds 1

The models have the published shapes and random weights: `base` is seyonec/ChemBERTa-zinc-base-v1,
`77M` is DeepChem/ChemBERTa-77M-MLM. Both sides load the same checkpoint, tokenize alike (their
predictions are compared first), and take the same steps: batches of 32 molecules in a shuffled
order, mean squared error, gradients clipped to norm 1, AdamW, dropout as published; LoRA of rank 8
on queries, keys and values. Transformers pads a batch to its longest molecule, as its collator
does. Every row is a fresh process, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from workload import machine, memory_mb

# Layers, width, heads, feed-forward width, vocabulary.
SHAPES = {"base": (6, 768, 12, 3072, 767), "77M": (3, 384, 12, 464, 600)}
TABLES = {"esol": ("esol.csv", "logS"), "bace": ("bace.csv", "pIC50")}
TOKENIZER = Path(__file__).parents[1] / "tests" / "data" / "chemberta" / "bpe"
BATCH = 32
ENGINES, MODES, DTYPES = ("moltide", "transformers"), ("full", "lora"), ("float32", "bf16")
Step = Callable[[], float]


def make_checkpoint(folder: Path, shape: str) -> None:
    """A regression model with random weights, as Transformers publishes it."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    layers, width, heads, inner, vocabulary = SHAPES[shape]
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=inner, max_position_embeddings=514,
        type_vocab_size=1, num_labels=1, problem_type="regression",
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((TOKENIZER / name).read_bytes())


def rows(data: Path, table: str) -> tuple[list[str], np.ndarray]:
    """Training molecules in a shuffled order and their values in standard deviations."""
    file, target = TABLES[table]
    found = pd.read_csv(data / file)
    found = found[found["split_scaffold"] == "train"].sample(frac=1, random_state=0)
    y = found[target].to_numpy(np.float32)
    return found["smiles"].tolist(), (y - y.mean()) / y.std()


def moltide_steps(
    folder: Path, dtype: str, mode: str, smiles: list[str], y: np.ndarray, threads: int
) -> tuple[np.ndarray, Step]:
    import moltide
    from moltide._engine import Trainer

    moltide.set_num_threads(threads)
    encoder = moltide.load(folder, dtype=dtype)
    before = encoder.predict(smiles[:BATCH])[:, 0]
    config: dict[str, Any] = {
        "mode": mode, "adapter": "", "objective": "mse", "lr": 1e-4, "clip_norm": 1.0,
    }  # fmt: skip
    if mode == "lora":
        encoder.add_adapter("a", rank=8, alpha=16, targets=["attn.q", "attn.k", "attn.v"])
        config["adapter"] = "a"
    tokens, cu = encoder.tokenizer.encode(smiles)
    trainer = Trainer(encoder.model, config)
    trainer.set_dataset(tokens, cu.astype(np.int64), y[:, None])
    batches = itertools.cycle(np.array_split(np.arange(len(smiles)), len(smiles) // BATCH))
    return before, lambda: trainer.step(next(batches))["loss"]


def transformers_steps(
    folder: Path, dtype: str, mode: str, smiles: list[str], y: np.ndarray, threads: int
) -> tuple[np.ndarray, Step]:
    import torch
    from transformers import RobertaForSequenceClassification, RobertaTokenizerFast

    torch.set_num_threads(threads)
    model = RobertaForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa")
    tokenizer = RobertaTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))

    def batch(texts: list[str]) -> dict[str, Any]:
        found = tokenizer(texts, padding=True, return_tensors="pt")
        return {key: found[key] for key in ("input_ids", "attention_mask")}

    with torch.no_grad():
        before = model.eval()(**batch(smiles[:BATCH])).logits[:, 0].numpy()
    if mode == "lora":
        from peft import LoraConfig, get_peft_model

        adapter = LoraConfig(
            r=8, lora_alpha=16, target_modules=["query", "key", "value"],
            modules_to_save=["classifier"],
        )  # fmt: skip
        model = get_peft_model(model, adapter)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    parts = np.array_split(np.arange(len(smiles)), len(smiles) // BATCH)
    data = [(batch([smiles[i] for i in part]), torch.from_numpy(y[part])) for part in parts]
    batches = itertools.cycle(data)

    def step() -> float:
        given, target = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            predicted = model(**given).logits[:, 0].float()
        loss = torch.nn.functional.mse_loss(predicted, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    return before, step


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """One row: an epoch to warm up, an epoch that counts, or more until the budget is spent."""
    smiles, y = rows(Path(spec["data"]), spec["table"])
    make = moltide_steps if spec["engine"] == "moltide" else transformers_steps
    folder = Path(spec["folder"])
    before, step = make(folder, spec["dtype"], spec["mode"], smiles, y, spec["threads"])
    steps = len(smiles) // BATCH
    for _ in range(min(steps, 8)):
        step()
    seconds: list[float] = []
    while sum(seconds) < spec["budget"] or not seconds:
        start = time.perf_counter()
        losses = [step() for _ in range(steps)]
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds), "molecules": len(smiles), "peak_mb": memory_mb("VmHWM"),
        "loss": float(np.mean(losses)), "before": before.tolist(),
    }  # fmt: skip


def training_flops(shape: str, smiles: list[str], mode: str) -> float:
    """Of an epoch without padding: forward, and backward to the inputs and (full) the weights."""
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer(str(TOKENIZER / "vocab.json"), str(TOKENIZER / "merges.txt"))
    lengths = np.array([len(one.ids) + 2 for one in bpe.encode_batch(smiles)], float)
    layers, width, _, inner, _ = SHAPES[shape]
    products = layers * 2 * (4 * width**2 + 2 * width * inner) * lengths.sum()
    attention = layers * 4 * width * (lengths**2).sum()
    return float(products * (3 if mode == "full" else 2) + attention * 3)


def limit(dtype: str, threads: int) -> float:
    """FLOP/s of a large product with packed weights, the best of three."""
    import moltide
    from moltide._engine import ops

    moltide.set_num_threads(threads)
    seconds = min(ops.time_matmul(2048, 2048, 2048, dtype, "forward", 1.0) for _ in range(3))
    return 2 * 2048.0**3 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of the published tables")
    add("--models", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    add("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    add("--modes", nargs="+", default=list(MODES), choices=MODES)
    add("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=2, help="turns of each engine")
    add("--budget", type=float, default=5.0, help="seconds of each measurement at least")
    add("--write", action="store_true", help="store in benchmarks/results")
    add("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    if options.data is None or not options.data.is_dir():
        raise SystemExit(f"--data {options.data}: no such folder")
    facts = machine()
    limits = {dtype: limit(dtype, options.threads) for dtype in options.dtypes}
    lines = [
        "# Fine-tuning ChemBERTa: moltide beside Transformers",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        f"- {options.threads} threads, batches of {BATCH}; random weights of the published shapes; "
        f"the best of {options.rounds} turns; an epoch of the training part",
        "- limit: a 2048 x 2048 x 2048 product, "
        + ", ".join(f"{dtype} {rate / 1e9:,.0f} GFLOP/s" for dtype, rate in limits.items()),
        "",
        "| model | table | trained | dtype | moltide, s | Transformers, s | faster | moltide, MB "
        "| Transformers, MB | of the limit |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for shape in options.models:
            make_checkpoint(Path(scratch) / shape, shape)
        cases = itertools.product(options.models, options.tables, options.modes, options.dtypes)
        for shape, table, mode, dtype in cases:
            found: dict[str, dict[str, Any]] = {}
            for engine in ENGINES * options.rounds:
                spec = {
                    "data": str(options.data), "table": table, "engine": engine, "dtype": dtype,
                    "folder": str(Path(scratch) / shape), "mode": mode,
                    "threads": options.threads, "budget": options.budget,
                }  # fmt: skip
                command = [sys.executable, __file__, "--one", json.dumps(spec)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    raise SystemExit(f"{spec}: failed\n{done.stderr[-2000:]}")
                row = json.loads(done.stdout.splitlines()[-1])
                if engine not in found or row["seconds"] < found[engine]["seconds"]:
                    found[engine] = row
            ours, theirs = (found[engine] for engine in ENGINES)
            if dtype == "float32":
                apart = np.abs(np.subtract(ours["before"], theirs["before"])).max()
                worst = max(worst, float(apart / np.abs(theirs["before"]).max()))
            smiles, _ = rows(options.data, table)
            share = training_flops(shape, smiles, mode) / ours["seconds"] / limits[dtype]
            line = (
                f"| {shape} | {table} | {mode} | {dtype} | {ours['seconds']:.2f} | "
                f"{theirs['seconds']:.2f} | {theirs['seconds'] / ours['seconds']:.2f} | "
                f"{ours['peak_mb']:,.0f} | {theirs['peak_mb']:,.0f} | {share:.0%} |"
            )
            lines.append(line)
            print(line, flush=True)
    lines += ["", f"Predictions before training, float32: {worst:.1e} apart (relative) at most."]
    print(lines[-1])
    if options.write:
        which = "-".join([*options.models, *options.tables])
        name = f"{facts['date']}-chemberta-{options.threads}t-{which}.md"
        path = Path(__file__).parent / "results" / name
        path.write_text("\n".join(lines) + "\n")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
