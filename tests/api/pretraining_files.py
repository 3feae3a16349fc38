"""Small corpora and a small pretraining run, for the tests of `moltide pretrain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tiny_runs import RESIDUES, write_table

from moltide.pretraining.corpus import Corpus, open_corpus, sha256_of
from moltide.pretraining.reading import Columns
from moltide.pretraining.symbols import Symbols
from moltide.tokenizer import ResidueTokenizer

PROTEINS = Symbols(ResidueTokenizer())
SHAPE = ("--layers", 1, "--width", 16, "--heads", 2)
SMALL = (*SHAPE, "--longest", 40, "--batch-tokens", 256, "--max-tokens", 128, "--lr", "1e-2")


def proteins(n: int, seed: int = 0, low: int = 16, high: int = 100) -> list[str]:
    """Random sequences, rich in a few residues."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(len(RESIDUES), 0.7))
    lengths = rng.integers(low, high, n)
    return ["".join(rng.choice(list(RESIDUES), size, p=shares)) for size in lengths]


def repetitive(n: int, seed: int = 0) -> list[str]:
    """Sequences of three residues each, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    letters = list(RESIDUES)
    return ["".join(rng.choice(rng.choice(letters, 3, replace=False), 60)) for _ in range(n)]


def write_fasta(path: Path, sequences: Sequence[str]) -> Path:
    """Records s1, s2, ... with lines of 30 letters."""
    with path.open("w") as stream:
        for i, text in enumerate(sequences, 1):
            lines = [text[j : j + 30] for j in range(0, len(text), 30)]
            stream.write(f">s{i} a protein\n" + "\n".join(lines) + "\n")
    return path


def corpus_of(folder: Path, sequences: Sequence[str], **columns: Sequence[Any]) -> Corpus:
    """The corpus of a table with these sequences and further columns `cluster`, `weight`."""
    rows = list(zip(sequences, *columns.values(), strict=True))
    table = write_table(folder / "corpus.csv", ["sequence", *columns], rows)
    wanted = Columns("sequence", **{name: name for name in columns})
    return open_corpus([table], [sha256_of(table)], wanted, PROTEINS, folder / "corpora")
