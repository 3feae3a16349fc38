"""What all sides of a comparison run: the same checkpoint, sequences and counting."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
from pathlib import Path

import numpy as np

# (layers, width, heads) of published ESM-2 sizes.
SIZES = {"8M": (6, 320, 20), "35M": (12, 480, 20), "150M": (30, 640, 20), "650M": (33, 1280, 20)}
RESIDUES = "LAGVSERTIDPKQNFYMHWC"
# ESM-2's ids of the special tokens, and of the first of RESIDUES.
CLS, PAD, EOS, FIRST_RESIDUE = 0, 1, 2, 4


def length_mix(
    count: int, low: int = 50, high: int = 1022, median: float = 300.0, spread: float = 0.65
) -> np.ndarray:
    """Lengths like a proteome's: evenly spaced quantiles of a log-normal, so that few have the mix.

    The order is shuffled: the order of a file.
    """
    from statistics import NormalDist

    normal = NormalDist(np.log(median), spread)
    quantiles = [normal.inv_cdf((i + 0.5) / count) for i in range(count)]
    lengths = np.clip(np.rint(np.exp(quantiles)), low, high).astype(int)
    return np.random.default_rng(0).permutation(lengths)


def random_sequences(lengths: np.ndarray | list[int], seed: int = 0) -> list[str]:
    """One sequence of random residues for each length."""
    rng = np.random.default_rng(seed)
    letters = np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
    return [rng.choice(letters, n).tobytes().decode() for n in lengths]


def protein_sequences(count: int) -> list[str]:
    return random_sequences(length_mix(count))


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


def token_rows(sequences: list[str]) -> list[np.ndarray]:
    """ESM-2's token ids, <cls> and <eos> included; costs a peer no import of moltide."""
    table = np.zeros(128, dtype=np.int64)
    for i, letter in enumerate(RESIDUES):
        table[ord(letter)] = FIRST_RESIDUE + i
    return [
        np.concatenate([[CLS], table[np.frombuffer(s.encode(), dtype=np.uint8)], [EOS]])
        for s in sequences
    ]


def padded(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(ids, attention mask) of a batch, padded to its longest row."""
    ids = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def split_flops(size: str, lengths: np.ndarray) -> tuple[float, float]:
    """(projections and feed-forward, attention): multiply-adds counted twice, no padding."""
    layers, width, _ = SIZES[size]
    squares = float((lengths.astype(float) ** 2).sum())
    return layers * 24 * width**2 * float(lengths.sum()), layers * 4 * width * squares


def forward_flops(size: str, lengths: np.ndarray) -> float:
    return sum(split_flops(size, lengths))


def parameter_count(size: str) -> int:
    """Weights of the blocks, which every pass reads."""
    layers, width, _ = SIZES[size]
    return layers * (12 * width**2 + 13 * width)


def make_checkpoint(folder: Path, size: str) -> None:
    """An ESM-2 of this size with random weights, in the published format."""
    from moltide.random_init import esm2_config, random_encoder

    if not (folder / "config.json").exists():
        random_encoder(esm2_config(*SIZES[size]), seed=0).save(folder)


def memory_mb(which: str) -> float:
    """This process's resident memory: "VmRSS" now, "VmHWM" at its peak (since its own start)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(which + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict[str, str]:
    """What a result's header says about where it was measured."""
    from moltide import _engine

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit or "unknown",
        "cpu": _engine.cpu_model(),
        "isa": _engine.active_isa(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
    }
