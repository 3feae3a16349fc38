"""`moltide score`: variants, scans, heat maps, and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import call, one_error
from tiny_runs import (
    PARENT,
    read_table,
    write_table,
)

from moltide import load


def test_score_variants_and_scan(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = load(backbone)
    names = ["M1A", "K2G:T3V", "WT"]
    table = write_table(tmp_path / "v.csv", ["mutant", "x"], [[one, 1] for one in names])
    out = tmp_path / "out.csv"
    options = ("--wildtype", PARENT, "--backbone", backbone, "-o", out)
    for method in ("masked", "wildtype", "pseudo"):
        assert call("score", table, *options, "--method", method) == 0
        found = read_table(out)
        expected = encoder.score_variants(PARENT, names, method)
        np.testing.assert_allclose([float(one["score"]) for one in found], expected, rtol=1e-4)
        order = np.argsort(-expected)
        assert [found[i]["rank"] for i in order] == ["1", "2", "3"]
    heat = tmp_path / "scan.svg"
    capsys.readouterr()
    assert call("score", *options, "--heatmap", heat, "--numbering", 24, "--json") == 0
    assert json.loads(capsys.readouterr().out)["scores"] == 19 * len(PARENT)
    scan = read_table(out)
    assert scan[0]["mutation"] == "M24A"
    assert scan[0]["position"] == "24"
    np.testing.assert_allclose(
        float(scan[0]["score"]), encoder.score_variants(PARENT, ["M1A"])[0], rtol=1e-4
    )
    assert heat.read_text().lstrip().startswith("<?xml")
    short = write_table(tmp_path / "s.csv", ["sequence"], [[PARENT], [PARENT[:-1]]])
    assert "row 3" in one_error(capsys, "score", short, "--sequence", "sequence", *options)
    assert "scan" in one_error(capsys, "score", table, *options, "--heatmap", heat)
    wrong = write_table(tmp_path / "w.csv", ["mutant"], [["M1A"], ["A1W"], ["K2W"]])
    assert "A1W" in one_error(capsys, "score", wrong, *options)


def test_score_leaves_out_bad_rows(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["A" + PARENT[1:]], ["MK1"], [PARENT[:-1]], [PARENT]]
    table = write_table(tmp_path / "v.csv", ["sequence"], rows)
    out = tmp_path / "out.csv"
    options = ("--wildtype", PARENT, "--backbone", backbone, "-o", out, "--sequence", "sequence")
    assert "row 3" in one_error(capsys, "score", table, *options)
    assert call("score", table, *options, "--on-bad-row", "set_aside", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["scores"] == 2
    assert (
        "2 rows left out (row 3: '1' at position 3 is no residue; row 4: 21 residues"
        in captured.err
    )
    found = read_table(out)
    assert [bool(one["score"]) for one in found] == [True, False, False, True]
    assert [one["note"][:10] for one in found] == ["", "not scored", "not scored", ""]
    bad = write_table(tmp_path / "bad.csv", ["sequence"], rows[1:3])
    found_error = one_error(capsys, "score", bad, *options, "--on-bad-row", "set_aside")
    assert "no variant to score: 2 rows left out" in found_error


def test_a_scan_leaves_out_unknown_residues(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    options = ("--backbone", backbone, "-o", out, "--heatmap", tmp_path / "scan.svg")
    assert call("score", "--wildtype", "MKXT", *options) == 0
    assert "1 position of the wild type left out" in capsys.readouterr().out
    assert {one["position"] for one in read_table(out)} == {"1", "2", "4"}
    table = write_table(tmp_path / "v.csv", ["sequence"], [["MKAT"], ["MKXA"]])
    options = ("--wildtype", "MKXT", "--backbone", backbone, "-o", out)
    assert call("score", table, *options, "--sequence", "sequence") == 0
    assert "1 variant at positions where the wild type has none" in capsys.readouterr().out


def test_score_refuses_a_heat_map_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    options = ("-o", out, "--heatmap", tmp_path / "scan.pdf", "--backbone", tmp_path / "none")
    assert "scan.pdf" in one_error(capsys, "score", "--wildtype", PARENT, *options)
    assert not out.exists()
