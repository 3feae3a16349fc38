"""Pretrain the bundled `protein-mini`: masked-LM on natural proteins, by the engine itself.

    python examples/pretrain_protein_mini.py \\
        --train train.fasta.gz --valid valid.fasta.gz --out mini/

Reproduces the bundled weights from the sequences named in its model card (same seed, same files).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pyfastx

import moltide as mt
from moltide._engine import Trainer
from moltide.random_init import esm2_config, random_encoder

STANDARD = "ACDEFGHIKLMNPQRSTVWY"


def read_fasta(path: str, longest: int) -> list[str]:
    """Sequences, cut into pieces of at most `longest` residues; pieces below 16 are left out."""
    pieces = []
    for record in pyfastx.Fastx(path):
        sequence = record[1].upper()
        pieces += [sequence[i : i + longest] for i in range(0, len(sequence), longest)]
    return [p for p in pieces if len(p) >= 16]


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)


def batches(lengths: np.ndarray, tokens: int, seed: int):
    """Endless batches of about `tokens` packed tokens; the order is a function of the seed."""
    epoch = 0
    while True:
        order = epoch_order(len(lengths), seed, epoch)
        ends = np.cumsum(lengths[order])
        cuts = np.searchsorted(ends, np.arange(tokens, ends[-1], tokens))
        for rows in np.split(order, np.unique(cuts)):
            if len(rows):
                yield epoch, rows
        epoch += 1


def perplexity(encoder: mt.Encoder, sequences: list[str], seed: int = 1) -> float:
    """exp(mean cross-entropy) at a fixed 15 % of residues, all replaced by <mask>."""
    tokens, cu = encoder.tokenizer.encode(sequences)
    rng = np.random.default_rng(seed)
    standard = np.array([encoder.tokenizer.id_of(r) for r in STANDARD])
    chosen = (rng.random(len(tokens)) < 0.15) & np.isin(tokens, standard)
    masked = np.where(chosen, encoder.tokenizer.mask_id, tokens).astype(np.int32)
    total = 0.0
    for start in range(0, len(sequences), 32):
        stop = min(start + 32, len(sequences))
        piece = slice(cu[start], cu[stop])
        logits = encoder.model.logits(masked[piece], (cu[start : stop + 1] - cu[start]))
        picked = chosen[piece]
        logits = logits[picked].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= log_p[np.arange(len(log_p)), tokens[piece][picked]].sum()
    return float(np.exp(total / chosen.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", required=True)
    parser.add_argument("--valid", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--longest", type=int, default=320)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--init", type=float, default=0.06, help="deviation of initial weights")
    parser.add_argument("--every", type=int, default=500, help="steps between validations")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    train, valid = read_fasta(args.train, args.longest), read_fasta(args.valid, args.longest)[:400]
    encoder = random_encoder(
        esm2_config(args.layers, args.width, args.heads), args.seed, args.dtype, args.init
    )
    tokens, cu = encoder.tokenizer.encode(train)
    trainer = Trainer(
        encoder.model,
        {
            "mode": "full",
            "objective": "mlm",
            "lr": args.lr,
            "beta2": 0.98,
            "weight_decay": 0.01,
            "clip_norm": 1.0,
            "schedule": "cosine",
            "warmup_steps": min(200, args.steps // 10),
            "total_steps": args.steps,
            "min_lr_ratio": 0.02,
            "seed": args.seed,
            "max_tokens": 4096,
            "mlm_residues": [encoder.tokenizer.id_of(r) for r in STANDARD],
        },
    )
    trainer.set_dataset(tokens, cu.astype(np.int64))
    print(
        f"{len(train):,} pieces, {len(tokens):,} tokens; validation {len(valid):,} pieces",
        flush=True,
    )
    start, seen, losses = time.perf_counter(), 0, []
    order = batches(np.diff(cu), args.batch_tokens, args.seed)
    for step in range(1, args.steps + 1):
        epoch, rows = next(order)
        result = trainer.step(rows)
        seen += result["tokens"]
        losses.append(result["loss"])
        if step % 50 == 0:
            rate = seen / (time.perf_counter() - start)
            print(
                f"step {step:5d} epoch {epoch} loss {np.mean(losses[-50:]):.4f} "
                f"lr {result['lr']:.2e} norm {result['grad_norm']:.2f} {rate:,.0f} tokens/s",
                flush=True,
            )
        if step % args.every == 0 or step == args.steps:
            value = perplexity(encoder, valid)
            print(f"step {step:5d} validation perplexity {value:.3f}", flush=True)
            encoder.save(args.out, dtype="bf16")
            facts = {"step": step, "tokens": seen, "perplexity": value, **vars(args)}
            Path(args.out, "training.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
