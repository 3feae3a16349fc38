"""moltide beside Transformers + PyTorch (+ PEFT): residues/s and peak memory, one run, interleaved.

    python benchmarks/peers.py                      # all cases, one thread, table on the terminal
    python benchmarks/peers.py --only embed --sizes 8M --threads 2 --write

Every row is a fresh process, so that peak memory is that row's own. Both sides load the same random
ESM-2 checkpoint; embeddings are compared. --write stores the table in benchmarks/results/.
Needs torch, transformers and peft besides moltide.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from workload import (
    SIZES,
    assay_sequences,
    forward_flops,
    machine,
    make_checkpoint,
    peak_rss_mb,
    protein_sequences,
)

EMBED_PEERS = (
    ("moltide", "float32", ""),
    ("transformers", "float32", "batch 8, file order"),
    ("transformers", "float32", "one by one"),
    ("moltide", "bf16", ""),
    ("transformers", "bf16", "one by one"),
)
TRAIN_PEERS = (
    ("moltide", "float32", ""),
    ("transformers", "float32", ""),
    ("moltide", "bf16", ""),
    ("transformers", "bf16", "autocast"),
)
BATCH = 16


def timed(run, budget: float, clock: str) -> list[float]:
    """Seconds of repeated runs after one warm-up, until the budget is spent (at least two)."""
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    run()
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < budget:
        start = now()
        run()
        seconds.append(now() - start)
    return seconds


def embed_moltide(folder: str, dtype: str, sequences: list[str]):
    import moltide as mt

    encoder = mt.load(folder, dtype=dtype)
    return lambda: encoder.embed(sequences)


def tokenised(sequences: list[str]) -> list[list[int]]:
    from moltide.tokenizer import ResidueTokenizer

    tokens, cu = ResidueTokenizer().encode(sequences)
    return [tokens[a:b].tolist() for a, b in itertools.pairwise(cu)]


def padded(rows: list[list[int]]):
    import torch

    ids = torch.ones(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def embed_transformers(folder: str, dtype: str, note: str, sequences: list[str]):
    import torch
    from transformers import EsmModel

    model = EsmModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="sdpa")
    model = model.to(torch.bfloat16 if dtype == "bf16" else torch.float32).eval()
    rows = tokenised(sequences)
    size = 1 if note == "one by one" else 8

    def run():
        out = []
        with torch.no_grad():
            for i in range(0, len(rows), size):
                ids, mask = padded(rows[i : i + size])
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
                keep = mask.clone()
                keep[:, 0] = 0
                keep[torch.arange(len(ids)), mask.sum(1) - 1] = 0
                keep = keep.unsqueeze(-1)
                out.append((hidden * keep).sum(1) / keep.sum(1))
        return torch.cat(out).numpy()

    return run


def train_moltide(folder: str, dtype: str, mode: str, sequences: list[str], y: np.ndarray):
    import moltide as mt
    from moltide._engine import Trainer

    encoder = mt.load(folder, dtype=dtype)
    encoder.set_head({"pool": "cls", "hidden": encoder.width, "outputs": 1})
    if mode == "lora":
        encoder.add_adapter("a", rank=8, alpha=16, targets=["attn.q", "attn.k", "attn.v"])
    trainer = Trainer(
        encoder.model,
        {"mode": mode, "adapter": "a" if mode == "lora" else "", "objective": "mse", "lr": 1e-4},
    )
    tokens, cu = encoder.tokenizer.encode(sequences)
    trainer.set_dataset(tokens, cu.astype(np.int64), y[:, None])
    batches = np.arange(len(sequences)).reshape(-1, BATCH)

    def run():
        return [trainer.step(rows)["loss"] for rows in batches]

    return run


def train_transformers(folder: str, dtype: str, mode: str, sequences: list[str], y: np.ndarray):
    import torch
    from transformers import EsmForSequenceClassification

    model = EsmForSequenceClassification.from_pretrained(
        folder, num_labels=1, problem_type="regression", attn_implementation="sdpa"
    )
    if mode == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model,
            LoraConfig(
                r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "key", "value"],
                modules_to_save=["classifier"],
            ),
        )  # fmt: skip
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    rows = tokenised(sequences)
    target = torch.from_numpy(y)

    def run():
        losses = []
        for i in range(0, len(rows), BATCH):
            ids, mask = padded(rows[i : i + BATCH])
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                out = model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
            loss = torch.nn.functional.mse_loss(out, target[i : i + BATCH])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
        return losses

    return run


def worker(spec: dict) -> None:
    """One row: prints a JSON line with residues/s (median, best) and peak memory."""
    threads = spec["threads"]
    if spec["engine"] == "moltide":
        import moltide

        moltide.set_num_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)
    if spec["kind"] == "embed":
        sequences = protein_sequences(spec["count"])
        if spec["note"] == "one by one" or spec["engine"] == "moltide":
            sequences = sorted(sequences, key=len)
        if spec["engine"] == "moltide":
            run = embed_moltide(spec["folder"], spec["dtype"], sequences)
        else:
            run = embed_transformers(spec["folder"], spec["dtype"], spec["note"], sequences)
        passes = 1.0
    else:
        mode = spec["kind"].split("-")[1]
        sequences = assay_sequences(spec["count"], spec["length"])
        y = np.random.default_rng(0).normal(size=spec["count"]).astype(np.float32)
        build = train_moltide if spec["engine"] == "moltide" else train_transformers
        run = build(spec["folder"], spec["dtype"], mode, sequences, y)
        passes = 3.0 if mode == "full" else 2.0
    ready = peak_rss_mb()
    seconds = timed(run, spec["budget"], spec["clock"])
    lengths = np.array([len(s) for s in sequences])
    result = {
        "median": lengths.sum() / statistics.median(seconds),
        "best": lengths.sum() / min(seconds),
        "gflops": passes * forward_flops(spec["size"], lengths + 2) / min(seconds) / 1e9,
        "ready_mb": ready,
        "peak_mb": peak_rss_mb(),
    }
    if spec["kind"] == "embed":
        np.save(
            spec["save"], np.asarray(run())[np.argsort([len(s) for s in sequences], kind="stable")]
        )
    print(json.dumps(result), flush=True)


def measure(spec: dict) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": str(spec["threads"]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(spec)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{spec}: failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def cases(options: argparse.Namespace):
    for size in options.sizes:
        if options.only in (None, "embed"):
            yield {"kind": "embed", "size": size, "count": options.count}, EMBED_PEERS
        if options.only in (None, "train") and size != "150M":
            for mode in ("full", "lora"):
                for length in (56, 237):
                    count = 4 * BATCH if length < 100 else 2 * BATCH
                    case = {"kind": f"train-{mode}", "size": size, "length": length, "count": count}
                    yield case, TRAIN_PEERS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["embed", "train"])
    parser.add_argument("--sizes", nargs="+", default=["8M", "35M"], choices=list(SIZES))
    parser.add_argument("--count", type=int, default=64, help="sequences to embed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="times the peers take turns")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds of each measurement")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall",
        help="cpu: processor time, fair to both on a shared machine (one thread only)",
    )  # fmt: skip
    parser.add_argument(
        "--write", action="store_true", help="store the table in benchmarks/results"
    )
    options = parser.parse_args()
    if options.worker:
        worker(json.loads(options.worker))
        return
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu goes with --threads 1")

    lines = [
        "# moltide beside Transformers + PyTorch on the CPU",
        "",
        *(f"- {k}: {v}" for k, v in machine().items()),
        f"- threads: {options.threads}; medians over {options.rounds} rounds, {options.clock} time",
        "",
        "| case | engine | dtype | residues/s | to moltide | GFLOP/s | peak MB |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for case, peers in cases(options):
            folder = Path(scratch, case["size"])
            make_checkpoint(folder, case["size"])
            rows: dict[tuple, list[dict]] = {peer: [] for peer in peers}
            for _ in range(options.rounds):
                for engine, dtype, note in peers:
                    spec = {
                        **case, "engine": engine, "dtype": dtype, "note": note,
                        "folder": str(folder), "threads": options.threads,
                        "budget": options.budget, "clock": options.clock,
                        "save": str(Path(scratch, f"{engine}-{dtype}.npy")),
                    }  # fmt: skip
                    rows[engine, dtype, note].append(measure(spec))
            own = {
                peer[1]: statistics.median(r["median"] for r in results)
                for peer, results in rows.items()
                if peer[0] == "moltide"
            }
            name = " ".join(str(case[k]) for k in ("kind", "size", "length") if k in case)
            for (engine, dtype, note), results in rows.items():
                rate = statistics.median(r["median"] for r in results)
                peak = max(r["peak_mb"] for r in results)
                gflops = statistics.median(r["gflops"] for r in results)
                label = engine + (f" ({note})" if note else "")
                line = (
                    f"| {name} | {label} | {dtype} | {rate:,.0f} | {own[dtype] / rate:.2f}x | "
                    f"{gflops:.0f} | {peak:,.0f} |"
                )
                lines.append(line)
                print(line, flush=True)
            if case["kind"] == "embed":
                ours = np.load(Path(scratch, "moltide-float32.npy"))
                theirs = np.load(Path(scratch, "transformers-float32.npy"))
                note = (
                    f"largest difference of float32 embeddings: {np.abs(ours - theirs).max():.1e}"
                )
                print(note, flush=True)
                lines += ["", f"{case['size']}: {note}", ""]
    if options.write:
        facts = machine()
        path = Path(__file__).parent / "results" / f"{facts['date']}-peers-{options.threads}t.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        print(f"written: {path}")


if __name__ == "__main__":
    main()
