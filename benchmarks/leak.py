"""Whether memory stays flat: many training steps of a tiny model, with embedding between them.

    python benchmarks/leak.py --steps 10000

Prints the resident set every tenth of the run. Every shape is seen in the first tenth; the exit
code is 1 when the resident set has grown by more than --allow-kib from there to the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from moltide import _engine
from moltide.encoder import Encoder
from moltide.random_init import esm2_config, random_encoder

LENGTHS = (5, 9, 14, 20, 31, 44)
MODES = ("full", "lora", "head")
RECOMPUTE = ("none", "mlp", "blocks")


def resident_kib() -> int:
    """Resident memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise OSError("/proc/self/status has no RssAnon")


def make(mode: str, dtype: str, recompute: str) -> tuple[Encoder, _engine.Trainer, list[str]]:
    encoder = random_encoder(esm2_config(2, 32, 4), dtype=dtype)
    encoder.set_head({"pool": "mean", "outputs": 1, "dropout": 0.1})
    encoder.add_adapter("a", rank=2, dropout=0.1)
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in LENGTHS]
    config = {"mode": mode, "adapter": "a", "lr": 1e-4, "schedule": "constant", "max_tokens": 64}
    trainer = _engine.Trainer(encoder.model, {**config, "recompute": recompute})
    tokens, cu = encoder.tokenizer.encode(sequences)
    targets = rng.normal(size=(len(sequences), 1)).astype(np.float32)
    trainer.set_dataset(tokens, cu.astype(np.int64), targets)
    return encoder, trainer, sequences


def run(steps: int, mode: str, dtype: str, recompute: str) -> list[int]:
    """Resident KiB after each tenth of `steps`."""
    encoder, trainer, sequences = make(mode, dtype, recompute)
    rng = np.random.default_rng(1)
    rows, sizes = np.arange(len(sequences)), []
    for step in range(steps):
        some = sequences if step % 2 else sequences[:2]
        trainer.step(rng.permutation(rows)[: 1 + step % len(rows)])
        encoder.embed(some)
        encoder.embed(some, None, adapter="a")
        encoder.logits(some)
        encoder.predict(some)
        if (step + 1) % max(1, steps // 10) == 0:
            sizes.append(resident_kib())
    return sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--allow-kib", type=int, default=512)
    parser.add_argument("--mode", choices=MODES, default="full")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--recompute", choices=RECOMPUTE, default="none")
    given = parser.parse_args()
    sizes = run(given.steps, given.mode, given.dtype, given.recompute)
    for tenth, size in enumerate(sizes, 1):
        print(f"step {tenth * given.steps // 10:>7,}: {size:>9,} KiB")
    growth = sizes[-1] - sizes[0]
    print(f"growth {growth:,} KiB, allowed {given.allow_kib:,}")
    return int(growth > given.allow_kib)


if __name__ == "__main__":
    sys.exit(main())
