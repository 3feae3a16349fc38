"""Each instruction set of this machine is reached: by every op's tests, and from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import moltide as mt
from moltide import _engine

ROOT = Path(__file__).resolve().parents[2]
SEQUENCES = ["MQYKLILNGKTLKGETTTEAVDAATAEKVF", "MKV", "ACDEFGHIKLMNPQRSTVWY" * 9]
# What an op's tests are called where they are not called after its folder.
NAMES = {
    "loss": "losses",
    "layernorm_quantize": "quantize",
    "pair_planes": "pairs",
    "embedding_sum": "pair_stream",
    "gate": "pair_stream",
    "triangle_product": "pair_stream",
}


def command(isa: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "moltide", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "MOLTIDE_ISA": isa},
        check=False,
    )


def test_every_op_is_tested_on_each():
    ops = {path.parent.name for path in (ROOT / "kernels").glob("*/*_cpu.cpp")}
    assert len(ops) > 10
    fixture = re.compile(r"\b(?:vector_)?isa\b")
    missing = [
        op
        for op in sorted(ops)
        if not fixture.search((ROOT / f"tests/kernels/test_{NAMES.get(op, op)}.py").read_text())
    ]
    assert not missing


def test_the_environment_forces_one_for_the_command(isa, tmp_path):
    """And a model computes there what it computes here with the same one set."""
    (tmp_path / "some.fasta").write_text("".join(f">{s[:3]}\n{s}\n" for s in SEQUENCES))
    result = command(isa, "embed", str(tmp_path / "some.fasta"), "-o", str(tmp_path / "out.npy"))
    assert result.returncode == 0, result.stderr
    expected = mt.load("protein-mini").embed(SEQUENCES)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    report = json.loads(command(isa, "info", "--json").stdout)
    assert report["instruction_set"] == isa


def test_the_best_one_is_the_default():
    report = json.loads(command("", "info", "--json").stdout)
    last = _engine.available_isas()[-1]
    # tests/cpp/test_isa.cpp says which of the two it is on whose processor.
    allowed = {"avx512_bf16": {"avx512_bf16", "avx512_vnni"}}.get(last, {last})
    assert report["instruction_set"] in allowed


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_they_agree_within_rounding(dtype):
    results = {}
    for name in _engine.available_isas():
        _engine.set_isa(name)
        results[name] = mt.load("protein-mini", dtype=dtype).embed(SEQUENCES)
    limit = {"float32": 1e-4, "bf16": 5e-2}[dtype]
    for name, values in results.items():
        error = np.abs(values - results["portable"]).max() / np.abs(values).max()
        assert error < limit, (name, error)
