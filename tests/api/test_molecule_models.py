"""Fine-tuning on molecules: estimators that take SMILES, a run with its baselines and domain."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call
from molecule_tables import DATA, bbbp, esol

import moltide as mt
from moltide.assay_model.molecule_domain import FILE
from moltide.baselines import boosting, forest
from moltide.baselines.result import NAMES_OF
from moltide.errors import ConfigError, DataError
from moltide.random_init import esm2_config, random_encoder
from moltide.smiles_tokenizer import SmilesTokenizer

ESOL, LOG_S = esol()
BBBP, PASSES = bbbp()
QUICK: dict[str, Any] = {"epochs": 1, "max_tokens": 4096, "adapter": "head"}


def encoder() -> Any:
    """Two layers of width 16 over SMILES, random weights."""
    config = {**esm2_config(2, 16, 2), "token_dropout": False, "contact_head": False}
    return random_encoder(config, tokenizer=SmilesTokenizer())


@pytest.fixture(scope="module")
def fitted() -> Any:
    return mt.AssayRegressor(encoder(), **QUICK).fit(ESOL, LOG_S)


def test_estimators_take_smiles_in_any_form(fitted: Any) -> None:
    one = fitted.predict(["OCC", "c1ccccc1O", "[Na+].CC(=O)[O-]"])
    other = fitted.predict(["CCO", "Oc1ccccc1", "CC(=O)O"])
    np.testing.assert_array_equal(one, other)
    assert fitted.predict(np.array([["CCO"], ["CCN"]])).shape == (2,)


def test_estimators_of_proteins_say_which_backbone_reads_smiles() -> None:
    message = r"sequence 0, position 3: '\(' is no residue; molecules .* backbone='molecule-mini'"
    with pytest.raises(DataError, match=message):
        mt.AssayRegressor("protein-mini").fit(["CC(=O)O", "CCO", "CCN"], [1.0, 2.0, 3.0])


def test_classifiers_take_smiles() -> None:
    model = mt.AssayClassifier(encoder(), **QUICK).fit(BBBP, PASSES)
    assert model.predict_proba(BBBP[:5]).shape == (5, 2)
    assert set(model.predict(BBBP[:5])) <= {0, 1}


def test_estimators_name_the_nearest_training_molecule(fitted: Any, tmp_path: Path) -> None:
    found = fitted.model_.domain.score([ESOL[3]])
    trained = {int(name) for name in fitted.model_.domain.names}
    assert trained < set(range(200))
    assert (found.nearest == ["3"]) == (3 in trained)
    fitted.save(tmp_path / "model")
    loaded = mt.load_assay_model(tmp_path / "model")
    assert (tmp_path / "model" / FILE).is_file()
    assert loaded.domain_notes(BBBP) == fitted.domain_notes(BBBP)
    np.testing.assert_array_equal(loaded.predict(BBBP), fitted.predict(BBBP))


def test_what_is_no_molecule_is_named(fitted: Any) -> None:
    with pytest.raises(DataError, match=r"sequence 1: 'C1CC' is no molecule: "):
        fitted.predict(["CCO", "C1CC"])
    with pytest.raises(ConfigError, match="allowed of molecules: 'sequence'"):
        mt.AssayRegressor(encoder(), level="residue").fit(ESOL[:20], [[1.0]] * 20)


def test_a_run_on_molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "TREES", 10)
    monkeypatch.setattr(boosting, "ROUNDS", 20)
    encoder().save(tmp_path / "backbone")
    run = tmp_path / "run"
    given = ["--backbone", tmp_path / "backbone", "--out", run, "--epochs", 1]
    assert call("finetune", DATA / "esol_200.csv", "--target", "logS", *given) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "scaffold"
    assert set(metrics["baselines"]) == set(NAMES_OF["molecule"])
    assert "molecules (split: scaffold)" in metrics["verdict"]
    config = json.loads((run / "config.json").read_text())
    assert {"scaffolds", "nearest_train_similarity"} <= set(config["split"])
    methods = {point["method"] for point in config["learning_curve"]}
    assert methods <= {"model", "morgan_forest"}

    with (run / "predictions.csv").open(newline="") as stream:
        predicted = list(csv.DictReader(stream))
    with (run / "split.csv").open(newline="") as stream:
        parts = {row["rows"]: row["split"] for row in csv.DictReader(stream)}
    for row in predicted:
        assert parts[row["nearest_row"]] == "train"
        assert 0 < float(row["nearest_similarity"]) <= 1
    out = tmp_path / "out.csv"
    assert call("predict", run, DATA / "bbbp_200.csv", "-o", out, "--on-bad-row", "set_aside") == 0
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 200
    for row in rows:
        assert (row["in_domain"] == "yes") == (row["domain_note"] == "")
        assert parts[row["nearest_row"]] == "train"
