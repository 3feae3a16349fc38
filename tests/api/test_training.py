"""The fine-tuning loop: order, plan, settings, best epoch, log."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import tiny_encoder, variants

from moltide import _engine
from moltide.assay_model import ModelSpec, Rows, fit_assay_model
from moltide.assay_model.preparation import prepare
from moltide.assay_model.validation import score
from moltide.encoder import Encoder
from moltide.errors import ConfigError, DataError
from moltide.finetune.options import FinetuneOptions
from moltide.pretraining import PretrainOptions
from moltide.training import (
    CheckpointFile,
    FitPlan,
    Interrupted,
    StopRequest,
    TrainSettings,
    epoch_batches,
    make_plan,
)
from moltide.training.arithmetic import training_dtype
from moltide.training.log import JsonLog
from moltide.training.loop import _Run
from moltide.training.progress import Pace, SilentView, clock

SPEC = ModelSpec("regression", "sequence", ("y",))


def rows(n: int = 60, seed: int = 0) -> Rows:
    sequences, values = variants(n, seed)
    return Rows(sequences, values[:, None])


@pytest.mark.parametrize(("n", "size"), [(1, 4), (4, 4), (10, 4), (33, 32), (100, 7)])
def test_an_epoch_holds_every_row_once_in_even_batches(n: int, size: int) -> None:
    batches = epoch_batches(n, size, seed=3, epoch=1)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    lengths = [len(one) for one in batches]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first = np.concatenate(epoch_batches(50, 8, 1, 2))
    assert np.array_equal(first, np.concatenate(epoch_batches(50, 8, 1, 2)))
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        assert not np.array_equal(first, np.concatenate(epoch_batches(50, 8, seed, epoch)))


def test_time_cuts_the_number_of_steps() -> None:
    settings = TrainSettings(epochs=10, batch_size=10, warmup=0.1).resolved("regression", 1000)
    assert make_plan(1000, settings) == FitPlan(1000, 100, 100)
    timed = dataclasses.replace(settings, max_minutes=1.0)
    plan = make_plan(1000, timed, lambda: 0.5)
    assert (plan.steps, plan.why, plan.epochs, plan.warmup_steps) == (120, "time", 2, 12)
    assert make_plan(1000, timed, lambda: 1e-6).why == "epochs"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("adapter", "dora"),
        ("rank", 0),
        ("rank", 2.5),
        ("rank", True),
        ("lr", -1.0),
        ("lr", math.nan),
        ("lr", "high"),
        ("loss", "mae"),
        ("epochs", 0),
        ("batch_size", 0),
        ("dropout", 1.5),
        ("max_minutes", 0),
        ("schedule", "step"),
        ("targets", ()),
    ],
)
def test_a_setting_outside_its_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(TrainSettings(), **{name: value}).check()


def test_arithmetic_is_what_the_processor_is_fast_in() -> None:
    found = {}
    for isa in _engine.available_isas():
        _engine.set_isa(isa)
        found[isa] = training_dtype("auto")
        assert training_dtype("float32") == "float32"
        assert training_dtype("bf16") == "bf16"
        # An interrupted run does not go on in another arithmetic.
        assert FinetuneOptions("a.csv", "run").identity()["dtype"] == found[isa]
        assert PretrainOptions(["a.fasta"], "run").identity_of()["dtype"] == found[isa]
    fast = {"avx512_bf16", "amx"}
    assert found == {isa: "bf16" if isa in fast else "float32" for isa in found}
    with pytest.raises(ConfigError, match=r"dtype 'int8' is for inference"):
        training_dtype("int8")


def test_losses_suit_task_and_labels() -> None:
    def loss(**options: object) -> str:
        task = str(options.pop("task", "regression"))
        return TrainSettings().resolved(task, 100, **options).loss  # type: ignore[arg-type]

    assert loss() == "mse"
    assert loss(censored=True) == "tobit"
    assert loss(task="classification", n_classes=2) == "bce"
    assert loss(task="classification", n_classes=3) == "cross_entropy"
    with pytest.raises(ConfigError, match="allowed: bce, cross_entropy"):
        TrainSettings(loss="mse").resolved("classification", 10, n_classes=2)
    with pytest.raises(ConfigError, match="bounds"):
        TrainSettings(loss="huber").resolved("regression", 10, censored=True)
    with pytest.raises(ConfigError, match="3 classes"):
        TrainSettings(loss="bce").resolved("classification", 10, n_classes=3)


def test_settings_survive_json() -> None:
    settings = TrainSettings(adapter="full", lr=3e-4, targets=("attn.q", "mlp.up"))
    assert TrainSettings.from_mapping(json.loads(json.dumps(settings.to_dict()))) == settings
    with pytest.raises(ConfigError, match="learning_rate"):
        TrainSettings.from_mapping({"learning_rate": 1})


@pytest.mark.parametrize(("adapter", "lr"), [("lora", 5e-3), ("full", 5e-3), ("head", 5e-2)])
def test_training_learns_and_keeps_the_best_epoch(adapter: str, lr: float) -> None:
    train, valid = rows(150), rows(150 + 40).take(range(150, 190))
    settings = TrainSettings(adapter=adapter, epochs=8, patience=8, lr=lr)
    model, result = fit_assay_model(tiny_encoder(), train, valid, SPEC, settings)
    assert len(result.history) == 8
    assert result.history[-1].loss < 0.98 * result.history[0].loss
    scores = [epoch.score for epoch in result.history]
    if result.best_epoch > 0:
        assert result.best_score == max(scores)  # type: ignore[type-var]
        assert result.best_epoch == scores.index(result.best_score) + 1
    else:  # a head begins as ridge on these embeddings
        assert adapter == "head"
        assert result.best_score >= max(scores)  # type: ignore[type-var, operator]
    # The weights are those of the best epoch, not of the last.
    outputs = np.asarray(model.outputs(valid.sequences), np.float64)
    assert score(SPEC, outputs, valid.flat_targets()) == result.best_score


def test_the_start_is_kept_where_no_epoch_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = rows(60), rows(80).take(range(60, 80))
    settings = TrainSettings(adapter="full", epochs=4, patience=2)
    given = iter([0.5, 0.1, 0.3, 0.4, 0.2])
    monkeypatch.setattr("moltide.assay_model.fitting.score", lambda *_: next(given))
    before: dict[str, np.ndarray] = {}

    class View(SilentView):
        def begin(self, *_: object) -> None:
            before.update(named(encoder))

    def named(encoder: Encoder) -> dict[str, np.ndarray]:
        return {name: encoder.model.get_parameter(name) for name, _ in encoder.model.parameters()}

    encoder = tiny_encoder()
    _, result = fit_assay_model(encoder, train, valid, SPEC, settings, view=View())
    # Patience counts from the best epoch, not from the start.
    assert [epoch.score for epoch in result.history] == [0.1, 0.3, 0.4, 0.2]
    assert (result.best_epoch, result.best_score) == (0, 0.5)
    assert result.kept == "the start (4 epochs, none better)"
    after = named(encoder)
    assert all(np.array_equal(values, after[name]) for name, values in before.items())


def test_the_backbone_stays_frozen_without_full_fine_tuning() -> None:
    for adapter, same in (("lora", True), ("head", True), ("full", False)):
        encoder = tiny_encoder()
        name = "layers.0.attn.q.weight"
        before = encoder.model.get_parameter(name)
        fit_assay_model(encoder, rows(40), None, SPEC, TrainSettings(adapter=adapter, epochs=1))
        assert np.array_equal(before, encoder.model.get_parameter(name)) == same


def test_patience_ends_a_run_without_progress() -> None:
    # A learning rate of almost nothing: all epochs rank validation rows as the start does.
    train, valid = rows(40), rows(60).take(range(40, 60))
    settings = TrainSettings(adapter="head", epochs=30, patience=3, lr=1e-12)
    _, result = fit_assay_model(tiny_encoder(), train, valid, SPEC, settings)
    assert result.stopped == "patience"
    assert len(result.history) == 1 + 3
    assert result.best_epoch == 0


@pytest.mark.parametrize(("slow", "stopped"), [(0, "time"), (2, "finished")])
def test_a_run_out_of_time_says_so_unless_it_is_done(
    slow: int, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps are planned; time is up after the first, or the last."""
    monkeypatch.setattr(_Run, "out_of_time", lambda run: run.state.step > slow)
    settings = TrainSettings(epochs=1, batch_size=14)
    _, result = fit_assay_model(tiny_encoder(), rows(40), None, SPEC, settings)
    assert (result.stopped, result.steps) == (stopped, slow + 1)


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_has_every_step_and_epoch(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log.jsonl")
    settings = TrainSettings(epochs=2, batch_size=16)
    _, result = fit_assay_model(tiny_encoder(), rows(40), None, SPEC, settings, log=log)
    log.close()
    lines = logged(tmp_path / "log.jsonl")
    steps = [one for one in lines if "grad_norm" in one]
    assert [one["step"] for one in steps] == list(range(1, result.steps + 1))
    assert [one["epoch"] for one in lines if "seconds" in one] == [1, 2]
    assert all(math.isfinite(one["loss"]) for one in lines)


def test_the_log_has_the_start_that_competes_with_the_epochs(tmp_path: Path) -> None:
    log, settings = JsonLog(tmp_path / "log.jsonl"), TrainSettings(epochs=2, batch_size=16)
    valid = rows(60).take(range(40, 60))
    fit_assay_model(tiny_encoder(), rows(40), valid, SPEC, settings, log=log)
    log.close()
    epochs = [one for one in logged(tmp_path / "log.jsonl") if "score" in one]
    assert [(one["epoch"], one["step"]) for one in epochs] == [(0, 0), (1, 3), (2, 6)]
    assert epochs[0]["loss"] is None
    assert math.isfinite(epochs[0]["score"])


def test_a_run_stopped_before_its_first_step_scores_the_start_once(tmp_path: Path) -> None:
    log, settings = JsonLog(tmp_path / "log.jsonl"), TrainSettings(epochs=1, batch_size=16)
    checkpoint = CheckpointFile(tmp_path / "train.safetensors")

    def run(stop: StopRequest | None) -> None:
        valid = rows(60).take(range(40, 60))
        fit_assay_model(
            *(tiny_encoder(), rows(40), valid, SPEC, settings),
            checkpoint=checkpoint,
            log=log,
            stop=stop,
        )
        log.close()

    asked = StopRequest()
    asked.signum = signal.SIGTERM
    with pytest.raises(Interrupted):
        run(asked)
    run(None)
    found = logged(tmp_path / "log.jsonl")
    assert [one["epoch"] for one in found if "score" in one] == [0, 1]


def test_targets_are_standardised_on_the_training_rows() -> None:
    sequences, values = variants(30)
    table = np.stack([1000 + 50 * values, values], axis=1)
    table[::4, 1] = np.nan
    spec = ModelSpec("regression", "sequence", ("a", "b"))
    ready = prepare(tiny_encoder(), Rows(sequences, table), spec, TrainSettings())
    got = ready.data.targets
    assert np.array_equal(np.isnan(got), np.isnan(table))
    np.testing.assert_allclose(np.nanmean(got, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(got, axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(ready.scaling.backward(got), table, rtol=1e-4)


def test_a_residue_target_needs_one_token_a_residue() -> None:
    spec = ModelSpec("regression", "residue", ("y",))
    target = [np.zeros((9, 1))]
    with pytest.raises(DataError, match="per-residue"):
        prepare(tiny_encoder(), Rows(["AC<mask>"], target), spec, TrainSettings())


def test_scores_handle_missing_values_and_ties() -> None:
    y = np.array([[1.0], [2.0], [np.nan], [4.0]])
    assert score(SPEC, np.array([[1.0], [2.0], [-9.0], [3.0]]), y) == pytest.approx(1.0)
    binary = ModelSpec("classification", "sequence", ("y",), ("0", "1"))
    outputs = np.array([[0.1], [0.4], [0.4], [0.8]])
    labels = np.array([[0.0], [1.0], [0.0], [1.0]])
    assert score(binary, outputs, labels) == pytest.approx(3.5 / 4)
    assert math.isnan(score(binary, outputs, np.zeros((4, 1))))


def test_time_left_is_smoothed_and_readable() -> None:
    pace = Pace("Spearman")
    pace.begin(10, 0, [])
    pace.step({"loss": 2.0, "residues": 100})
    pace.step({"loss": 1.0, "residues": 100})
    assert pace.done == 2
    assert 1.0 < (pace.loss or 0) < 2.0
    assert "residues/s" in pace.text()
    assert (clock(65), clock(3725)) == ("01:05", "1:02:05")


def test_the_head_starts_at_the_ridge_solution() -> None:
    from sklearn.linear_model import Ridge

    from moltide.assay_model.head_start import ridge

    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)) * 0.01 + 5
    y = 30 * x[:, 0] - 10 * x[:, 3] + rng.normal(scale=0.1, size=80)
    weights = rng.uniform(0.5, 2, size=80)
    slope, intercept = ridge(x, y, weights)
    predicted = x @ slope + intercept
    assert np.corrcoef(predicted, y)[0, 1] > 0.9
    # It is a ridge: some penalty of an independent implementation gives the same coefficients.
    scaled = weights / weights.mean()
    gaps = [
        np.abs(Ridge(alpha=alpha).fit(x, y, sample_weight=scaled).coef_ - slope).max()
        for alpha in np.logspace(-8, 2, 33 * 4) * 0.01
    ]
    assert min(gaps) < 0.1 * np.abs(slope).max()
    flat, level = ridge(np.ones((5, 2)), np.arange(5.0), np.ones(5))
    assert (flat.tolist(), level) == ([0.0, 0.0], 2.0)


@pytest.mark.parametrize(("n", "width"), [(40, 8), (30, 60)])
@pytest.mark.parametrize("slack", [0.0, 1.0])
def test_the_penalty_of_a_ridge_start_is_that_of_leaving_out_rows(
    n: int, width: int, slack: float
) -> None:
    """Against fits without each row in turn, with fewer columns than rows and with more."""
    from sklearn.linear_model import Ridge

    from moltide.assay_model.head_start import _PENALTIES, ridge

    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, width)) + 5
    y = 2 * x[:, 0] - x[:, 1] + rng.normal(scale=2, size=n)
    weights = rng.uniform(0.5, 2, size=n)
    centre = weights @ x / weights.sum()
    scaled = weights / weights.mean()
    largest = np.linalg.svd((x - centre) * np.sqrt(scaled)[:, None], compute_uv=False)[0] ** 2
    errors = []
    for share in _PENALTIES:
        squared = []
        for i in range(n):
            keep = np.arange(n) != i
            fit = Ridge(alpha=share * largest, solver="svd")
            fit.fit(x[keep], y[keep], sample_weight=scaled[keep])
            squared.append(scaled[i] * (fit.predict(x[i : i + 1])[0] - y[i]) ** 2)
        errors.append((np.mean(squared), np.std(squared) / np.sqrt(n)))
    means, spreads = np.array(errors).T
    best = int(means.argmin())
    if slack:
        best = int(np.flatnonzero(means <= means[best] + slack * spreads[best])[-1])
    wanted = Ridge(alpha=_PENALTIES[best] * largest, solver="svd")
    wanted.fit(x, y, sample_weight=scaled)
    slope, intercept = ridge(x, y, weights, slack)
    np.testing.assert_allclose(slope, wanted.coef_, rtol=1e-6, atol=1e-9)
    assert intercept == pytest.approx(wanted.intercept_)


def test_a_ridge_start_is_ahead_after_one_epoch() -> None:
    train, valid = rows(150), rows(190).take(range(150, 190))
    losses = {}
    for start in ("ridge", "random"):
        settings = TrainSettings(epochs=1, head_start=start)
        _, result = fit_assay_model(tiny_encoder(), train, valid, SPEC, settings)
        losses[start] = result.history[0].loss
    assert losses["ridge"] < losses["random"]


def test_classes_start_at_a_logistic_ridge() -> None:
    from sklearn.linear_model import LogisticRegression

    from moltide.assay_model.head_start import logistic_ridge

    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 5)) * 0.02 + 3
    y = np.digitize(x[:, 1] + 0.5 * x[:, 2] + rng.normal(scale=0.005, size=150), [4.49, 4.51])
    weights = rng.uniform(0.5, 2, size=150)
    for labels, k in ((y, 3), (np.minimum(y, 1), 2)):
        slopes, offsets = logistic_ridge(x, labels, weights, k)
        logits = x @ slopes.T + offsets
        assert (logits.argmax(axis=1) == labels).mean() > 0.8
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        gaps = []
        for c in np.logspace(-4, 0, 5):
            other = LogisticRegression(C=c, max_iter=1000).fit(z, labels, sample_weight=weights)
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            gaps.append(np.abs(other.predict_proba(z) - shares).max())
        assert min(gaps) < 1e-2


def test_a_logistic_start_survives_classes_that_are_rare_or_absent() -> None:
    from moltide.assay_model.head_start import logistic_ridge

    x = np.random.default_rng(0).normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(np.int64) * 2  # class 1 of three never occurs
    slopes, offsets = logistic_ridge(x, y, np.ones(40), 3)
    assert np.isfinite(offsets).all()
    assert not slopes[1].any()
    assert (np.argmax(x @ slopes.T + offsets, axis=1) == y).mean() > 0.8
    alone, shares = logistic_ridge(x, np.zeros(40, np.int64), np.ones(40), 2)
    assert not alone.any()
    assert shares[0] > shares[1]


def test_a_ridge_start_needs_a_linear_head_and_one_label_a_sequence() -> None:
    def start(
        task: str = "regression", level: str = "sequence", kind: str = "protein", **options: object
    ) -> str:
        settings = dataclasses.replace(TrainSettings(), **options)  # type: ignore[arg-type]
        return settings.resolved(task, 10, n_classes=2, level=level, kind=kind).head_start

    assert start() == start("classification") == start(kind="rna") == "ridge"
    assert start(kind="molecule") == start(kind="molecule", adapter="full") == "random"
    assert start(kind="molecule", adapter="head") == "ridge"
    assert start(kind="molecule", head_start="ridge") == "ridge"
    assert start(level="residue") == start(head_hidden=8) == "random"
    with pytest.raises(ConfigError, match="head_start is 'ridge'"):
        start(head_hidden=8, head_start="ridge")
