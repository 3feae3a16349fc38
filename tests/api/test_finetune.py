"""A whole run: what RUN/ holds, and what every kind of table leads to."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import PARENT, RESIDUES, contents, read_table, variants, write_table

from moltide import AssayClassifier, load, load_assay_model
from moltide.assay import read_assay
from moltide.baselines import BASELINE_NAMES
from moltide.cli import main
from moltide.errors import ConfigError, DataError, MemoryPlanError
from moltide.finetune import FinetuneOptions, RunSummary, finetune
from moltide.finetune.curve import baseline_point, epochs_for, nested_rows
from moltide.finetune.folder import RunFolder, differences
from moltide.finetune.voice import SilentVoice
from moltide.options import typed_options
from moltide.splits import make_split
from moltide.training import TrainSettings

SEQUENCES, VALUES = variants(120)
METRICS = {"spearman", "pearson", "rmse", "mae", "r2"}

Start = Callable[..., RunSummary]


@pytest.fixture
def start(backbone: Path, tmp_path: Path) -> Start:
    """Runs over rows (a header and lists) into tmp_path/run."""

    def run(header: list[str], rows: list[Any], **options: Any) -> RunSummary:
        table = write_table(tmp_path / "assay.csv", header, rows)
        settings = {"epochs": 2, **options.pop("settings", {})}
        defaults: dict[str, Any] = {"split": "random", "learning_curve": False, "report": False}
        voice = options.pop("voice", None)
        return finetune(
            FinetuneOptions(
                assay=table,
                out=tmp_path / "run",
                backbone=backbone,
                settings=TrainSettings(**settings),
                **{**defaults, **options},
            ),
            voice,
        )

    return run


def test_what_a_run_leaves(start: Start, tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    summary = start(["sequence", "fitness"], rows, learning_curve=True, report=True)
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        *("config.json", "adapter_config.json", "adapter_model.safetensors", "head.safetensors"),
        *("split.csv", "predictions.csv", "metrics.json", "report.html", "log.jsonl"),
        "account.csv",
    }
    metrics = json.loads((run / "metrics.json").read_text())
    keys = ["task", "target", "split", "n_train", "n_test", "model", "baselines", "verdict"]
    assert list(metrics) == keys
    assert (metrics["task"], metrics["target"], metrics["split"]) == (
        *("regression", "fitness", "random"),
    )
    assert (metrics["n_train"], metrics["n_test"]) == (96, 12)
    assert set(metrics["model"]) == METRICS
    assert set(metrics["baselines"]) == set(BASELINE_NAMES)
    assert all(set(one) == METRICS for one in metrics["baselines"].values())
    assert summary.metrics == metrics

    split = read_table(run / "split.csv")
    assert [one["sequence"] for one in split] == SEQUENCES
    assert [one["rows"] for one in split[:3]] == ["2", "3", "4"]
    predictions = read_table(run / "predictions.csv")
    parts = {one["sequence"]: one["split"] for one in split}
    assert all(parts[one["sequence"]] == one["split"] for one in predictions)
    assert {one["split"] for one in predictions} == {"valid", "test"}
    measured = dict(zip(SEQUENCES, VALUES, strict=True))
    for one in predictions:
        assert float(one["measured"]) == pytest.approx(measured[one["sequence"]], rel=1e-5)
        assert float(one["low90"]) < float(one["predicted"]) < float(one["high90"])
        assert float(one["std"]) > 0
        assert one["in_domain"] in ("yes", "no")

    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["epochs"] == 2
    assert config["settings"]["loss"] == "mse"
    assert len(config["model"]["backbone"]["sha256"]) == 64
    assert {point["method"] for point in config["learning_curve"]} == {"model", "ridge"}
    page = (run / "report.html").read_text()
    assert metrics["verdict"].split(":")[0] in page

    model = load_assay_model(run)
    test = [one for one in predictions if one["split"] == "test"]
    again = model.predict([one["sequence"] for one in test])
    np.testing.assert_allclose(again, [float(one["predicted"]) for one in test], rtol=1e-5)


def test_the_full_model_is_kept_in_its_published_format(start: Start, tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    start(["sequence", "y"], rows, settings={"adapter": "full"}, learning_curve=True)
    model = load_assay_model(tmp_path / "run")
    encoder = load(tmp_path / "run" / "model", dtype=model.model_.encoder.dtype)
    assert np.array_equal(encoder.embed(SEQUENCES[:3]), model.model_.encoder.embed(SEQUENCES[:3]))
    assert not (tmp_path / "run" / "adapter_config.json").exists()


def test_classes(start: Start, tmp_path: Path) -> None:
    kinds = np.digitize(VALUES, np.quantile(VALUES, [0.4, 0.7]))
    rows = [[s, ["weak", "some", "much"][k]] for s, k in zip(SEQUENCES, kinds, strict=True)]
    metrics = start(["sequence", "activity"], rows).metrics
    assert metrics["task"] == "classification"
    assert set(metrics["model"]) == {"auroc", "auprc", "mcc", "accuracy"}
    first = read_table(tmp_path / "run" / "predictions.csv")[0]
    shares = [float(first[f"p_{one}"]) for one in ("much", "some", "weak")]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    model = load_assay_model(tmp_path / "run")
    assert isinstance(model, AssayClassifier)
    assert model.predict([first["sequence"]])[0] == first["predicted"]


def test_the_positive_of_two_classes_is_named(start: Start) -> None:
    rows = [[s, "mild" if v < 0 else "harsh"] for s, v in zip(SEQUENCES, VALUES, strict=True)]
    voice = Listener()
    start(["sequence", "level"], rows, dry_run=True, voice=voice, table={"target": "level"})
    (line,) = [line for line in voice.said if "positive class" in line]
    assert line.startswith("positive class: 'mild', against 'harsh'")


def test_several_targets_with_empty_cells(start: Start, tmp_path: Path) -> None:
    rows = [
        [s, f"{v:.4f}", "" if i % 3 == 0 else f"{-v:.4f}"]
        for i, (s, v) in enumerate(zip(SEQUENCES, VALUES, strict=True))
    ]
    metrics = start(["sequence", "a", "b"], rows, table={"target": "a,b"}).metrics
    assert metrics["target"] == "a,b"
    keys = ["task", "target", "split", "n_train", "n_test", "model", "baselines", "verdict"]
    assert list(metrics) == [*keys, "endpoints"]
    endpoints = metrics["endpoints"]
    assert {name: list(one) for name, one in endpoints.items()} == {"a": keys, "b": keys}
    assert [endpoints[name]["target"] for name in "ab"] == ["a", "b"]
    assert endpoints["a"]["n_train"] == metrics["n_train"] > endpoints["b"]["n_train"]
    mean = np.mean([endpoints[name]["model"]["rmse"] for name in "ab"])
    assert metrics["model"]["rmse"] == pytest.approx(mean)
    predictions = read_table(tmp_path / "run" / "predictions.csv")
    assert any(one["measured_b"] == "" for one in predictions)
    assert all(one["predicted_b"] and one["std_a"] for one in predictions)


def test_bounds_make_it_a_tobit_model(start: Start, tmp_path: Path) -> None:
    high = np.quantile(VALUES, 0.7)
    rows = [
        [s, f">{high:.3f}" if v > high else f"{v:.3f}"]
        for s, v in zip(SEQUENCES, VALUES, strict=True)
    ]
    start(["sequence", "y"], rows)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["loss"] == "tobit"
    predictions = read_table(tmp_path / "run" / "predictions.csv")
    assert {one["bound"] for one in predictions} == {"", ">"}


class Listener(SilentVoice):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        self.said += [title, *lines]

    def say(self, line: str) -> None:
        self.said.append(line)


def test_too_few_exact_validation_rows_for_intervals_are_named(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ["train"] * 60 + ["valid"] * 30 + ["test"] * 30
    exact = {"a": [*range(60, 67)], "b": [*range(60, 63)], "c": [*range(60, 69)]}
    rows = []
    for i, (sequence, value) in enumerate(zip(SEQUENCES, VALUES, strict=True)):
        cells = [
            f"{'' if part[i] != 'valid' or i in known else '<'}{value}" for known in exact.values()
        ]
        rows.append([sequence, *cells, part[i]])
    voice = Listener()
    table = {"target": "a,b,c"}
    start(["sequence", *exact, "part"], rows, table=table, split="part", report=True, voice=voice)
    few = [line for line in voice.said if "interval" in line]
    assert few[-2:] == [
        "no 90% intervals for a: 7 validation rows have an exact value, 9 are needed",
        "no std and no 90% intervals for b: 3 validation rows have an exact value, 9 are needed",
    ]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "No 90% intervals for a: 7 validation rows have an exact value, 9 are needed." in page
    new = [str(tmp_path / "assay.csv"), "-o", str(tmp_path / "new.csv")]
    assert main(["predict", str(tmp_path / "run"), *new]) == 0
    # The terminal breaks lines.
    assert " ".join(few[-1].split()) in " ".join(capsys.readouterr().out.split())
    held = read_table(tmp_path / "run" / "predictions.csv")
    assert {bool(one["std_a"]) for one in held} == {bool(one["low90_c"]) for one in held} == {True}
    assert {one["std_b"] for one in held} == {one["low90_a"] for one in held} == {""}


def test_mutations_of_a_wild_type(start: Start, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        [f"{PARENT[p]}{p + 24}{mutant}", f"{rng.normal():.3f}"]
        for p in range(0, 22, 2)
        for mutant in RESIDUES
        if mutant != PARENT[p]
    ]
    start(["variant", "dms"], rows, table={"wildtype": PARENT}, split="auto")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["split"] == "position"
    names = {one["mutations"] for one in read_table(tmp_path / "run" / "predictions.csv")}
    assert names <= {row[0] for row in rows}


@pytest.mark.parametrize(("repeated", "known"), [(1, False), (20, True)])
def test_the_noise_of_few_sequences_is_not_that_of_the_assay(
    start: Start, tmp_path: Path, repeated: int, known: bool
) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    again = [(text, value + 0.01 * i) for text, value in rows[:repeated] for i in range(1, 4)]
    start(["sequence", "y"], [*rows, *again], report=True)
    report = (tmp_path / "run" / "report.html").read_text()
    assert ("Noise ceiling" in report) == known
    assert ("replicates, or of too few sequences" in report) != known


def test_a_split_column_gives_its_name(start: Start) -> None:
    rows = [
        [s, v, ["train", "train", "valid", "test"][i % 4]]
        for i, (s, v) in enumerate(zip(SEQUENCES, VALUES, strict=True))
    ]
    metrics = start(["sequence", "y", "holdout"], rows, split="holdout").metrics
    assert (metrics["split"], metrics["n_train"], metrics["n_test"]) == ("holdout", 60, 30)


def test_a_dry_run_writes_nothing(start: Start, tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    summary = start(["sequence", "y"], rows, dry_run=True)
    assert summary.state == "dry run"
    assert [path.name for path in tmp_path.iterdir()] == ["assay.csv"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_folder_of_other_files_is_refused_before_the_table_is_read(
    start: Start, tmp_path: Path, dry_run: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.doc").write_text("mine")
    with pytest.raises(ConfigError, match=r"run is not empty \(thesis\.doc\) and holds no run"):
        start(["not", "a table"], [], dry_run=dry_run)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.doc"]


def test_a_dry_run_refuses_the_folder_of_another_run(start: Start, tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    start(["sequence", "y"], rows)
    assert start(["sequence", "y"], rows, dry_run=True).state == "dry run"
    with pytest.raises(ConfigError, match=r"finished run with other settings.*: seed 0 -> 1"):
        start(["sequence", "y"], rows, dry_run=True, settings={"seed": 1})


def test_time_is_kept(start: Start, tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    voice, settings = Listener(), {"epochs": 100_000, "max_minutes": 0.05}
    start(["sequence", "y"], rows, settings=settings, voice=voice)
    assert re.search(
        r"\n[\d,]+ steps \(\d+ epochs?\) planned, for 00:0[123] of training\n",
        "\n".join(voice.said),
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["seconds"] < 6
    assert config["training"]["steps"] < 100_000
    assert config["settings"]["max_minutes"] == 0.05


def test_a_step_that_does_not_fit_is_refused_before_any_work(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moltide.assay_model import memory

    rows = list(zip(SEQUENCES, VALUES, strict=True))
    real = memory.step_memory
    scarce = {"available": 1000}
    monkeypatch.setattr(memory, "step_memory", lambda ready: {**real(ready), **scarce})
    with pytest.raises(MemoryPlanError, match=r"a training step needs .* are free"):
        start(["sequence", "y"], rows)
    assert not (tmp_path / "run").exists()


def test_a_run_stays_where_the_one_to_replace_it_cannot_start(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moltide.assay_model import memory

    rows = list(zip(SEQUENCES, VALUES, strict=True))
    start(["sequence", "y"], rows)
    before = contents(tmp_path / "run")
    real = memory.step_memory
    monkeypatch.setattr(memory, "step_memory", lambda ready: {**real(ready), "available": 1000})
    with pytest.raises(MemoryPlanError):
        start(["sequence", "y"], rows, overwrite=True, settings={"seed": 1})
    assert contents(tmp_path / "run") == before
    monkeypatch.undo()
    assert start(["sequence", "y"], rows).state == "already finished"
    again = start(["sequence", "y"], rows, overwrite=True, settings={"seed": 1})
    assert again.state == "finished"
    assert contents(tmp_path / "run") != before


def test_recomputation_steps_in_where_memory_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_runs import tiny_encoder

    from moltide.assay_model import ModelSpec, Rows, memory
    from moltide.assay_model.preparation import prepare

    spec = ModelSpec("regression", "sequence", ("y",))
    ready = prepare(tiny_encoder(), Rows(SEQUENCES, VALUES[:, None]), spec, TrainSettings())
    real = memory.step_memory
    for level, next_level in (("none", "mlp"), ("mlp", "blocks")):
        between = real(dataclasses.replace(ready, recompute=level))["missing"] - 1
        scarce = {"available": between}
        monkeypatch.setattr(memory, "step_memory", lambda one, s=scarce: {**real(one), **s})
        said: list[str] = []
        assert memory.settle_memory(ready, said.append).recompute == next_level
        assert "recomputed" in said[0]


@pytest.mark.parametrize(
    ("dtype", "settings", "level"),
    [
        ("float32", {"adapter": "full"}, "mlp"),
        ("bf16", {"adapter": "full"}, "none"),
        ("float32", {"adapter": "full", "max_tokens": 40}, "none"),
        ("float32", {"adapter": "lora"}, "none"),
        ("float32", {"adapter": "full", "recompute": False}, "none"),
        ("bf16", {"adapter": "full", "recompute": True}, "blocks"),
    ],
)
def test_what_is_recomputed_where_memory_abounds(
    dtype: str, settings: dict[str, Any], level: str
) -> None:
    from tiny_runs import tiny_encoder

    from moltide.assay_model import ModelSpec, Rows, memory
    from moltide.assay_model.preparation import prepare

    spec = ModelSpec("regression", "sequence", ("y",))
    rows = Rows(SEQUENCES, VALUES[:, None])
    ready = prepare(tiny_encoder(dtype=dtype), rows, spec, TrainSettings(**settings))
    assert memory.settle_memory(ready).recompute == level


@pytest.mark.parametrize(("batch_size", "max_tokens"), [(16, 2048), (16, 40), (1000, 10**6)])
def test_the_planned_step_is_the_largest_that_can_come(batch_size: int, max_tokens: int) -> None:
    from tiny_runs import tiny_encoder

    from moltide.assay_model import ModelSpec, Rows, memory
    from moltide.assay_model.preparation import prepare

    spec = ModelSpec("regression", "sequence", ("y",))
    settings = TrainSettings(
        adapter="full", batch_size=batch_size, max_tokens=max_tokens, recompute=False
    )
    ready = prepare(tiny_encoder(), Rows(SEQUENCES, VALUES[:, None]), spec, settings)
    planned = memory.step_memory(ready)["activations"]
    longest = np.sort(ready.data.lengths)[::-1][:batch_size]
    trainer = ready.trainer()
    if longest.sum() <= max_tokens:
        assert planned == trainer.plan_memory(longest)["activations"]
    else:
        held = longest[: np.searchsorted(np.cumsum(longest), max_tokens, side="right")]
        assert planned == trainer.plan_memory(held, micro_batches=2)["activations"]


def test_bad_tables_and_options(start: Start, tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    with pytest.raises(DataError, match=r"assay\.csv"):
        start(["sequence", "y"], [[s, 1.0] for s in SEQUENCES])
    parts = ["train" if i < 90 else "valid" if i < 100 else "test" for i in range(120)]
    flat = [[s, 1.0 if i < 90 else v, parts[i]] for i, (s, v) in enumerate(rows)]
    with pytest.raises(DataError, match="nothing to learn"):
        start(["sequence", "y", "part"], flat, split="part")
    with pytest.raises(ConfigError, match="rank is 0"):
        start(["sequence", "y"], rows, settings={"rank": 0})
    with pytest.raises(ValueError, match="colour"):
        start(["sequence", "y"], rows, split="colour")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "thesis.doc").write_text("mine")
    with pytest.raises(ConfigError, match=r"thesis\.doc"):
        start(["sequence", "y"], rows)
    start(["sequence", "y"], rows, overwrite=True)
    assert (tmp_path / "run" / "thesis.doc").read_text() == "mine"


def test_parts_of_the_training_rows_are_nested() -> None:
    index = np.arange(100, 300)
    small, large = nested_rows(index, 0.1, 0), nested_rows(index, 0.5, 0)
    assert (len(small), len(large)) == (20, 100)
    assert set(small) < set(large) < set(index)
    assert epochs_for(0.25, 6) == 12


def test_ridge_on_the_learning_curve_sees_the_rows_of_its_point_alone(tmp_path: Path) -> None:
    rows = list(zip(SEQUENCES, VALUES, strict=True))
    table = read_assay(write_table(tmp_path / "assay.csv", ["sequence", "y"], rows))
    split = make_split(table, "random", 0)
    part = nested_rows(split.index("train"), 0.25, 0)
    point = baseline_point(table, split, part, 0)
    assert (point.method, point.n_train) == ("ridge", 24)
    table.targets[split.index("valid")] = -7.0
    assert baseline_point(table, split, part, 0) == point
    table.targets[part] = table.targets[part][::-1]
    assert baseline_point(table, split, part, 0) != point


def test_a_run_killed_while_it_drops_its_checkpoint_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = {"seed": 0}
    folder = RunFolder(tmp_path / "run", identity)
    folder.open(overwrite=False)
    document = {"format": RunFolder.format, "identity": identity}
    folder.file(RunFolder.done).write_text(json.dumps(document))
    (folder.checkpoint / "train.safetensors").write_bytes(b"weights")
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
    folder.finish()
    monkeypatch.undo()
    assert folder.checkpoint.is_dir()
    again = RunFolder(tmp_path / "run", identity)
    again.open(overwrite=False)
    assert again.state == "finished"
    assert not again.checkpoint.exists()


def test_differences_are_named_as_options() -> None:
    same = {"data": {"sha256": "a", "targets": ["y"]}, "split_sha256": "b", "split": "auto"}
    old = {**same, "settings": {"seed": 0, "max_minutes": None}, "table": {"target": "y"}}
    new = {**old, "settings": {"seed": 3, "max_minutes": 5}, "split_sha256": "c"}
    assert differences(old, new) == ["max_minutes (not given) -> 5", "seed 0 -> 3"]
    with typed_options({"max_minutes": "--max-minutes"}):
        assert differences(old, new)[0] == "--max-minutes (not given) -> 5"
    other_rows = {**same, "data": {"sha256": "d", "targets": ["y"]}, "split_sha256": "c"}
    assert differences(same, other_rows) == ["other rows or values"]
    new = {**other_rows, "table": {}, "settings": old["settings"]}
    assert differences(old, new) == ["target y -> (not given)"]
    assert differences({"backbone": "a" * 60}, {"backbone": "b"}) == [
        f"backbone {'a' * 37}... -> b"
    ]
