"""`moltide pretrain`: what a run writes and refuses, whatever form its input has."""

from __future__ import annotations

import json
import runpy
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import call, one_error
from pretraining_files import SHAPE, SMALL, proteins, repetitive, write_fasta
from tiny_runs import contents, tiny_backbone, write_table

import moltide as mt
from moltide import random_init
from moltide.errors import ConfigError, DataError, MemoryPlanError, MissingDependencyError
from moltide.pretraining import PretrainOptions, pretrain
from moltide.pretraining.results import verdict
from moltide.training import Interrupted

SHORT = ("--steps", 20, "--valid-every", 10)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fasta(tmp_path_factory.mktemp("corpus") / "corpus.fasta", proteins(80))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that beats the residue frequencies."""
    folder = tmp_path_factory.mktemp("run")
    fasta, out = write_fasta(folder / "corpus.fasta", repetitive(80)), folder / "run"
    options = (*SMALL, "--epochs", 12, "--holdout", 0.1, "--valid-every", 25)
    assert call("pretrain", fasta, "--out", out, *options) == 0
    return out


def options_of(fasta: Path, out: Path, **changes: Any) -> PretrainOptions:
    values: dict[str, Any] = {
        **{"layers": 1, "width": 16, "heads": 2, "longest": 40, "batch_tokens": 256, "steps": 20},
        **changes,
    }
    return PretrainOptions(train=[fasta], out=out, **values)


# ---- what a run writes ------------------------------------------------------------------------


def test_a_run_leaves_a_model_that_loads_and_beats_the_frequencies(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    perplexities = {name: row["perplexity"] for name, row in metrics["baselines"].items()}
    assert set(perplexities) == {"unigram", "kmer"}
    assert metrics["model"]["perplexity"] < 0.8 * perplexities["unigram"]
    assert metrics["n_train"] + metrics["n_valid"] == 80
    encoder = mt.load(run)
    assert encoder.config["width"] == 16
    assert encoder.embed(["MKTAYIAK"]).shape == (1, 16)
    with pytest.raises(ConfigError, match="contact head"):
        encoder.contacts(["MKTAYIAK"])
    card = (run / "README.md").read_text()
    assert f"| this model | {metrics['model']['perplexity']:.3f} |" in card
    assert "80 sequences" in card
    page = (run / "report.html").read_text()
    assert "k-mer model" in page
    assert "<svg" in page
    assert len((run / "holdout.csv").read_text().splitlines()) == metrics["n_valid"] + 1
    document = json.loads((run / "training.json").read_text())
    assert document["training"]["steps"] == metrics["steps"] == document["plan"]["steps"]
    assert not (run / "checkpoint").exists()


def test_the_log_has_steps_and_validations(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    valid = [row for row in rows if "valid_perplexity" in row]
    metrics = json.loads((run / "metrics.json").read_text())
    assert steps[-1]["step"] == valid[-1]["step"] == metrics["steps"]
    assert steps[-1]["tokens"] == metrics["tokens"]
    assert [row["step"] for row in valid[:-1]] == list(range(25, metrics["steps"], 25))
    assert min(row["valid_perplexity"] for row in valid) == pytest.approx(
        metrics["model"]["perplexity"], rel=1e-6
    )
    assert steps[-1]["lr"] < 0.1 * max(row["lr"] for row in steps)


def test_fasta_csv_and_parquet_give_the_same_run(fasta: Path, tmp_path: Path) -> None:
    import pandas as pd

    sequences = proteins(80)
    half = [(text, i) for i, text in enumerate(sequences)]
    table = write_table(tmp_path / "a.csv", ["protein", "n"], half)
    pd.DataFrame({"n": range(80), "protein": sequences}).to_parquet(tmp_path / "a.parquet")
    parts = [
        write_fasta(tmp_path / "one.fasta", sequences[:30]),
        write_table(tmp_path / "two.csv", ["protein"], [[text] for text in sequences[30:]]),
    ]
    weights = []
    for i, train in enumerate(([fasta], [table], [tmp_path / "a.parquet"], parts)):
        out = tmp_path / f"run{i}"
        assert call("pretrain", *train, "--out", out, *SMALL, *SHORT) == 0
        weights.append((out / "model.safetensors").read_bytes())
    assert all(one == weights[0] for one in weights)


def test_threads_change_no_bit(fasta: Path, tmp_path: Path) -> None:
    weights = []
    for threads in (1, 2):
        out = tmp_path / f"run{threads}"
        options = (*SMALL, *SHORT, "--threads", threads, "--cache", tmp_path / "cache")
        assert call("pretrain", fasta, "--out", out, *options) == 0
        assert mt.num_threads() == threads
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert [path.name[:7] for path in (tmp_path / "cache").iterdir()] == ["corpus-"]


def test_clusters_of_a_table_are_sampled_and_held_out(tmp_path: Path) -> None:
    rows = [(text, f"c{i // 4}", 1 + i % 2) for i, text in enumerate(proteins(80))]
    table = write_table(tmp_path / "a.csv", ["sequence", "family", "w"], rows)
    out = tmp_path / "run"
    columns = ("--cluster", "family", "--cluster-weight", 0.5, "--weight", "w")
    options = (*SMALL, *SHORT, *columns, "--holdout", 0.1)
    assert call("pretrain", table, "--out", out, *options) == 0
    lines = (out / "holdout.csv").read_text().splitlines()[1:]
    held = [int(line.split(",")[1]) - 2 for line in lines]
    assert len(held) == 8
    assert len({row // 4 for row in held}) == 2


def test_training_goes_on_from_a_backbone_or_begins_by_a_config(
    fasta: Path, tmp_path: Path
) -> None:
    backbone = tiny_backbone(tmp_path / "tiny")
    common = ("--longest", 40, "--batch-tokens", 256, *SHORT, "--save-dtype", "bf16")
    first = (fasta, "--out", tmp_path / "a", "--backbone", backbone, "--lr", "1e-9")
    assert call("pretrain", *first, *common) == 0
    start, end = mt.load(backbone).model, mt.load(tmp_path / "a").model
    for name, _ in start.parameters():
        np.testing.assert_allclose(
            start.get_parameter(name), end.get_parameter(name), rtol=0.01, atol=1e-6
        )
    second = (fasta, "--out", tmp_path / "b", "--config", backbone / "config.json")
    assert call("pretrain", *second, *common) == 0
    assert mt.load(tmp_path / "b").config["layers"] == 2
    document = json.loads((tmp_path / "b" / "config.json").read_text())
    assert document["dtype"] == "bfloat16"
    assert document["architectures"] == ["EsmForMaskedLM"]


def test_dry_run_shows_the_plan_and_writes_nothing(
    fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "run"
    options = ("pretrain", fasta, "--out", out, *SMALL, "--epochs", 2.5, "--dry-run", "--json")
    assert call(*options) == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)["plan"]
    residues = sum(map(len, proteins(80)))
    assert plan["steps"] == round(2.5 * plan["steps_an_epoch"])
    assert residues < plan["steps_an_epoch"] * 256 < 1.35 * residues
    assert plan["tokens"] == 256 * plan["steps"]
    encoder = random_init.random_encoder(random_init.esm2_config(1, 16, 2))
    sizes = {name: int(np.prod(shape)) for name, shape in encoder.model.parameters()}
    contact = sum(size for name, size in sizes.items() if name.startswith("contact."))
    assert plan["parameters"] == sum(sizes.values()) - contact
    assert plan["flops"] > 6 * 3000 * plan["tokens"]
    for part in ("memory of a step", "floating-point operations", "of training", "held out"):
        assert part in captured.err
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("built", [False, True])
def test_dry_run_writes_into_no_run_and_no_cache(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise RuntimeError("stopped here")

    out, cache = tmp_path / "run", tmp_path / "cache"
    valid = write_fasta(tmp_path / "valid.fasta", proteins(9, seed=3))
    if built:
        # Runs that ended before their clusters were found: a dry run has to find them itself.
        with monkeypatch.context() as patched:
            patched.setattr("moltide.pretraining.run.split_parts", stop)
            for kept in (None, cache):
                with pytest.raises(RuntimeError, match="stopped here"):
                    pretrain(options_of(fasta, out, cache=kept))
        assert len(list(tmp_path.rglob("letters"))) == 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for changes in (
        {},
        {"cache": cache},
        {"longest": 50, "overwrite": True},
        {"valid": valid, "overwrite": True, "cache": cache},
    ):
        summary = pretrain(options_of(fasta, out, dry_run=True, **changes))
        assert summary.state == "dry run"
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_max_minutes_plans_fewer_steps(fasta: Path, tmp_path: Path) -> None:
    options = options_of(fasta, tmp_path / "run", steps=10**7, max_minutes=0.05)
    summary = pretrain(options)
    assert summary.plan["why"] == "time"
    assert 20 <= summary.metrics["steps"] < 10**6


def test_bad_records_are_listed_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_fasta(tmp_path / "a.fasta", [*proteins(40), "MKT1AYIAKQRQISFVK"])
    out = tmp_path / "run"
    assert call("pretrain", path, "--out", out, *SMALL, *SHORT) == 0
    assert "records left out: 1 (a.fasta record 41: '1' at position 4" in capsys.readouterr().out
    assert (out / "skipped.csv").read_text().splitlines()[1].startswith("a.fasta,41,s41,")
    valid = write_fasta(tmp_path / "v.fasta", ["MKTAYI", *proteins(9, seed=1)])
    both = ("--valid", valid, "--overwrite")
    assert call("pretrain", path, "--out", out, *SMALL, *SHORT, *both) == 0
    assert (out / "skipped.csv").read_text().splitlines() == [
        "file,row,name,reason",
        "a.fasta,41,s41,'1' at position 4 is no residue",
        'v.fasta,1,s1,"6 residues, fewer than 16 (--shortest)"',
    ]
    refused = ("pretrain", path, "--out", tmp_path / "b", *SMALL, "--on-bad-row", "error")
    assert "record 41 (s41): '1' at position 4" in one_error(capsys, *refused)


# ---- TensorBoard ------------------------------------------------------------------------------


def test_events_go_to_tensorboard_or_the_error_says_what_to_install(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        pretrain(options_of(fasta, tmp_path / "a", tensorboard=True))
    assert not (tmp_path / "a").exists()
    written: list[tuple[str, str, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert np.isfinite(value)
            written.append((Path(self.folder).name, name, step))

        def close(self) -> None:
            pass

    stand_in = ModuleType("tensorboard.summary")
    vars(stand_in).update(vars(SimpleNamespace(Writer=Writer)))
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", stand_in)
    pretrain(options_of(fasta, tmp_path / "a", tensorboard=True))
    assert ("tensorboard", "train/loss", 10) in written
    assert ("tensorboard", "valid/perplexity", 20) in written


def test_events_are_closed_when_a_run_is_interrupted(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, name: str, value: float, step: int) -> None:
            if name == "train/loss":
                signal.raise_signal(signal.SIGTERM)

        def close(self) -> None:
            closed.append(Path(self.folder).name)

    monkeypatch.setattr("moltide.pretraining.events._writer_class", lambda: Writer)
    with pytest.raises(Interrupted):
        pretrain(options_of(fasta, tmp_path / "run", tensorboard=True))
    assert closed == ["tensorboard"]


def test_events_of_the_real_library_are_read_back(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from moltide.pretraining.events import Events

    events = Events(tmp_path)
    for step in range(3):
        events.scalar("train/loss", step / 2, step)
    events.close()
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    found = [(row.step, list(row.tensor_proto.float_val)) for row in read.Tensors("train/loss")]
    assert found == [(0, [0.0]), (1, [0.5]), (2, [1.0])]


# ---- refusals ---------------------------------------------------------------------------------

REFUSED = [
    ((), "which model? --layers, --width and --heads of a new one"),
    (("--layers", 2, "--width", 16), "which model?"),
    ((*SHAPE, "--backbone", "protein-mini"), "the model comes from one place"),
    (("--layers", 1, "--width", 16, "--heads", 3), "--heads is 3; allowed: a divisor of --width"),
    (("--layers", 1, "--width", 6, "--heads", 2), "the model cannot be made: "),
    (("--backbone", "nothing-here/"), "no model 'nothing-here/'"),
    (("--config", "nothing.json"), "no such config.json: nothing.json"),
    ((*SHAPE, "--batch-tokens", 100), "--batch-tokens is 100; a sequence of 1022 residues"),
    ((*SHAPE, "--cluster-weight", 0), "--cluster-weight needs clusters"),
    ((*SHAPE, "--cluster", "family"), "is FASTA and has no column 'family'"),
    ((*SHAPE, "--mask-rate", 0), "--mask-rate is 0.0; allowed: a number above 0, at most 1"),
    ((*SHAPE, "--mask-token", 0.9, "--mask-random", 0.2), "add up to more than 1"),
    ((*SHAPE, "--holdout", 0.7), "holdout is 0.7; allowed: a number above 0, at most 0.5"),
    ((*SHAPE, "--lr", 0), "lr is 0.0; allowed: a number above 0"),
    ((*SHAPE, "--steps", 0), "steps is 0; allowed: an integer of 1 or more"),
    ((*SHAPE, "--shortest", 50, "--longest", 40), "--longest is 40, below --shortest (50)"),
    ((*SHAPE, "--shortest", 500), "no sequence to use; 80 records left out"),
    ((*SHAPE, "--valid", "nothing.fasta"), "no such file: nothing.fasta"),
    ((*SHAPE, "--device", "cuda"), "no CUDA"),
    ((*SHAPE, "--schedule", "wavy"), "'wavy' is not one of"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    fasta: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[Any, ...],
    message: str,
) -> None:
    said = one_error(capsys, "pretrain", fasta, "--out", tmp_path / "run", *options)
    assert message in said
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_begin_leaves_room_for_the_corrected_command(
    fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_fasta(tmp_path / "bad.fasta", ["MKT1AYIAKQR", "MKT"])
    run = (*SMALL, "--steps", 2)
    for out, there in ((tmp_path / "new", False), (tmp_path / "empty", True)):
        if there:
            out.mkdir()
        assert "no sequence to use" in one_error(capsys, "pretrain", bad, "--out", out, *run)
        assert out.exists() == there
        assert call("pretrain", fasta, "--out", out, *run) == 0


def test_folders_that_hold_something_else_are_refused(
    fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = tiny_backbone(tmp_path / "tiny")
    before = sorted(path.read_bytes() for path in backbone.iterdir())
    same = ("pretrain", fasta, "--out", backbone, "--backbone", backbone)
    assert "is the --backbone; write to another folder" in one_error(capsys, *same)
    said = one_error(capsys, "pretrain", fasta, "--out", backbone, *SMALL)
    assert "holds no run" in said
    assert sorted(path.read_bytes() for path in backbone.iterdir()) == before


def test_the_verdict_says_when_a_baseline_is_better() -> None:
    def of(model: float) -> str:
        baselines = {"unigram": {"perplexity": 18.0}, "kmer": {"perplexity": 17.0}}
        return verdict({"kind": "protein", "model": {"perplexity": model}, "baselines": baselines})

    assert "better than residue frequencies 18.00, k-mer model" in of(16.5)
    assert "not better than all of" in of(17.5)
    assert "no better than" in of(18.5)


def test_a_single_file_is_not_a_list_of_files(fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train is a list"):
        pretrain(PretrainOptions(train=str(fasta), out=tmp_path, layers=1, width=16, heads=2))
    with pytest.raises(DataError, match="is a folder"):
        pretrain(options_of(tmp_path, tmp_path / "run"))


def test_the_recipe_of_protein_mini_runs(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Path(__file__).parents[2] / "examples" / "pretrain_protein_mini.py"
    valid = write_fasta(tmp_path / "valid.fasta", proteins(5, seed=4))
    files = ["--train", fasta, "--valid", valid, "--out", tmp_path / "run", "--steps", 2]
    monkeypatch.setattr(sys, "argv", [str(recipe), *map(str, files)])
    runpy.run_path(str(recipe), run_name="__main__")
    bundled = mt.load("protein-mini").config
    made = mt.load(tmp_path / "run").config
    for name in ("layers", "width", "heads", "ffn_width"):
        assert made[name] == bundled[name], name


def test_the_recipe_of_molecule_mini_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Path(__file__).parents[2] / "examples" / "pretrain_molecule_mini.py"
    molecules = Path(__file__).parents[1] / "data" / "molecules"
    files = ["--train", molecules / "esol_200.csv", "--valid", molecules / "bbbp_200.csv"]
    options = ["--out", tmp_path / "run", "--steps", 1]
    monkeypatch.setattr(sys, "argv", [str(recipe), *map(str, [*files, *options])])
    runpy.run_path(str(recipe), run_name="__main__")
    bundled, made = mt.load("molecule-mini"), mt.load(tmp_path / "run")
    for name in ("layers", "width", "heads", "ffn_width", "vocab"):
        assert made.config[name] == bundled.config[name], name
    assert made.tokenizer == bundled.tokenizer


def test_too_few_residues_to_validate_on_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", ["MKTAYIAKQRQISFVKA", "X" * 20])
    valid = write_fasta(tmp_path / "v.fasta", ["X" * 20])
    said = one_error(capsys, "pretrain", fasta, "--valid", valid, "--out", tmp_path / "run", *SMALL)
    assert "20 residues to validate on are too few" in said


@pytest.mark.parametrize("old", ["finished", "interrupted"])
def test_a_run_stays_where_the_one_to_replace_it_cannot_start(
    old: str, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first = tmp_path / "run", options_of(fasta, tmp_path / "run", steps=4)

    def stop(_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    if old == "interrupted":
        monkeypatch.setattr("moltide.pretraining.stages.Stages._final", stop)
        with pytest.raises(Interrupted):
            pretrain(first)
        monkeypatch.undo()
    else:
        pretrain(first)
    before = contents(out)
    bad = write_fasta(tmp_path / "bad.fasta", ["M1K" * 10, "M2K" * 10])
    with pytest.raises(DataError):
        pretrain(options_of(bad, out, overwrite=True))
    assert contents(out) == before
    # Sound data of a run that cannot start for another reason.
    monkeypatch.setattr("moltide.pretraining.run.step_memory", out_of_memory)
    with pytest.raises(MemoryPlanError):
        pretrain(options_of(fasta, out, overwrite=True, seed=1))
    monkeypatch.undo()
    assert contents(out) == before
    assert pretrain(first).state == ("already finished" if old == "finished" else "finished")
    again = pretrain(options_of(fasta, out, overwrite=True, steps=4, seed=1))
    assert again.state == "finished"
    assert json.loads((out / "training.json").read_text())["identity"]["seed"] == 1
    assert not (out / "checkpoint").exists()


def out_of_memory(*_: object) -> None:
    raise MemoryPlanError("a training step needs more")
