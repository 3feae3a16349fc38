"""What both sides of a comparison run: the same checkpoint, sequences and counting."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
from pathlib import Path

import numpy as np

# (layers, width, heads) of published ESM-2 sizes.
SIZES = {"8M": (6, 320, 20), "35M": (12, 480, 20), "150M": (30, 640, 20)}
RESIDUES = "LAGVSERTIDPKQNFYMHWC"


def protein_sequences(count: int, seed: int = 0, low: int = 50, high: int = 1022) -> list[str]:
    """Random residues in a log-normal length mix like a proteome's (median about 300)."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(300), 0.6, count), low, high).astype(int)
    return ["".join(rng.choice(list(RESIDUES), n)) for n in lengths]


def assay_sequences(count: int, length: int, seed: int = 0) -> list[str]:
    """Variants of one random wild type, three substitutions each."""
    rng = np.random.default_rng(seed)
    wildtype = rng.choice(list(RESIDUES), length)
    rows = []
    for _ in range(count):
        row = wildtype.copy()
        row[rng.choice(length, 3, replace=False)] = rng.choice(list(RESIDUES), 3)
        rows.append("".join(row))
    return rows


def forward_flops(size: str, lengths: np.ndarray) -> float:
    """Multiply-adds counted twice: projections, feed-forward, attention."""
    layers, width, _ = SIZES[size]
    tokens = float(lengths.sum())
    return layers * (24 * width**2 * tokens + 4 * width * float((lengths.astype(float) ** 2).sum()))


def make_checkpoint(folder: Path, size: str) -> None:
    """An ESM-2 of this size with random weights, in the published format."""
    from moltide.random_init import esm2_config, random_encoder

    if not (folder / "config.json").exists():
        random_encoder(esm2_config(*SIZES[size]), seed=0).save(folder)


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict[str, str]:
    """What a result's header says about where it was measured."""
    from moltide import _engine

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit or "unknown",
        "cpu": _engine.cpu_model(),
        "isa": _engine.active_isa(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
    }
