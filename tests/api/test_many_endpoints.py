"""One model of several endpoints: weights of values, validation, splits, a whole run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import PARENT, contents, read_table, tiny_encoder, variants, write_table

from moltide import load_assay_model
from moltide.assay import read_assay
from moltide.assay_model import ModelSpec, Rows, fit_assay_model
from moltide.assay_model.files import load, save
from moltide.assay_model.preparation import prepare
from moltide.assay_model.validation import score
from moltide.assay_model.weighting import Weighting
from moltide.company import Comparison, company_verdict
from moltide.errors import ConfigError, DataError
from moltide.estimators import AssayPanel, AssayRegressor
from moltide.estimators.inputs import strata, validation_rows
from moltide.finetune import FinetuneOptions, RunSummary, finetune
from moltide.finetune.budget import Budget
from moltide.finetune.endpoint_split import missing, split_endpoints
from moltide.finetune.estimate import weighting_lines
from moltide.finetune.voice import SilentVoice
from moltide.report.panel import correlations
from moltide.splits import make_split
from moltide.training import Interrupted, TrainSettings

SEQUENCES, VALUES = variants(160)
NAN = np.nan
MIXED = ModelSpec("mixed", "sequence", ("a", "b", "c"), (), ((), (), ("no", "yes")))


# ---- what a value weighs -----------------------------------------------------------------------


def weighting(spec: ModelSpec, targets: Any, **settings: Any) -> Weighting:
    table = np.array(targets, np.float64)
    resolved = TrainSettings(**settings).resolved(
        spec.task, len(table), n_classes=2, n_targets=len(spec.target_names)
    )
    return Weighting.fit(spec, resolved, table, None)


def test_no_endpoint_is_drowned_by_one_with_fifty_times_its_values() -> None:
    spec = ModelSpec("regression", "sequence", ("many", "few"))
    targets = np.zeros((1000, 2))
    targets[20:, 1] = NAN
    share = {}
    for how in ("rows", "root", "equal", "auto"):
        found = weighting(spec, targets, endpoint_weights=how)
        assert found.counts.tolist() == [1000, 20]
        total = found.counts * found.endpoint
        assert total.sum() == pytest.approx(1020)  # the mean is 1
        share[how] = total[1] / total.sum()
    assert share["rows"] == pytest.approx(1 / 51)
    assert share["root"] == share["auto"] == pytest.approx(1 / (1 + 50**0.5))
    assert share["equal"] == pytest.approx(1 / 2)
    assert weighting(spec, np.zeros((30, 2))).alike


def test_balanced_classes_weigh_alike_and_their_shift_is_known() -> None:
    targets = np.full((400, 3), NAN)
    targets[:, 0] = targets[:100, 1] = 0.0
    targets[:100, 2] = np.arange(100) < 10
    found = weighting(MIXED, targets)
    per_value = found.of_classes(2, targets[:, 2])[:100]
    assert per_value[:10].sum() == pytest.approx(per_value[10:].sum())
    assert per_value.mean() == pytest.approx(1)
    np.testing.assert_allclose(found.shift, [0, 0, np.log(9)])
    assert found.nats.tolist() == [0.5, 0.5, 1.0]
    terms = found.terms(targets, np.full(400, 2.0))
    np.testing.assert_allclose(terms[0, 2], 2 * found.endpoint[2] * per_value[0], rtol=1e-6)
    np.testing.assert_allclose(terms[0, 0], 2 * found.endpoint[0] * 0.5, rtol=1e-6)
    # No more than 20 to 1, and none where it was not asked for.
    targets[:, 2] = np.arange(400) < 1
    assert np.exp(weighting(MIXED, targets).shift[2]) == pytest.approx(20)
    assert not weighting(MIXED, targets, class_weight="none").shift.any()
    one = ModelSpec("classification", "sequence", ("y",), ("no", "yes"))
    assert weighting(one, targets[:, 2:]).alike


def test_the_engine_gets_a_loss_a_column_only_where_it_must() -> None:
    targets = np.stack([VALUES, VALUES, (VALUES > 1).astype(float)], axis=1)
    ready = prepare(tiny_encoder(), Rows(SEQUENCES, targets), MIXED, TrainSettings())
    assert ready.column_losses == ["mse", "mse", "bce"]
    assert ready.data.weights is not None
    assert ready.data.weights.shape == targets.shape
    said = "\n".join(weighting_lines(ready))
    assert "losses: mse for a, b; bce for c" in said
    numbers = ModelSpec("regression", "sequence", ("a", "b"))
    plain = prepare(tiny_encoder(), Rows(SEQUENCES, targets[:, :2]), numbers, TrainSettings())
    assert (plain.column_losses, plain.data.weights) == (None, None)
    targets[16:, 1] = NAN
    uneven = prepare(tiny_encoder(), Rows(SEQUENCES, targets[:, :2]), numbers, TrainSettings())
    assert uneven.column_losses == ["mse", "mse"]
    assert "one of 'b' (16) 3.2 times one of 'a' (160)" in weighting_lines(uneven)[0]
    bounds = np.zeros((160, 3), np.int8)
    bounds[3, 0] = 1
    tobit = prepare(tiny_encoder(), Rows(SEQUENCES, targets, bounds), MIXED, TrainSettings())
    assert tobit.column_losses == ["tobit", "tobit", "bce"]
    for loss, message in (("bce", "numbers beside classes allowed: mse, huber"), ("ranking", "is")):
        with pytest.raises(ConfigError, match=message):
            prepare(tiny_encoder(), Rows(SEQUENCES, targets), MIXED, TrainSettings(loss=loss))
    targets[:, 1] = NAN
    with pytest.raises(DataError, match="target 'b' has no value among 160 training rows"):
        prepare(tiny_encoder(), Rows(SEQUENCES, targets), MIXED, TrainSettings())


def test_probabilities_keep_the_frequency_of_a_rare_class() -> None:
    """Balanced training shifts the logits; predictions take the shift off again."""
    rng = np.random.default_rng(0)
    rare = (rng.random(160) < 0.1).astype(float)
    targets = np.stack([VALUES, rare], axis=1)
    spec = ModelSpec("mixed", "sequence", ("a", "b"), (), ((), ("no", "yes")))
    settings = TrainSettings(epochs=2, lr=1e-4)
    shares = {}
    for balance in ("balanced", "none"):
        own = dataclasses.replace(settings, class_weight=balance)
        model, _ = fit_assay_model(tiny_encoder(), Rows(SEQUENCES, targets), None, spec, own)
        found = model.predict(SEQUENCES)
        assert found.probabilities is not None
        assert np.isnan(found.probabilities[:, 0]).all()
        np.testing.assert_allclose(found.values[:, 0], found.of(spec, 0))
        shares[balance] = found.of(spec, 1)[:, 1].mean()
    assert shares["none"] == pytest.approx(rare.mean(), abs=0.03)
    assert shares["balanced"] == pytest.approx(rare.mean(), abs=0.05)


def test_an_endpoint_measured_for_few_rows_has_a_domain_of_its_own(tmp_path: Path) -> None:
    """Rows of the second kind are in the training domain, but not in that of their endpoint."""
    first = [text[:11] + PARENT[11:] for text in SEQUENCES]
    second = [PARENT[:11] + text[11:] for text in SEQUENCES]
    texts = list(dict.fromkeys([*first[:40], *second]))
    values = np.arange(len(texts), dtype=float)
    targets = np.stack([values, np.where(np.arange(len(texts)) < 35, values, NAN)], axis=1)
    spec = ModelSpec("regression", "sequence", ("a", "b"))
    rows = Rows(texts, targets)
    model, _ = fit_assay_model(tiny_encoder(), rows, None, spec, TrainSettings(epochs=1))
    assert model.target_domains.targets == [1]
    found = model.predict([texts[0], texts[-1]], domain=True)
    assert found.notes == ["", ""]
    assert found.target_notes[1][0] == ""
    assert "never varied in training" in found.target_notes[1][1]
    save(model, tmp_path / "run")
    again = load(tmp_path / "run").predict([texts[0], texts[-1]], domain=True)
    assert again.target_notes == found.target_notes
    assert model.predict([texts[0]]).target_notes == {}


# ---- validation and parts ----------------------------------------------------------------------


def test_the_validation_score_is_on_one_scale() -> None:
    rng = np.random.default_rng(0)
    targets = np.stack([VALUES, rng.normal(size=160), (VALUES > 0).astype(float)], axis=1)
    outputs = np.stack([VALUES, -targets[:, 1], VALUES], axis=1)
    assert score(MIXED, outputs, targets) == pytest.approx((1 - 1 + 1) / 3)
    constant = np.zeros((160, 3))
    assert score(MIXED, constant, targets) == pytest.approx(0)
    # An endpoint with a few validation values says too little to count.
    targets[9:, 1] = NAN
    assert score(MIXED, outputs, targets) == pytest.approx(1)
    targets[2:, 2] = 0.0
    targets[:2, 2] = 1.0
    assert score(MIXED, outputs, targets) == pytest.approx(1)
    # Unless there is nothing else.
    assert score(MIXED, outputs[:9], targets[:9]) < 1


def endpoints_table(tmp_path: Path, few: Iterable[int] = range(8)) -> Path:
    """a: all rows; b: the rows in `few`; c: yes and no."""
    chosen = set(few)
    rows = [
        [text, f"{value:.4f}", f"{-value:.4f}" if i in chosen else "", "yes" if value > 0 else "no"]
        for i, (text, value) in enumerate(zip(SEQUENCES, VALUES, strict=True))
    ]
    return write_table(tmp_path / "assay.csv", ["sequence", "a", "b", "c"], rows)


def test_a_split_is_drawn_anew_until_every_endpoint_is_in_every_part(tmp_path: Path) -> None:
    table = read_assay(endpoints_table(tmp_path, range(30)), target="all")
    # A seed whose first draw lacks something.
    seed = next(s for s in range(50) if missing(table, make_split(table, "random", s)))
    first, split = make_split(table, "random", seed), split_endpoints(table, "random", seed)
    assert len(missing(table, split)) < len(missing(table, first))
    assert any(note.startswith("the best of ") for note in split.notes)
    again = split_endpoints(table, "random", seed)
    assert np.array_equal(again.labels, split.labels)
    alone = table.endpoint(0)
    one = split_endpoints(alone, "random", seed)
    assert np.array_equal(one.labels, make_split(alone, "random", seed).labels)
    assert one.notes == make_split(alone, "random", seed).notes


def test_groups_are_dealt_out_anew_and_stay_whole(tmp_path: Path) -> None:
    rows = [
        [text, f"{value:.4f}", f"{value:.4f}" if i % 16 < 4 else "", f"g{i % 16}"]
        for i, (text, value) in enumerate(zip(SEQUENCES, VALUES, strict=True))
    ]
    path = write_table(tmp_path / "assay.csv", ["sequence", "a", "b", "family"], rows)
    table = read_assay(path, target="a,b", split="family")
    seed = next(s for s in range(50) if missing(table, make_split(table, "family", s)))
    split = split_endpoints(table, "family", seed)
    assert not missing(table, split)
    assert split.groups is not None
    for group in np.unique(split.groups):
        assert len(set(split.labels[split.groups == group].tolist())) == 1
    dealt = ", ".join(
        f"{part} {len(np.unique(split.groups[split.labels == part]))}"
        for part in ("train", "valid", "test")
    )
    assert split.notes[0].endswith(f"; in {dealt}")


def test_an_endpoint_with_too_few_test_rows_is_named(tmp_path: Path) -> None:
    table = read_assay(endpoints_table(tmp_path, range(8)), target="all")
    said = "\n".join(split_endpoints(table, "random", 0).notes)
    assert "target 'a': 16 test rows, too few to be judged" in said
    assert "target 'b': " in said
    parts = ["train"] * 130 + ["valid"] * 10 + ["test"] * 20
    rows = [
        [text, value, value if i < 100 else "", parts[i]]
        for i, (text, value) in enumerate(zip(SEQUENCES, VALUES, strict=True))
    ]
    path = write_table(tmp_path / "parts.csv", ["sequence", "a", "b", "part"], rows)
    named = read_assay(path, target="a,b", split="part")
    split = split_endpoints(named, "part", 0)
    assert split.labels.tolist() == parts
    assert split.notes == [
        "target 'b': 0 test rows, too few to be judged",
        "target 'b': hardly a validation value, so no interval of its own",
    ]


def test_validation_rows_of_an_estimator_are_drawn_from_every_endpoint() -> None:
    targets = np.stack([VALUES, np.where(np.arange(160) < 10, VALUES, NAN)], axis=1)
    found = strata(targets, False)
    for seed in range(20):
        train, valid = validation_rows(160, 0.2, seed, None, found)
        assert len(valid) == 32
        assert (train < 10).sum() == 8
    assert strata(targets[:, :1], False) is None
    classes = np.array([[0, 1], [1, NAN], [NAN, 0], [NAN, NAN]])
    assert np.isnan(strata(classes, True)).tolist() == [False, False, False, True]  # type: ignore[arg-type]
    model = AssayRegressor(tiny_encoder(), epochs=1, validation_fraction=0.2).fit(
        SEQUENCES, targets
    )
    assert model.predict(SEQUENCES[:3]).shape == (3, 2)


# ---- a whole run -------------------------------------------------------------------------------


class Listener(SilentVoice):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        self.said += [title, *lines]

    def say(self, line: str) -> None:
        self.said.append(line)


def start(backbone: Path, tmp_path: Path, out: str = "run", **options: Any) -> RunSummary:
    settings = TrainSettings(epochs=2, **options.pop("settings", {}))
    voice = options.pop("voice", None)
    defaults: dict[str, Any] = {"split": "random", "table": {"target": "all"}, "report": False}
    return finetune(
        FinetuneOptions(
            assay=tmp_path / "assay.csv",
            out=tmp_path / out,
            backbone=backbone,
            settings=settings,
            **{"learning_curve": False, **defaults, **options},
        ),
        voice,
    )


@pytest.fixture(scope="module")
def mixed(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on numbers and classes, each endpoint also alone, with everything written."""
    folder = tmp_path_factory.mktemp("mixed")
    endpoints_table(folder, range(0, 160, 2))
    voice = Listener()
    summary = start(
        backbone,
        folder,
        compare_single=True,
        thresholds="b<0,c=yes",
        report=True,
        learning_curve=True,
        voice=voice,
    )
    assert summary.state == "finished"
    return folder / "run", {**summary.metrics, "said": voice.said}


def test_metrics_have_every_endpoint_and_their_mean(mixed: tuple[Path, dict[str, Any]]) -> None:
    run, metrics = mixed
    kept = json.loads((run / "metrics.json").read_text())
    keys = ["task", "target", "split", "n_train", "n_test", "model", "baselines", "verdict"]
    assert list(kept) == [*keys, "endpoints"]
    assert (kept["task"], kept["target"]) == ("mixed", "a,b,c")
    endpoints = kept["endpoints"]
    assert {name: one["task"] for name, one in endpoints.items()} == {
        "a": "regression", "b": "regression", "c": "classification",
    }  # fmt: skip
    for one in endpoints.values():
        assert list(one) == [*keys, "alone"]
        assert one["alone"]["n_train"] == one["n_train"]
    assert kept["n_train"] == endpoints["a"]["n_train"] == 128
    assert 50 < endpoints["b"]["n_train"] < 80
    both = [endpoints[name]["model"]["spearman"] for name in "ab"]
    assert kept["model"]["spearman"] == pytest.approx(np.mean(both))
    assert kept["model"]["auroc"] == endpoints["c"]["model"]["auroc"]
    ridge = [endpoints[name]["baselines"]["ridge"]["rmse"] for name in "ab"]
    assert kept["baselines"]["ridge"]["rmse"] == pytest.approx(np.mean(ridge))
    assert "3 targets" in kept["verdict"]
    assert "Fitted together, 0 of 3 targets gain" in kept["verdict"]
    said = "\n".join(metrics["said"])
    assert "score: the mean over targets of Spearman and 2 AUROC - 1" in said
    assert "\neach target alone\na: " in said


def test_predictions_and_the_loaded_model_agree(mixed: tuple[Path, dict[str, Any]]) -> None:
    run, _ = mixed
    rows = read_table(run / "predictions.csv")
    model = load_assay_model(run)
    assert isinstance(model, AssayPanel)
    assert (model.target_names_, model.tasks_[2]) == (["a", "b", "c"], "classification")
    sequences = [row["sequence"] for row in rows]
    values, std = model.predict(sequences, return_std=True)
    low, high = model.predict_interval(sequences)
    shares = model.predict_proba(sequences)
    for j, name in enumerate("ab"):
        for column, found in (
            ("predicted", values),
            ("std", std),
            ("low90", low),
            ("high90", high),
        ):
            want = [float(row[f"{column}_{name}"] or "nan") for row in rows]
            np.testing.assert_allclose(found[:, j], want, rtol=1e-4)
    assert shares[:2] == [None, None]
    assert shares[2] is not None
    want = [float(row["p_yes_c"]) for row in rows]
    np.testing.assert_allclose(shares[2][:, 1], want, rtol=1e-4)
    np.testing.assert_allclose(values[:, 2], want, rtol=1e-4)
    assert np.isnan(std[:, 2]).all()
    assert {row["set90_c"] for row in rows} <= {"no", "yes", "no|yes", "none"}
    assert any(row["measured_b"] == "" for row in rows)
    assert model.in_domain(sequences[:2]).tolist() == [
        row["in_domain"] == "yes" for row in rows[:2]
    ]
    model.save(run.parent / "again")
    again = load_assay_model(run.parent / "again")
    assert np.array_equal(again.predict(sequences), values)


def test_the_report_has_a_page_of_the_panel(mixed: tuple[Path, dict[str, Any]]) -> None:
    page = (mixed[0] / "report.html").read_text()
    for says in (
        *("Endpoints, best first", "Correlation of the measured endpoints", "Fitted alone"),
        *("b &lt; 0", "c = yes", 'id="target-3"', "Gain by company"),
    ):
        assert says in page
    config = json.loads((mixed[0] / "config.json").read_text())
    assert config["model"]["target_classes"] == [[], [], ["no", "yes"]]
    assert config["settings"]["endpoint_weights"] == "root"
    assert [one["endpoint"] for one in config["thresholds"]] == ["b", "c"]


def test_a_run_of_several_endpoints_resumes_to_the_same_bytes(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints_table(tmp_path, range(0, 160, 2))
    start(backbone, tmp_path, "whole", compare_single=True)
    from moltide.finetune import single

    real, calls = single.fit_assay_model, 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Interrupted(2)
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(single, "fit_assay_model", interrupted)
        with pytest.raises(Interrupted):
            start(backbone, tmp_path, "run", compare_single=True)
    assert start(backbone, tmp_path, "run", compare_single=True).state == "finished"
    whole, resumed = contents(tmp_path / "whole"), contents(tmp_path / "run")
    assert whole.keys() == resumed.keys()
    for name in ("metrics.json", "predictions.csv", "head.safetensors", "split.csv"):
        assert whole[name] == resumed[name], name


def test_thresholds_that_do_not_fit_are_refused_before_training(
    backbone: Path, tmp_path: Path
) -> None:
    endpoints_table(tmp_path)
    with pytest.raises(ConfigError, match="no endpoint 'd'"):
        start(backbone, tmp_path, thresholds="d<1")
    assert not (tmp_path / "run").exists()


def test_time_for_each_alone_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moltide.finetune.budget.time.monotonic", lambda: 0.0)
    assert Budget(None, 0.0).alone_minutes(3, False) is None
    budget = Budget(10, 0.0)
    first = budget.alone_minutes(4, False)
    assert first is not None
    assert 4 * first * 1.15 < 10
    last = budget.alone_minutes(1, False)
    assert last is not None
    assert last == pytest.approx(4 * first)
    assert budget.training_minutes(0, False, True) < budget.training_minutes(0, True, False)
    assert Budget(0.01, 0.0).alone_minutes(4, False) == 0.0


def test_company_in_words() -> None:
    def compared(name: str, low: float, high: float, n_test: int = 50) -> Comparison:
        middle = (low + high) / 2
        better = None if low <= 0 <= high or n_test < 20 else low > 0
        return Comparison(
            name, "spearman", 0.5 + middle, 0.5, middle, low, high, better, 9, n_test, {}
        )

    gain, loss, level = compared("a", 0.1, 0.3), compared("b", -0.3, -0.1), compared("c", -0.1, 0.1)
    assert (
        gain.text
        == "It gains 0.200 [0.100, 0.300] Spearman over a model of it alone (0.500 Spearman)."
    )
    assert loss.text.startswith("It loses 0.200 [0.100, 0.300] Spearman to a model of it alone")
    assert "cannot be told" in level.text
    assert compared("d", 0.1, 0.3, 5).text.startswith("Too few test rows (5)")
    assert company_verdict([gain, loss, level, None], 4) == (
        "Fitted together, 1 of 4 targets gain over a model of each alone, 1 lose, 1 cannot be told "
        "apart; 1 were not compared."
    )
    assert "n_test" not in gain.to_dict()


def test_correlations_need_rows_that_have_both() -> None:
    table = np.stack([VALUES, -VALUES, VALUES**3, np.ones(160)], axis=1)
    table[:155, 2] = NAN
    found = correlations(table)
    assert found[0, 1] == found[1, 0] == pytest.approx(-1)
    assert np.isnan(found[0, 2])
    assert np.isnan(found[3]).all()
