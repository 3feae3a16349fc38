"""Fine-tuning on molecules: from a table of SMILES to a verdict beside chemical baselines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import call, one_error
from molecule_tables import tiny_backbone
from tiny_runs import write_table

import moltide as mt
from moltide.errors import DataError

pytest.importorskip("rdkit")

FAST = ("--epochs", 2, "--no-learning-curve")
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccsc1", "C1CCNCC1", "c1ccoc1")


def molecules() -> list[str]:
    return [
        f"{'C' * length}{link}{ring}" for ring in RINGS for length in range(1, 6) for link in "NO"
    ]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone") / "molecules")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [[smiles, len(smiles) + smiles.count("N")] for smiles in molecules()]
    return write_table(tmp_path_factory.mktemp("table") / "table.csv", ["smiles", "y"], rows)


def test_a_run_on_molecules_ends_beside_their_baselines(
    backbone: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ("--backbone", backbone, "--split", "random", *FAST)
    assert call("finetune", table, "--out", out, *options) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["baselines"]) >= 5
    assert "molecules" in metrics["verdict"]
    model = mt.load_assay_model(out)
    values = model.predict(["CCNc1ccccc1", "c1(NCC)ccccc1", "CCNc1ccccc1.Cl"])
    assert np.isfinite(values).all()
    assert values[0] == values[1] == values[2]
    with pytest.raises(
        DataError, match=r"sequence 1: .*'C1CC' is no SMILES \(ring 1 is not closed"
    ):
        model.predict(["CC", "C1CC"])


def test_an_estimator_takes_smiles(backbone: Path) -> None:
    smiles = molecules()
    model = mt.AssayRegressor(backbone=str(backbone), epochs=2, validation_fraction=0.2)
    model.fit(smiles, [len(text) for text in smiles])
    assert model.predict(smiles[:4]).shape == (4,)


def test_a_backbone_of_another_kind_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--backbone", "protein-mini", *FAST)
    said = one_error(capsys, "finetune", table, "--out", tmp_path / "run", *options)
    assert "table.csv holds molecules, protein-mini reads proteins" in said
    assert "--backbone" in said
