"""Embedding takes no more memory for more sequences, and files come whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command import call

import moltide as mt
from moltide.cli import embedding_output
from moltide.cli.embedding_output import NpyOutput, ParquetOutput, npy_header
from moltide.random_init import esm2_config, random_encoder

RESIDUES = list("ACDEFGHIKLMNPQRSTVWY")
TABLE = ("csv", "parquet")


def sequences(n: int) -> list[str]:
    rng = np.random.default_rng(5)
    return ["".join(rng.choice(RESIDUES, 20 + i % 11)) for i in range(n)]


def write_input(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".fasta":
        path.write_text("".join(f">s{i}\n{text}\n" for i, text in enumerate(texts)))
        return path
    import pandas as pd

    table = pd.DataFrame({"id": [f"s{i}" for i in range(len(texts))], "sequence": texts})
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["fasta", *TABLE])
@pytest.mark.parametrize("out", ["npy", "parquet", "none"])
def test_every_input_and_output(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, out: str
) -> None:
    """Written in several pieces, the file holds what one pass over all gives."""
    monkeypatch.setattr(embedding_output, "_HELD", 100)
    texts = sequences(40)
    source = write_input(tmp_path / f"in.{kind}", texts)
    target = tmp_path / ("out.npy" if out == "npy" else "out.parquet")
    pool = ["--pool", "none"] if out == "none" else []
    assert call("embed", source, "-o", target, "--backbone", backbone, *pool) == 0
    encoder = mt.load(backbone)
    if out == "npy":
        assert np.array_equal(np.load(target), encoder.embed(texts))
        return
    import pyarrow.parquet as parquet

    table = parquet.read_table(target)
    assert parquet.ParquetFile(target).num_row_groups > 2
    assert table["id"].to_pylist() == [f"s{i}" for i in range(len(texts))]
    want = encoder.embed(texts, None if out == "none" else "mean")
    for got, values in zip(table["embedding"].to_pylist(), want, strict=True):
        assert np.array_equal(np.array(got, np.float32), values)


def test_the_header_is_numpys(tmp_path: Path) -> None:
    for shape in ((0, 3), (1, 480), (123456789, 2560)):
        header = npy_header(*shape)
        assert len(header) == 128
        np.save(tmp_path / "a.npy", np.empty((shape[0] % 10, shape[1]), np.float32))
        path = tmp_path / "header.npy"
        path.write_bytes(header)
        with path.open("rb") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)
            assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.float32)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("before")
    output = (
        NpyOutput(path, 4, tmp_path / "ids.csv", "row")
        if suffix == ".npy"
        else ParquetOutput(path, 4, False)
    )

    def write() -> None:
        with output:
            output.add("a", 1, np.zeros(4, np.float32))
            raise KeyError("a")

    with pytest.raises(KeyError):
        write()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_failure_at_the_end_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    path = tmp_path / "out.npy"
    path.write_text("before")
    output = NpyOutput(path, 4, None, "row")

    def write() -> None:
        with output:
            output.add("a", 1, np.zeros(4, np.float32))
            monkeypatch.setattr(embedding_output, "npy_header", full)

    with pytest.raises(OSError, match="No space"):
        write()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_embed_iter_takes_one_pass_at_a_time() -> None:
    encoder = random_encoder(esm2_config(1, 16, 2))
    taken = []

    def source() -> Iterator[str]:
        for i in range(50):
            taken.append(i)
            yield "MKTVRQERLK"

    results = encoder.embed_iter(source(), batch_tokens=36)  # three sequences of 12 tokens
    next(results)
    assert len(taken) == 4
    assert sum(1 for _ in results) == 49


def test_embed_iter_numbers_sequences_over_all_passes() -> None:
    encoder = random_encoder(esm2_config(1, 16, 2))
    with pytest.raises(mt.DataError, match="sequence 5, position 2"):
        list(encoder.embed_iter(["MKT"] * 5 + ["M1T"], batch_tokens=10))


_GROWTH = """
import sys
from pathlib import Path
from moltide.cli import main
def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0])
backbone, few, many, out, *pool = sys.argv[1:]
for source in (few, few, many):
    assert main(["embed", source, "-o", out, "--backbone", backbone, *pool]) == 0
    print("peak", peak())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "out", "few", "many"),
    # Input is read in pieces of 4,096, two of them alive at times: in the shorter one too.
    [("fasta", "npy", 8300, 16400), ("csv", "npy", 8300, 16400), ("fasta", "none", 1500, 4000)],
)
def test_peak_memory_is_flat(tmp_path: Path, kind: str, out: str, few: int, many: int) -> None:
    """More sequences: the results grow by twice what the peak may grow by, at least."""
    backbone = tmp_path / "backbone"
    random_encoder(esm2_config(1, 256, 4, 64)).save(backbone)
    texts = [text[:8] for text in sequences(many)]
    sources = [write_input(tmp_path / f"{n}.{kind}", texts[:n]) for n in (few, many)]
    target = tmp_path / ("out.npy" if out == "npy" else "out.parquet")
    pool = ["--pool", "none"] if out == "none" else []
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, *map(str, (backbone, *sources, target)), *pool],
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak")]
    added = target.stat().st_size / 1024 * (1 - few / many)
    assert added > 7 * 1024
    assert peaks[2] - peaks[1] < added / 2
