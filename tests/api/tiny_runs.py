"""A tiny backbone on disk and small variant assays, for tests of training and of the command."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moltide.random_init import esm2_config, random_encoder

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
PARENT = "MKTAYIAKQRQISFVKSHFSRQ"


def tiny_encoder(seed: int = 0, dtype: str = "float32") -> Any:
    """Two layers of width 16, random weights."""
    return random_encoder(esm2_config(2, 16, 2), seed, dtype)


def tiny_backbone(folder: Path) -> Path:
    """`tiny_encoder` in the published format."""
    tiny_encoder().save(folder)
    return folder


def variants(n: int, seed: int = 0, changes: int = 3) -> tuple[list[str], np.ndarray]:
    """Distinct variants of PARENT, and a value that adds up over residues, with noise."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=(len(PARENT), len(RESIDUES)))
    found: dict[str, float] = {}
    while len(found) < n:
        text = list(PARENT)
        value = rng.normal(scale=0.1)
        for place in rng.choice(len(PARENT), changes, replace=False):
            letter = int(rng.integers(len(RESIDUES)))
            text[place] = RESIDUES[letter]
            value += effects[place, letter]
        found["".join(text)] = value
    return list(found), np.array(list(found.values()))


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """A CSV file."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def assay(path: Path, n: int = 120, seed: int = 0) -> Path:
    """A table of variants with columns sequence and fitness."""
    sequences, values = variants(n, seed)
    return write_table(path, ["sequence", "fitness"], list(zip(sequences, values, strict=True)))


def moltide(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "moltide", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1", **options.pop("env", {})},
        **options,
    )


def wait_for_log(out: Path, process: subprocess.Popen[str], rows: int) -> None:
    """Until the run's log has so many rows, or the process has ended."""
    log = out / "log.jsonl"
    while process.poll() is None:
        if log.is_file() and log.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.005)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` by its path in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
