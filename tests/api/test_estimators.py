"""AssayRegressor and AssayClassifier keep scikit-learn's conventions."""

from __future__ import annotations

import inspect
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from tiny_runs import PARENT, tiny_backbone, tiny_encoder, variants

import moltide
from moltide import AssayClassifier, AssayRegressor, load_assay_model
from moltide.errors import CheckpointError, ConfigError, DataError
from moltide.estimators.inputs import as_sequences, validation_rows

X, Y = variants(80)
LABELS = np.array(["low", "high"])[(np.median(Y) < Y).astype(int)]


def regressor(**options: Any) -> AssayRegressor:
    return AssayRegressor(tiny_encoder(), **{"epochs": 2, **options})


@pytest.fixture(scope="module")
def fitted() -> AssayRegressor:
    return AssayRegressor(tiny_encoder(), epochs=3, validation_fraction=0.3).fit(X, Y)


# ---- conventions ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AssayRegressor, AssayClassifier])
def test_init_only_stores_its_arguments(kind: type) -> None:
    values = {name: object() for name in inspect.signature(kind).parameters}
    estimator = kind(**values)
    assert vars(estimator) == values
    assert estimator.get_params() == values


def test_clone_and_set_params() -> None:
    first = AssayRegressor("protein-mini", adapter="full", lr=3e-4, targets=("attn.q",))
    again = clone(first)
    assert again is not first
    assert again.get_params() == first.get_params()
    assert again.set_params(rank=2).rank == 2
    with pytest.raises(ValueError, match="learning_rate"):
        again.set_params(learning_rate=1)


def test_using_before_fitting_is_refused(tmp_path: Path) -> None:
    for call in (
        lambda: regressor().predict(X),
        lambda: regressor().save(tmp_path),
        lambda: AssayClassifier().predict_proba(X),
        lambda: regressor().in_domain(X),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_fitting_leaves_parameters_and_backbone_alone() -> None:
    backbone = tiny_encoder()
    before = backbone.embed(X[:3])
    estimator = AssayRegressor(backbone, adapter="full", epochs=1)
    parameters = estimator.get_params()
    assert estimator.fit(X, Y) is estimator
    assert estimator.get_params() == parameters
    assert np.array_equal(backbone.embed(X[:3]), before)
    assert backbone.adapters == []
    assert backbone.head is None


def test_the_seed_alone_fixes_a_fit() -> None:
    one = regressor(dropout=0.1).fit(X, Y).predict(X)
    assert np.array_equal(one, regressor(dropout=0.1).fit(X, Y).predict(X))
    assert not np.array_equal(one, regressor(dropout=0.1, seed=1).fit(X, Y).predict(X))


def test_cross_validation_and_grid_search() -> None:
    scores = cross_val_score(regressor(epochs=1), X, Y, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    search = GridSearchCV(regressor(epochs=1), {"rank": [1, 2], "lr": [1e-3]}, cv=2)
    search.fit(np.array(X), Y)
    assert search.best_estimator_.predict(X).shape == (80,)
    grouped = cross_val_score(
        AssayClassifier(tiny_encoder(), epochs=1),
        pd.Series(X),
        LABELS,
        groups=np.arange(80) % 5,
        cv=GroupKFold(2),
        scoring="roc_auc",
    )
    assert np.isfinite(grouped).all()


def test_works_inside_a_pipeline() -> None:
    upper = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    model = make_pipeline(upper, regressor(epochs=1)).fit([text.lower() for text in X], Y)
    assert model.predict([X[0].lower()]).shape == (1,)


def test_pickling_keeps_every_bit(fitted: AssayRegressor) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    for one, other in zip(
        fitted.predict(X, return_std=True), again.predict(X, return_std=True), strict=True
    ):
        assert np.array_equal(one, other)
    assert again.domain_notes([PARENT * 2]) == fitted.domain_notes([PARENT * 2])


# ---- inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        X[:4],
        tuple(X[:4]),
        np.array(X[:4]),
        np.array(X[:4], dtype=object),
        np.array(X[:4])[:, None],
        [[text] for text in X[:4]],
        pd.Series(X[:4], index=[7, 3, 1, 9]),
        pd.DataFrame({"sequence": X[:4]}),
        [f" {text.lower()} " for text in X[:4]],
    ],
)
def test_sequences_come_in_many_forms(given: Any) -> None:
    assert as_sequences(given) == X[:4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["MKT", ""], "sequence 1 is empty"),
        (["MKT", None], "sequence 1 is None"),
        (["MKT", float("nan")], "sequence 1 is nan"),
        (["MKT", "MK1T"], "sequence 1, position 3: '1'"),
        (["MK*T"], "position 3: a stop"),
        ("MKT", "one string"),
        (np.array([["MKT", "MKV", "MKL"]]), r"shape \(1, 3\)"),
        (pd.DataFrame({"a": ["M"], "b": ["K"], "c": ["L"]}), "3 columns"),
        (7, "expected sequences"),
    ],
)
def test_bad_sequences_are_named(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_sequences(given)
    with pytest.raises(DataError, match=message):
        regressor().fit(given, [1.0] * 2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:-1], "79 rows for 80"),
        (["a"] * 80, "no number"),
        ([np.nan] * 80, "no measured value"),
        (np.full((80, 2), [1.0, np.nan]), "column 1 is empty"),
        (np.r_[np.inf, Y[1:]], "infinite in row 0"),
        (np.zeros((80, 1, 1)), "3 dimensions"),
    ],
)
def test_bad_targets_are_named(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        regressor().fit(X, y)


def test_bad_options_are_named() -> None:
    with pytest.raises(ConfigError, match="validation_fraction is 1"):
        regressor(validation_fraction=1).fit(X, Y)
    with pytest.raises(ConfigError, match="level is 'token'"):
        regressor(level="token").fit(X, Y)
    with pytest.raises(DataError, match="sample_weight"):
        regressor().fit(X, Y, sample_weight=-(Y**2))
    with pytest.raises(DataError, match="groups"):
        regressor().fit(X, Y, groups=[1, 2])
    with pytest.raises(ConfigError, match="bounds"):
        regressor(loss="mse").fit(X, Y, censor=np.ones(80))
    with pytest.raises(DataError, match="fewer than two classes"):
        AssayClassifier(tiny_encoder()).fit(X, ["a"] * 80)
    with pytest.raises(ConfigError, match="'y1' has 4 classes; with more than two classes"):
        AssayClassifier(tiny_encoder()).fit(
            X, [["a", "b"], ["c", "a"], ["a", "d"], ["c", "c"]] * 20
        )
    with pytest.raises(DataError, match=r"y column 1 has fewer than two classes \('b'\)"):
        AssayClassifier(tiny_encoder()).fit(X, [["a", "b"], ["c", None]] * 40)
    with pytest.raises(ConfigError, match="endpoint_weights is 'half'; allowed: auto, root"):
        regressor(endpoint_weights="half").fit(X, Y)
    with pytest.raises(ConfigError, match="endpoint_weights is 'root'; with loss='ranking'"):
        regressor(endpoint_weights="root", loss="ranking").fit(X, np.stack([Y, Y], axis=1))


def test_groups_are_not_divided_and_classes_keep_their_shares() -> None:
    groups = np.repeat(np.arange(20), 5)
    train, valid = validation_rows(100, 0.2, 0, groups)
    assert set(groups[train]).isdisjoint(groups[valid])
    assert 10 <= len(valid) <= 25
    labels = np.array([0.0] * 90 + [1.0] * 10)
    _, valid = validation_rows(100, 0.2, 0, None, labels)
    assert (len(valid), int(labels[valid].sum())) == (20, 2)
    for n, fraction in ((1, 0.5), (10, 0.0), (0, 0.1)):
        assert len(validation_rows(n, fraction, 0)[1]) == 0


# ---- what comes out ---------------------------------------------------------------------------


def test_regression_outputs(fitted: AssayRegressor) -> None:
    values, std = fitted.predict(X[:7], return_std=True)
    assert values.shape == std.shape == (7,)
    assert (std > 0).all()
    assert np.array_equal(values, fitted.predict(X)[:7])  # alone or among others
    low, high = fitted.predict_interval(X[:7], coverage=0.8)
    assert ((low < values) & (values < high)).all()
    wider = fitted.predict_interval(X[:7], coverage=0.9)
    assert ((wider[0] <= low) & (wider[1] >= high)).all()
    assert np.isfinite(fitted.score(X, Y))
    assert len(fitted.history_) == 3
    scores = [epoch["score"] for epoch in fitted.history_]
    if fitted.best_epoch_ > 0:
        assert fitted.best_score_ == max(scores) == scores[fitted.best_epoch_ - 1]
    else:
        assert fitted.best_score_ >= max(scores)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_uncertainty_takes_no_second_pass(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = regressor(pool=pool, head_hidden=8, validation_fraction=0.3).fit(X, Y).model_
    values, read = model.outputs(X), model.represent(X)
    again = model.outputs_and_representation(X)
    assert [part.dtype for part in again] == [np.float32, np.float32]
    assert np.array_equal(again[0], values)
    assert np.array_equal(again[1], read)
    empty = model.outputs_and_representation([])
    assert [part.shape for part in empty] == [(0, 1), (0, 16)]
    assert model.uncertainty is not None
    std = model.uncertainty.std(read) * model.scaling.sd
    for once in ("outputs", "represent"):
        monkeypatch.delattr(type(model), once)
    found = model.predict(X, std=True, interval=0.8)
    assert np.array_equal(found.values, model.in_units(values.astype(np.float64)))
    assert np.array_equal(found.std, std)


def test_a_learned_rule_is_found_again() -> None:
    """One residue decides: a tiny encoder fine-tuned in full must see it."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACDEFGHIKL"), 8)) for _ in range(300)]
    y = np.array([text.count("A") - text.count("L") for text in texts], float)
    model = AssayRegressor(tiny_encoder(), adapter="full", lr=2e-3, epochs=80).fit(texts, y)
    assert model.score(texts, y) > 0.8
    kinds = np.where(y > 0, "up", "not up")
    classifier = AssayClassifier(tiny_encoder(), adapter="full", lr=2e-3, epochs=80)
    assert classifier.fit(texts, kinds).score(texts, kinds) > 0.9


def test_several_targets_with_missing_values() -> None:
    table = np.stack([Y, -2 * Y + 5], axis=1)
    table[::3, 1] = np.nan
    model = regressor(validation_fraction=0.3).fit(X, table)
    values, std = model.predict(X[:5], return_std=True)
    assert values.shape == std.shape == (5, 2)
    assert np.isfinite(model.score(X, table))


def test_weights_change_the_fit_and_zero_weights_drop_rows() -> None:
    options: dict[str, Any] = {"validation_fraction": 0.0, "batch_size": 80, "epochs": 2}
    weights = np.r_[np.zeros(40), np.ones(40)]
    wrong = np.r_[Y[:40] + 100, Y[40:]]
    # The scale of targets comes from all rows, so both have the same.
    one = regressor(**options).fit(X, np.r_[wrong[:40][::-1], Y[40:]], sample_weight=weights)
    other = regressor(**options).fit(X, wrong, sample_weight=weights)
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-6)
    assert not np.allclose(regressor(**options).fit(X, wrong).predict(X), other.predict(X))


def test_bounds_are_learned_from_as_bounds() -> None:
    """Half the values are only known to be above 0: the Tobit model may predict beyond that."""
    censor = (Y > 0).astype(int)
    model = regressor(validation_fraction=0.0).fit(X, np.minimum(Y, 0), censor=censor)
    assert model.model_.encoder.head["log_sigma"]
    assert np.isfinite(model.predict(X)).all()


def test_uncertainty_needs_validation_rows() -> None:
    model = regressor(validation_fraction=0.0).fit(X, Y)
    with pytest.raises(ConfigError, match="without validation rows"):
        model.predict(X, return_std=True)


def test_classification_outputs() -> None:
    model = AssayClassifier(tiny_encoder(), epochs=2, validation_fraction=0.3).fit(X, LABELS)
    assert model.classes_.tolist() == ["high", "low"]
    shares = model.predict_proba(X)
    assert shares.shape == (80, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.array_equal(model.predict(X), model.classes_[shares.argmax(axis=1)])
    three = AssayClassifier(tiny_encoder(), epochs=1).fit(X, np.digitize(Y, [-1, 1]))
    assert three.predict_proba(X[:3]).shape == (3, 3)
    assert three.predict(X).dtype.kind == "i"


def test_classes_of_several_targets(tmp_path: Path) -> None:
    """Lists, one entry a target, as scikit-learn's own; each target has classes of its own."""
    from sklearn.ensemble import RandomForestClassifier

    other = (Y[::-1] > 1).astype(int)
    several = np.stack([LABELS.astype(object), other.astype(object)], axis=1)
    several[::4, 0] = None
    model = AssayClassifier(tiny_encoder(), epochs=1, validation_fraction=0.3).fit(X, several)
    forest = RandomForestClassifier(2).fit(np.arange(80)[:, None], np.stack([LABELS, LABELS], 1))
    assert type(model.classes_) is type(forest.classes_) is list
    assert [one.tolist() for one in model.classes_] == [["high", "low"], [0, 1]]
    found, shares = model.predict(X[:3]), model.predict_proba(X[:3])
    assert found.shape == (3, 2)
    assert set(found[:, 0]) <= {"high", "low"}
    assert set(found[:, 1]) <= {0, 1}
    assert type(shares) is type(forest.predict_proba([[0]])) is list
    assert [one.shape for one in shares] == [(3, 2), (3, 2)]
    assert found[:, 0].tolist() == model.classes_[0][shares[0].argmax(axis=1)].tolist()
    assert 0 <= model.score(X, several) <= 1
    model.save(tmp_path / "run")
    again = load_assay_model(tmp_path / "run")
    assert np.array_equal(again.predict(X[:3]), found)
    assert [one.tolist() for one in again.classes_] == [["high", "low"], [0, 1]]
    column = AssayClassifier(tiny_encoder(), epochs=1).fit(X, LABELS[:, None])
    assert column.predict(X[:3]).shape == (3, 1)
    assert column.classes_.tolist() == ["high", "low"]


def test_labels_of_residues() -> None:
    states = ["".join("H" if a in "AKLQ" else "C" for a in text) for text in X]
    model = AssayClassifier(tiny_encoder(), adapter="full", lr=1e-2, epochs=8, level="residue").fit(
        X, states
    )
    found = model.predict(X[:2])
    assert ["".join(row) for row in found] == states[:2]
    assert model.predict_proba(X[:2])[0].shape == (len(PARENT), 2)
    assert model.score(X, states) == 1.0
    assert model.best_score_ == 1.0
    values = [np.array([float(a == "A") for a in text]) for text in X]
    numbers = regressor(level="residue").fit(X, values)
    assert [row.shape for row in numbers.predict(X[:2])] == [(len(PARENT),)] * 2
    with pytest.raises(DataError, match="21 labels for 22 residues"):
        model.fit(X, [states[0][:-1], *states[1:]])


def test_domain(fitted: AssayRegressor) -> None:
    notes = fitted.domain_notes([X[0], PARENT + "A", "W" * len(PARENT)])
    assert notes[0] == ""
    assert notes[1] == "length 23; training sequences have 22"
    assert "substitutions from the nearest" in notes[2]
    assert fitted.in_domain([X[0], PARENT + "A"]).tolist() == [True, False]
    # A position that never varied is outside, however near.
    kept = [text[:5] + PARENT[5] + text[6:] for text in X]
    model = regressor(epochs=1).fit(kept, Y)
    changed = PARENT[:5] + "W" + PARENT[6:]
    assert model.domain_notes([changed]) == ["position 6 never varied in training"]


# ---- on disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ["lora", "full", "head"])
def test_a_saved_model_predicts_the_same_bits(adapter: str, tmp_path: Path) -> None:
    backbone = str(tiny_backbone(tmp_path / "backbone"))
    model = AssayRegressor(backbone, adapter=adapter, epochs=1, validation_fraction=0.3)
    model.fit(X, Y).save(tmp_path / "run")
    again = load_assay_model(tmp_path / "run")
    assert isinstance(again, AssayRegressor)
    assert again.get_params() == model.get_params()
    for one, other in zip(
        model.predict(X, return_std=True), again.predict(X, return_std=True), strict=True
    ):
        assert np.array_equal(one, other)
    assert again.domain_notes(X[:3]) == model.domain_notes(X[:3])
    # Saved without the backbone where that can be found again, with it where not.
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert "backbone" not in names
    assert ("model" in names) == (adapter == "full")
    assert ("adapter_model.safetensors" in names) == (adapter == "lora")


def test_a_nameless_backbone_is_saved_with_the_model(tmp_path: Path) -> None:
    model = AssayClassifier(tiny_encoder(), epochs=1).fit(X, LABELS)
    model.save(tmp_path / "run")
    again = load_assay_model(tmp_path / "run")
    assert isinstance(again, AssayClassifier)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize("adapter", ["lora", "head"])
def test_a_bundled_backbone_may_change(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled, run = tmp_path / "bundled", tmp_path / "run"
    monkeypatch.setattr("moltide.pretrained.locate._BUNDLED", bundled)
    tiny_encoder().save(bundled / "protein-tiny", "bf16")
    size = (bundled / "protein-tiny" / "model.safetensors").stat().st_size
    model = AssayRegressor("protein-tiny", adapter=adapter, epochs=1).fit(X, Y)
    model.save(run)
    copied = run / "backbone"
    assert (copied / "model.safetensors").stat().st_size == size
    shutil.copytree(copied, tmp_path / "kept")
    tiny_encoder(seed=5).save(bundled / "protein-tiny")
    again = load_assay_model(run)
    assert again.get_params() == model.get_params()
    assert np.array_equal(again.predict(X), model.predict(X))
    again.save(tmp_path / "second")
    assert np.array_equal(load_assay_model(tmp_path / "second").predict(X), model.predict(X))
    if adapter == "lora":
        config = json.loads((tmp_path / "second" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "protein-tiny"
    # A model of before there were copies, and the way out that the message names.
    shutil.rmtree(copied)
    with pytest.raises(CheckpointError, match=rf"copy bundled/protein-tiny .* to {copied}"):
        load_assay_model(run)
    (tmp_path / "kept").rename(copied)
    assert np.array_equal(load_assay_model(run).predict(X), model.predict(X))
    tiny_encoder(seed=5).save(copied)
    with pytest.raises(CheckpointError, match="put the files back that were written with"):
        load_assay_model(run)


def test_a_changed_or_lost_backbone_is_noticed(tmp_path: Path) -> None:
    backbone = tiny_backbone(tmp_path / "backbone")
    AssayRegressor(str(backbone), epochs=1).fit(X, Y).save(tmp_path / "run")
    tiny_encoder(seed=5).save(backbone)
    with pytest.raises(CheckpointError, match=r"not the one this model .*or copy them to .*run"):
        load_assay_model(tmp_path / "run")
    backbone.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_assay_model(tmp_path / "run")


def test_damaged_runs_are_refused(tmp_path: Path, fitted: AssayRegressor) -> None:
    run = tmp_path / "run"
    with pytest.raises(FileNotFoundError):
        load_assay_model(run)
    fitted.save(run)
    head = (run / "head.safetensors").read_bytes()
    (run / "head.safetensors").write_bytes(head[: len(head) // 2])
    with pytest.raises(CheckpointError, match=r"head\.safetensors"):
        load_assay_model(run)
    (run / "head.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no head\.safetensors"):
        load_assay_model(run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(CheckpointError, match="format version 99"):
        load_assay_model(run)
    (run / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_assay_model(run)
    (run / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_assay_model(run)
    with pytest.raises(CheckpointError, match="no fine-tuned assay model"):
        load_assay_model(tiny_backbone(tmp_path / "backbone"))


def test_an_unwritable_folder_is_an_os_error(fitted: AssayRegressor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        fitted.save(tmp_path / "file")


def test_other_folders_are_not_written_into(fitted: AssayRegressor, tmp_path: Path) -> None:
    notes, published = tmp_path / "notes", tiny_backbone(tmp_path / "backbone")
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    run = tmp_path / "run"
    fitted.save(run)
    document = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**document, "identity": {}}))
    for folder, says in ((notes, "notes.txt"), (published, "model.safe"), (run, "a run of fine")):
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        with pytest.raises(ConfigError, match=says):
            fitted.save(folder)
        after = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert after == before
    # A model saved before, also one whose saving was cut short, is replaced.
    (run / "config.json").unlink()
    for _ in range(2):
        fitted.save(run)
    assert np.array_equal(load_assay_model(run).predict(X), fitted.predict(X))


def test_public_names() -> None:
    assert moltide.AssayRegressor is AssayRegressor
    assert moltide.load_assay_model is load_assay_model
