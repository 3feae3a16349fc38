"""--max-minutes: what a run leaves out to end in time, and that it says so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call
from tiny_runs import read_table, tiny_encoder, variants, write_table

from moltide.assay_model import ModelSpec, Rows, fit_assay_model
from moltide.assay_model.pace import scored_rows, seconds_a_pass
from moltide.baselines import TimeLimit, fit_baselines, limits
from moltide.finetune.budget import Budget, rows_in_time
from moltide.splits import Split
from moltide.training import CheckpointFile, StopRequest, TrainSettings
from moltide.training.progress import SilentView

# ---- baselines --------------------------------------------------------------------------------


class Clock:
    """In place of `time`: a fit of n rows takes `fixed` + n * `a_row` seconds."""

    def __init__(self, fixed: float, a_row: float) -> None:
        self.now, self.fixed, self.a_row = 0.0, fixed, a_row
        self.fits: list[int] = []

    def perf_counter(self) -> float:
        return self.now

    def fit(self, rows: int) -> int:
        self.fits.append(rows)
        self.now += self.fixed + rows * self.a_row
        return rows


@pytest.mark.parametrize(
    ("n", "seconds", "fixed", "a_row", "fits"),
    [
        (900, 1.0, 0.0, 1.0, [900]),  # a small table is fitted whatever it takes
        (50_000, 1.0, 0.0, 0.001, [1000]),
        (50_000, 10.0, 0.0, 0.001, [1000, 4000]),
        (50_000, 60.0, 0.0, 0.001, [1000, 50_000]),
        # Most of the time is no matter of rows: a second fit shows it.
        (50_000, 60.0, 3.0, 0.0001, [1000, 4000, 50_000]),
    ],
)
def test_as_many_rows_are_fitted_as_there_is_time_for(
    n: int, seconds: float, fixed: float, a_row: float, fits: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock = Clock(fixed, a_row)
    monkeypatch.setattr(limits, "time", clock)
    assert limits.fit_within(seconds, n, clock.fit) == (fits[-1], fits[-1])
    assert clock.fits == fits
    assert clock.now <= seconds or len(fits) == 1


def baselines(limit: TimeLimit | None, seen: list[int] | None = None) -> dict[str, Any]:
    sequences, values = variants(1600)
    rng = np.random.default_rng(0)
    places = {text: rng.normal(size=8) for text in sequences}

    def embed(texts: list[str]) -> np.ndarray:
        if seen is not None:
            seen.append(len(texts))
        return np.stack([places[text] for text in texts])

    found = fit_baselines(
        *(sequences[:1400], values[:1400], sequences[1500:]),
        valid_sequences=sequences[1400:1500],
        y_valid=values[1400:1500],
        embed=embed,
        zero_shot=lambda texts: np.array([len(set(text)) for text in texts]),
        limit=limit,
    )
    return {one.name: one for one in found}


def test_ample_time_changes_nothing() -> None:
    free, limited = baselines(None), baselines(TimeLimit(1e9, 1e-9))
    for name, one in free.items():
        assert np.array_equal(one.predictions, limited[name].predictions), name
        assert limited[name].cut_short == ""
        assert limited[name].note == one.note


def test_baselines_out_of_time_say_what_they_lack() -> None:
    found = baselines(TimeLimit(1e-9, 1.0))
    for name in ("ridge", "nearest_neighbour"):
        assert found[name].cut_short == "fitted to 1,000 of 1,400 training rows, drawn at random"
        assert found[name].cut_short in found[name].note
        assert found[name].predictions.shape == (100,)
        assert found[name].valid_predictions.shape == (100,)
    # 200 rows that must be embedded beside 1,400 to learn from; 1,600 to score.
    left_out = {"ridge_embeddings": "embedding", "zero_shot": "scoring"}
    for name, what in left_out.items():
        assert found[name].predictions is None
        expected = f"left out: {what} would take about 1,600 s (max_minutes)"
        assert found[name].cut_short == found[name].note == expected
    assert found["mean"].cut_short == ""


def test_the_ridge_says_how_many_rows_took_its_time() -> None:
    assert baselines(None)["ridge"].settings["rows"] == 1500
    assert baselines(TimeLimit(1e-9, 1.0))["ridge"].settings["rows"] == 1100


def test_embeddings_of_a_sample_are_used_where_all_take_too_long() -> None:
    seen: list[int] = []
    # Of 1,600 passes half are for the baseline, at most.
    found = baselines(TimeLimit(1600.0, 1.0), seen)["ridge_embeddings"]
    assert seen[0] < 800
    rows = seen[0] - 200
    assert rows > 500
    said = f"fitted to {rows:,} of 1,400 training rows, drawn at random"
    assert found.cut_short == said
    assert found.predictions.shape == (100,)


def test_scores_of_variants_take_a_pass_a_position() -> None:
    limit = TimeLimit(100.0, 1.0, scoring_passes=30)
    assert limits.too_many_passes(limit, 40.0) == ""
    assert "about 30 s" in limits.too_many_passes(limit, 20.0)


# ---- training ---------------------------------------------------------------------------------


def test_scoring_fewer_validation_rows_keeps_short_trainings_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert scored_rows(3600.0, 0.001) == 2000
    assert scored_rows(100.0, 0.01) == 300
    assert scored_rows(1.0, 0.01) == 50
    encoder = tiny_encoder()
    sequences, values = variants(300)
    assert 0 < seconds_a_pass(encoder, sequences) < 1

    passes: list[int] = []
    predict = type(encoder).predict

    def counted(self: Any, texts: list[str], **options: Any) -> Any:
        passes.append(len(texts))
        return predict(self, texts, **options)

    monkeypatch.setattr(type(encoder), "predict", counted)
    monkeypatch.setattr("moltide.assay_model.fitting.seconds_a_pass", lambda *_: 0.01)
    rows = Rows(sequences, values[:, None])
    train, valid = rows.take(range(100)), rows.take(range(100, 300))
    spec = ModelSpec("regression", "sequence", ("y",))

    class Stopping(SilentView):
        def step(self, *_: object) -> None:
            stop.signum = 15

    # Scoring may take 3 % of the time: 120 of 200 rows. A run that goes on scores the same ones.
    settings = TrainSettings(epochs=1, max_minutes=40 / 60)
    checkpoint = CheckpointFile(tmp_path / "train.safetensors")
    stop = StopRequest()
    options: dict[str, Any] = {"checkpoint": checkpoint, "finish": False}
    with pytest.raises(KeyboardInterrupt):
        fit_assay_model(
            encoder, train, valid, spec, settings, view=Stopping(), stop=stop, **options
        )
    assert passes == [120]
    monkeypatch.setattr("moltide.assay_model.fitting.seconds_a_pass", lambda *_: 1.0)
    fit_assay_model(tiny_encoder(), train, valid, spec, settings, **options)
    assert passes == [120, 120]


# ---- the whole run ----------------------------------------------------------------------------


def budget_of(minutes: float | None, a_pass: float) -> Budget:
    budget = Budget(minutes, started=0.0)
    budget.a_pass = a_pass
    return budget


def test_rows_that_cannot_be_looked_at_in_time_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("moltide.finetune.budget.time.monotonic", lambda: 0.0)
    labels = np.array(["train"] * 1000 + ["valid"] * 1000 + ["test"] * 3000)
    split = Split(labels, "random", "", 0)
    kept = tmp_path / "rows.json"
    whole, cut = rows_in_time(split, budget_of(1.0, 1e-6), kept, "a")
    assert (whole, cut) == (split, "")
    part, cut = rows_in_time(split, budget_of(1.0, 0.01), tmp_path / "b.json", "b")
    n = {name: len(part.index(name)) for name in ("train", "valid", "test")}
    assert n["train"] == 1000
    assert n["test"] / n["valid"] == pytest.approx(3, rel=0.01)
    assert 3.3 * 0.01 * (n["valid"] + n["test"]) == pytest.approx(0.5 * 56, rel=0.01)
    assert cut == part.notes[-1]
    assert cut.startswith(
        f"{n['valid']:,} of 1,000 valid rows and {n['test']:,} of 3,000 test rows"
    )
    # A run that goes on keeps its rows, whatever the machine does now; another run does not.
    again, _ = rows_in_time(split, budget_of(1.0, 0.02), tmp_path / "b.json", "b")
    assert np.array_equal(again.labels, part.labels)
    other, _ = rows_in_time(split, budget_of(1.0, 0.02), tmp_path / "b.json", "c")
    assert not np.array_equal(other.labels, part.labels)


def test_a_budget_without_end_cuts_nothing() -> None:
    budget = budget_of(None, 1e9)
    assert not budget.limited
    assert math.isinf(budget.left)
    assert budget.overrun() == []


def test_an_overrun_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moltide.finetune.budget.time.monotonic", lambda: 61.0)
    assert budget_of(1.0, 0.0).overrun() == []
    assert budget_of(0.5, 0.0).overrun() == ["the run took 1.02 minutes, above max_minutes 0.5"]


def test_a_run_says_what_was_cut_short(
    backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = write_table(
        tmp_path / "assay.csv", ["sequence", "y"], list(zip(*variants(2000), strict=True))
    )
    monkeypatch.setattr("moltide.finetune.stages.seconds_a_pass", lambda *_: 0.05)
    out = tmp_path / "run"
    options = ("--backbone", backbone, "--split", "random", "--max-minutes", 0.1)
    assert call("finetune", table, "--out", out, *options) == 0
    said = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["n_test"] == 100
    rows = "100 of 200 valid rows and 100 of 200 test rows are predicted, drawn at random"
    cut = metrics["cut_short"]
    assert cut[0] == rows
    assert f"to end in time (--max-minutes), {rows}" in said
    embeddings = [line for line in cut if line.startswith("ridge on frozen embeddings: left out")]
    assert len(embeddings) == 1
    assert "ridge on frozen embeddings: none (left out: embedding would take" in said
    assert any(line.startswith("learning curve: no point of the model at ") for line in cut)
    assert f"{len(cut)} parts of the run cut short to end in time; metrics.json lists" in said
    page = (out / "report.html").read_text()
    for line in cut:
        assert f"Cut short to end in time (--max-minutes): {line}." in page
    parts = [row["split"] for row in read_table(out / "split.csv")]
    assert (parts.count("test"), parts.count("none")) == (100, 200)
    assert len(read_table(out / "predictions.csv")) == 200
