"""Training on other SMILES of each molecule: which, when, and the same after an interruption."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import one_error
from molecule_tables import esol
from tiny_runs import PARENT, write_table

import moltide as mt
from moltide.assay_model import ModelSpec, Rows, fit_assay_model
from moltide.assay_model.preparation import prepare
from moltide.assay_model.spellings import spellings
from moltide.errors import ConfigError
from moltide.random_init import esm2_config, random_encoder
from moltide.smiles_tokenizer import SMILES_VOCABULARY, SmilesTokenizer
from moltide.training import CheckpointFile, Interrupted, StopRequest, TrainSettings
from moltide.training.plan import epoch_batches, spelled_rows

Chem = pytest.importorskip("rdkit.Chem")
SMILES, LOG_S = esol()
SMILES = [Chem.MolToSmiles(Chem.MolFromSmiles(one)) for one in SMILES[:60]]
ROWS = Rows(SMILES, LOG_S[:60, None])
SPEC = ModelSpec("regression", "sequence", ("y",))
SETTINGS = TrainSettings(epochs=4, batch_size=16, patience=4, augment=3, adapter="full")


def encoder(**changes: Any) -> Any:
    """One layer of width 16 over SMILES, random weights."""
    config = {**esm2_config(1, 16, 2), "vocab": len(SMILES_VOCABULARY), "token_dropout": False}
    config = {**config, "contact_head": False, **changes}
    return random_encoder(config, tokenizer=SmilesTokenizer())


def test_spellings_are_of_the_same_molecules_and_of_the_seed() -> None:
    found = spellings(encoder(), SMILES, 3, 0)
    assert len(found) == 3 * len(SMILES)
    assert [Chem.CanonSmiles(one) for one in found] == SMILES * 3
    assert len({*found} - {*SMILES}) > 2 * len(SMILES)
    assert spellings(encoder(), SMILES, 3, 0) == found
    assert spellings(encoder(), SMILES, 3, 1) != found


def test_a_spelling_that_outruns_the_positions_gives_way() -> None:
    model = encoder()
    longest = max(len(model.tokenizer.encode([one])[0]) for one in SMILES)
    tight = encoder(position="learned", max_positions=longest)
    assert tight.longest == longest
    assert model.longest is None
    free, found = spellings(model, SMILES, 8, 0), spellings(tight, SMILES, 8, 0)
    counts = np.diff(model.tokenizer.encode(free, "unknown")[1])
    assert (counts > longest).any()
    expected = [
        SMILES[i % len(SMILES)] if n > longest else one
        for i, (one, n) in enumerate(zip(free, counts, strict=True))
    ]
    assert found == expected


def test_every_molecule_has_each_spelling_in_turn() -> None:
    n, augment = 50, 3
    seen = []
    for epoch in range(augment + 1):
        rows = np.concatenate(epoch_batches(n, 16, 7, epoch))
        spelled = spelled_rows(rows, n, augment, 7, epoch)
        np.testing.assert_array_equal(spelled % n, rows)
        # Each epoch has canonical and random ones.
        assert len(set((spelled // n).tolist())) == augment + 1
        seen += spelled.tolist()
    assert sorted(seen) == list(range(n * (augment + 1)))
    np.testing.assert_array_equal(spelled_rows(rows, n, 0, 7, 2), rows)


def test_the_data_hold_every_spelling_with_its_targets() -> None:
    given = dataclasses.replace(ROWS, weights=np.linspace(1, 2, 60))
    model = encoder()
    ready = prepare(model, given, SPEC, SETTINGS)
    assert ready.rows == 60
    assert len(ready.data) == 240
    texts = [*SMILES, *spellings(model, SMILES, 3, SETTINGS.seed)]
    np.testing.assert_array_equal(ready.data.tokens, model.tokenizer.encode(texts)[0])
    targets, weights = ready.data.targets, ready.data.weights
    assert weights is not None
    np.testing.assert_array_equal(targets, np.tile(targets[:60], (4, 1)))
    np.testing.assert_array_equal(weights, np.tile(weights[:60], 4))


class StopAfter(StopRequest):
    """Asks to stop at the n-th question."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def __bool__(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.signum = 15
        return self.signum is not None


def train(settings: TrainSettings, **options: Any) -> tuple[np.ndarray, int]:
    """(predictions of canonical SMILES, steps) of a small run."""
    model, result = fit_assay_model(
        encoder(), ROWS.take(range(48)), ROWS.take(range(48, 60)), SPEC, settings, **options
    )
    return model.predict(SMILES).values, result.steps


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    expected, steps = train(SETTINGS)
    plain, plain_steps = train(dataclasses.replace(SETTINGS, augment=0))
    assert steps == plain_steps == 12
    assert (expected != plain).any()
    checkpoint = CheckpointFile(tmp_path / "train.safetensors")
    for stop in (5, 2):
        with pytest.raises(Interrupted):
            train(SETTINGS, checkpoint=checkpoint, stop=StopAfter(stop))
    again, _ = train(SETTINGS, checkpoint=checkpoint)
    np.testing.assert_array_equal(again, expected)


def test_an_estimator_keeps_the_setting(tmp_path: Path) -> None:
    model = mt.AssayRegressor(encoder(), epochs=2, adapter="head", augment=2)
    model.fit(SMILES, LOG_S[:60])
    model.save(tmp_path / "model")
    assert mt.load_assay_model(tmp_path / "model").augment == 2
    assert "augment" not in TrainSettings().to_dict()
    assert TrainSettings.from_mapping(SETTINGS.to_dict()) == SETTINGS


def test_only_models_of_smiles_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="augment is -1; allowed: an integer of 0 or more"):
        TrainSettings(augment=-1).check()
    table = write_table(
        tmp_path / "a.csv",
        ["sequence", "y"],
        [[PARENT[:i] + "W" + PARENT[i + 1 :], i % 7 + 0.5] for i in range(len(PARENT))],
    )
    out = tmp_path / "run"
    said = one_error(capsys, "finetune", table, "--out", out, "--split", "random", "--augment", 5)
    assert "--augment 5: other SMILES" in said
    assert "reads sequences of kind 'protein'" in said
    assert not out.exists()
