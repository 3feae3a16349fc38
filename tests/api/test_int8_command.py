"""--dtype int8: results of embed, score and predict, and the line on what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import FAST, NEW, call, one_error
from tiny_runs import PARENT, read_table, write_table

from moltide import ConfigError, load

COST = "int8 against float32, on "


def test_embed(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "in.csv", ["sequence"], [[text] for text in NEW])
    out = tmp_path / "out.npy"
    assert call("embed", table, "-o", out, "--backbone", backbone, "--dtype", "int8") == 0
    said = capsys.readouterr().out
    assert said.count(COST) == 1
    assert f"{COST}66 residues of 3 sequences: embeddings differ by " in said
    found, exact = np.load(out), load(backbone).embed(NEW)
    assert np.array_equal(found, load(backbone, dtype="int8").embed(NEW))
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=0.05 * np.abs(exact).max())
    assert call("embed", table, "-o", out, "--backbone", backbone, "--dtype", "bf16") == 0
    assert COST not in capsys.readouterr().out


def test_score(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    options = ("--wildtype", PARENT, "--backbone", backbone, "-o", out, "--dtype", "int8")
    assert call("score", *options) == 0
    said = capsys.readouterr().out
    assert f"{COST}22 residues of 1 sequence: " in said
    assert "log-probabilities by 0." in said
    assert len(read_table(out)) == 19 * len(PARENT)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_predict(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], adapter: str
) -> None:
    rng = np.random.default_rng(0)
    rows = [["".join(rng.permutation(list(PARENT))), rng.normal()] for _ in range(40)]
    assay = write_table(tmp_path / "assay.csv", ["sequence", "fitness"], rows)
    run = tmp_path / "run"
    options = ("--backbone", backbone, "--out", run, "--adapter", adapter, *FAST)
    assert call("finetune", assay, *options) == 0
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in NEW])
    found = []
    for dtype in ("auto", "int8"):
        capsys.readouterr()
        assert call("predict", run, new, "-o", tmp_path / "out.csv", "--dtype", dtype) == 0
        assert (COST in capsys.readouterr().out) == (dtype == "int8")
        found.append([float(row["predicted"]) for row in read_table(tmp_path / "out.csv")])
    assert found[0] != found[1]
    # Random weights and sequences far from the training rows: much is made of little.
    np.testing.assert_allclose(found[1], found[0], atol=0.1 * max(map(abs, found[0])))


def test_training_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "missing.csv"
    said = one_error(capsys, "finetune", table, "--out", tmp_path / "run", "--dtype", "int8", *FAST)
    assert "dtype 'int8' is for inference; train in 'float32' or 'bf16'" in said


def test_other_names_are_refused(backbone: Path) -> None:
    with pytest.raises(ConfigError, match="'bf16', 'int8'"):
        load(backbone, dtype="int4")
