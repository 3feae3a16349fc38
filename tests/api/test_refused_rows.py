"""Sequences that are fine, but not for the backbone: longer than its positions, larger than what it
was made for. They are rows that cannot be read, by number and with the reason."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import FAST, call, one_error
from tiny_runs import PARENT, read_table, tiny_encoder, variants, write_table

import moltide as mt
from moltide.random_init import esm2_config, random_encoder

UNIMOL = Path(__file__).parent.parent / "data" / "unimol_tiny"
POSITIONS = len(PARENT) + 2
LONG = PARENT * 2
REASON = f"{len(LONG)} residues, and the backbone has positions for {POSITIONS}"


def learned(folder: Path) -> Path:
    """A backbone that has positions for two residues more than the variants have."""
    config = {**esm2_config(2, 16, 2, max_positions=POSITIONS + 4), "position": "learned"}
    random_encoder(config).save(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 variants; rows 5 and 9 are too long for `learned`."""
    texts, values = variants(60)
    rows: list[list[Any]] = [[text, f"{y:.3f}"] for text, y in zip(texts, values, strict=True)]
    rows.insert(3, [LONG, "1.0"])
    rows.insert(7, [LONG + "A", "2.0"])
    return write_table(tmp_path_factory.mktemp("table") / "t.csv", ["sequence", "y"], rows)


def test_encoders_say_what_they_refuse(tmp_path: Path) -> None:
    short = mt.load(learned(tmp_path))
    fits = PARENT + "AA"
    assert short.refusals([PARENT, LONG, fits, fits + "A"]) == {
        1: REASON,
        3: f"{len(fits) + 1} residues, and the backbone has positions for {POSITIONS}",
    }
    assert len(short.embed([fits])) == 1
    assert tiny_encoder().refusals([LONG]) == {}
    # A pair is read with a linker between its chains.
    half = PARENT[: len(PARENT) // 2]
    pair = f"{half}:{half}"
    assert len(pair) <= POSITIONS
    assert list(short.refusals([pair])) == [0]


def test_a_run_sets_them_aside(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = learned(tmp_path / "backbone")
    run = ("finetune", table, "--backbone", backbone, "--adapter", "head", *FAST)
    said = one_error(capsys, *run, "--out", tmp_path / "no")
    assert f"the backbone cannot read 2 of 62 rows (row 5: {REASON}; row 9: " in said
    assert "--on-bad-row set_aside" in said
    assert not (tmp_path / "no").exists()
    assert call(*run, "--out", tmp_path / "run", "--on-bad-row", "set_aside") == 0
    assert "set aside, cannot be read by the backbone: 2 (rows 5 and 9)" in " ".join(
        capsys.readouterr().out.split()
    )
    with (tmp_path / "run" / "account.csv").open(newline="") as stream:
        account = {int(row["row"]): row for row in csv.DictReader(stream)}
    assert len(account) == 62
    assert {row for row, one in account.items() if one["state"] == "set aside"} == {5, 9}
    assert account[5]["reason"] == REASON
    new = write_table(tmp_path / "new.csv", ["sequence"], [[PARENT], [LONG], [PARENT + "A"]])
    out = tmp_path / "out.csv"
    predict = ("predict", tmp_path / "run", new, "-o", out)
    assert f"row 3: {REASON}" in one_error(capsys, *predict)
    assert not out.exists()
    assert call(*predict, "--on-bad-row", "set_aside") == 0
    found = read_table(out)
    assert [bool(row["predicted"]) for row in found] == [True, False, True]
    assert found[1]["domain_note"] == f"not predicted: {REASON}"


def test_embeddings_leave_them_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = learned(tmp_path / "backbone")
    fasta, out = tmp_path / "in.fasta", tmp_path / "out.npy"
    fasta.write_text(f">a\n{PARENT}\n>b\n{LONG}\n>c\n{PARENT[:9]}\n")
    embed = ("embed", fasta, "-o", out, "--backbone", backbone)
    assert f"record 2 (b): {REASON}" in one_error(capsys, *embed)
    assert call(*embed, "--on-bad-row", "set_aside") == 0
    assert np.array_equal(np.load(out), mt.load(backbone).embed([PARENT, PARENT[:9]]))


def test_molecules_of_too_many_atoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rings = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccsc1")
    smiles = [f"{'C' * n}{link}{ring}" for n in range(3) for link in "NO" for ring in rings]
    smiles.insert(4, "C" * 200)
    table = write_table(
        tmp_path / "t.csv", ["smiles", "y"], [[one, i / 7] for i, one in enumerate(smiles)]
    )
    options = ("--backbone", UNIMOL, "--adapter", "head", "--split", "random", *FAST)
    run = ("finetune", table, "--out", tmp_path / "run", *options)
    reason = "it has 602 atoms, hydrogens included; at most 510 are allowed"
    assert f"1 of {len(smiles)} rows (row 6: {reason})" in one_error(capsys, *run)
    assert call(*run, "--on-bad-row", "set_aside") == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())
    new = write_table(tmp_path / "new.csv", ["smiles"], [["CCO"], ["C" * 200]])
    out = tmp_path / "out.csv"
    assert call("predict", tmp_path / "run", new, "-o", out, "--on-bad-row", "set_aside") == 0
    assert read_table(out)[1]["domain_note"] == f"not predicted: {reason}"
