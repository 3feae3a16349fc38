"""`moltide predict` and `embed` of molecules: standardised as in training, every row told."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import FAST, call, one_error
from molecule_tables import DATA, tiny_backbone
from partial_files import rows_held

import moltide as mt
from moltide.errors import ConfigError, DataError
from moltide.pretrained.locate import bundled_names, default_backbone
from moltide.sequence_files import read_sequences

SMILES = ["CCO", "c1ccccc1O", "CC(=O)[O-].[Na+]", "N[C@@H](C)C(=O)O", "CCN(CC)CC"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone") / "molecules")


@pytest.fixture(scope="module")
def run(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "esol"
    options = ("--backbone", backbone, "--split", "random", "--stereo", "drop", "--adapter", "head")
    table = DATA / "esol_200.csv"
    assert call("finetune", table, "--target", "logS", "--out", out, *options, *FAST) == 0
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def predicted(run: Path, source: Path, out: Path, *options: str) -> list[dict[str, str]]:
    assert call("predict", run, source, "-o", out, *options) == 0
    return rows_of(out)


def table(path: Path, smiles: list[str]) -> Path:
    lines = [f"m{i},{text}" for i, text in enumerate(smiles)]
    path.write_text("\n".join(["name,smiles", *lines]) + "\n")
    return path


def test_predictions_are_those_of_the_standard_form(run: Path, tmp_path: Path) -> None:
    """Salts, charges, spellings, and (as this run was told) stereo make no difference."""
    one = predicted(run, table(tmp_path / "a.csv", SMILES), tmp_path / "a.out.csv")
    other = ["OCC", "Oc1ccccc1", "CC(=O)O", "NC(C)C(=O)O", "Cl.CCN(CC)CC"]
    two = predicted(run, table(tmp_path / "b.csv", other), tmp_path / "b.out.csv")
    assert [row["predicted"] for row in one] == [row["predicted"] for row in two]
    assert [row["smiles"] for row in one] == SMILES
    assert {row["nearest_similarity"] for row in one} == {row["nearest_similarity"] for row in two}
    # From Python, the model that was loaded standardises as its run did.
    values = mt.load_assay_model(run).predict(other)
    np.testing.assert_allclose(values, [float(row["predicted"]) for row in one], rtol=1e-4)


def test_lines_of_smiles_and_tables_give_the_same(run: Path, tmp_path: Path) -> None:
    lines = tmp_path / "new.smi"
    lines.write_text("".join(f"{text} m{i}\n" for i, text in enumerate(SMILES)))
    one = predicted(run, lines, tmp_path / "lines.csv")
    two = predicted(run, table(tmp_path / "a.csv", SMILES), tmp_path / "table.csv")
    assert [row["predicted"] for row in one] == [row["predicted"] for row in two]


def test_unreadable_molecules_are_told_by_row(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "new.csv", [*SMILES, "C1CC", "", "CC(C)(C)(C)(C)C"])
    said = one_error(capsys, "predict", run, source, "-o", tmp_path / "out.csv")
    assert "in 2 of 8 rows" in said
    assert "row 7" in said
    assert "ring" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv"]
    found = predicted(run, source, tmp_path / "out.csv", "--on-bad-row", "set_aside")
    assert [bool(row["predicted"]) for row in found] == [True] * 5 + [False] * 3
    assert "ring" in found[5]["domain_note"]
    assert "no SMILES" in found[6]["domain_note"]
    assert "valence" in found[7]["domain_note"]


def test_what_is_no_table_of_molecules_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">p\nMKTAYIAKQR\n")
    said = one_error(capsys, "predict", run, fasta, "-o", tmp_path / "out.csv")
    assert "a.fasta is FASTA; a model of molecules reads" in said
    proteins = tmp_path / "p.csv"
    proteins.write_text("sequence\n" + "MKTAYIAKQRQISFVKSHFSRQ\n" * 3)
    said = one_error(capsys, "predict", run, proteins, "-o", tmp_path / "out.csv")
    assert "no column of SMILES or InChI found" in said


def test_embeddings_of_a_table(backbone: Path, tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", [*SMILES, "C1CC"])
    out = tmp_path / "out.npy"
    options = ("--backbone", backbone, "--on-bad-row", "set_aside")
    assert call("embed", source, "-o", out, *options) == 0
    standard = ["CCO", "Oc1ccccc1", "CC(=O)O", "C[C@H](N)C(=O)O", "CCN(CC)CC"]
    np.testing.assert_array_equal(np.load(out), mt.load(backbone).embed(standard))


def test_the_backbone_goes_by_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {default_backbone("protein"), default_backbone("molecule")} <= set(bundled_names())
    with pytest.raises(ConfigError, match=r"no model of RNA is bundled.*multimolecule/rnafm"):
        default_backbone("rna")
    assert call("embed", table(tmp_path / "a.csv", SMILES), "-o", tmp_path / "a.npy") == 0
    assert np.load(tmp_path / "a.npy").shape == (5, 256)
    capsys.readouterr()
    options = ("--out", tmp_path / "run", "--dry-run")
    assert call("finetune", DATA / "esol_200.csv", "--target", "logS", *options) == 0
    assert "molecule-mini" in capsys.readouterr().out


def test_reading_lists_of_smiles() -> None:
    found = read_sequences(["OCC", "C1CC"], kind="molecule", on_bad_row="set_aside")
    assert found.sequences == ["CCO"]
    assert [(row, name) for row, name, _ in found.skipped] == [(1, "1")]
    with pytest.raises(DataError, match=r"sequence 1: .*ring"):
        read_sequences(["OCC", "C1CC"], kind="molecule")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_killed_prediction_goes_on_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    with (DATA / "esol_200.csv").open(newline="") as stream:
        smiles = [row["smiles"] for row in csv.DictReader(stream)]
    source = tmp_path / "many.csv.gz"
    with gzip.open(source, "wt") as stream:
        stream.write("smiles,place\n")
        stream.writelines(f"{text},{i}\n" for i in range(5) for text in smiles)
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert call("predict", run, source, "-o", whole) == 0
    environment = {**os.environ, "MOLTIDE_PREDICT_CHUNK": "8"}
    command = [sys.executable, "-m", "moltide", "predict", str(run), str(source), "-o", str(out)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    partial = tmp_path / ".out.csv.partial"
    deadline = time.monotonic() + 120
    while rows_held(partial) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < rows_held(partial) < 1000
    assert not out.exists()
    assert call("predict", run, source, "-o", out) == 0
    assert out.read_bytes() == whole.read_bytes()
