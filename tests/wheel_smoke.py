"""Tries an installed moltide in the current folder; tests/wheel runs it in a fresh environment."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SEQUENCES = ["MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE", "MKV", "ACDEFGHIKL" * 30]
HERE = Path.cwd()


def moltide(*arguments: str, **environment: str) -> str:
    """Standard output of the command as users have it, beside their Python."""
    result = subprocess.run(
        [str(Path(sys.executable).with_name("moltide")), *arguments],
        cwd=HERE,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def main() -> None:
    start = time.perf_counter()
    import moltide as mt

    seconds = time.perf_counter() - start
    assert "site-packages" in str(mt.__file__), mt.__file__
    import numpy as np

    assert "torch" not in sys.modules
    info = json.loads(moltide("info", "--json"))
    assert info["moltide"] == mt.__version__
    assert "protein-mini" in info["bundled_models"]
    print(f"import {1000 * seconds:.0f} ms; {info['instruction_sets']}; {info['threads']} threads")

    expected = mt.load("protein-mini").embed(SEQUENCES)
    (HERE / "some.fasta").write_text("".join(f">s{i}\n{s}\n" for i, s in enumerate(SEQUENCES)))
    for isa in info["instruction_sets"]:
        moltide("embed", "some.fasta", "-o", f"{isa}.npy", MOLTIDE_ISA=isa)
        got = np.load(HERE / f"{isa}.npy")
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=1e-4)
        if isa == info["instruction_set"]:
            np.testing.assert_array_equal(got, expected)

    table = Path(mt.__file__).parent / "bundled" / "assays" / "gb1_flip.csv.gz"
    with gzip.open(table, "rt") as lines:
        (HERE / "some.csv").write_text("".join(itertools.islice(lines, 201)))
    moltide(
        *("finetune", "some.csv", "--target", "target", "--split", "random", "--out", "run"),
        *("--epochs", "1", "--no-learning-curve", "--max-minutes", "1"),
    )
    assert json.loads((HERE / "run" / "metrics.json").read_text())["n_test"] > 0
    print("embed on every instruction set, finetune: as they should be")


if __name__ == "__main__":
    main()
