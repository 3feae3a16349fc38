"""A run that is killed or interrupted ends with the same bits as one that is left alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import moltide, tiny_encoder, variants, wait_for_log

from moltide.array_file import read_arrays
from moltide.assay_model import ModelSpec, Rows, fit_assay_model
from moltide.errors import CheckpointError
from moltide.training import (
    CheckpointFile,
    Interrupted,
    StopRequest,
    TrainSettings,
    catch_signals,
)

SPEC = ModelSpec("regression", "sequence", ("y",))


class StopAfter(StopRequest):
    """Asks to stop at the n-th question."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def __bool__(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.signum = signal.SIGTERM
        return self.signum is not None


def train(settings: TrainSettings, **options: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(weights, predictions) of a small run."""
    sequences, values = variants(60)
    rows = Rows(sequences, values[:, None])
    encoder = tiny_encoder()
    train_rows, valid = rows.take(range(45)), rows.take(range(45, 60))
    model, _ = fit_assay_model(encoder, train_rows, valid, SPEC, settings, **options)
    weights = {name: encoder.model.get_parameter(name) for name, _ in encoder.model.parameters()}
    return weights, np.asarray(model.outputs(sequences))


@pytest.mark.parametrize(
    "settings",
    [
        TrainSettings(epochs=4, batch_size=8, dropout=0.2, head_dropout=0.1),
        TrainSettings(epochs=5, batch_size=16, adapter="full", max_tokens=64),
    ],
)
def test_stopping_again_and_again_changes_no_bit(settings: TrainSettings, tmp_path: Path) -> None:
    weights, predictions = train(settings)
    checkpoint = CheckpointFile(tmp_path / "train.safetensors")
    stops = 0
    for steps in (1, 2, 5, 3, 100):
        with contextlib.suppress(Interrupted):
            found = train(settings, checkpoint=checkpoint, stop=StopAfter(steps))
            break
        stops += 1
    assert stops == 4
    assert found[0].keys() == weights.keys()
    for name, values in weights.items():
        assert np.array_equal(values, found[0][name]), name
    assert np.array_equal(predictions, found[1])


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint = CheckpointFile(tmp_path / "train.safetensors")
    settings = TrainSettings(epochs=3)
    with pytest.raises(Interrupted):
        train(settings, checkpoint=checkpoint, fingerprint="one", stop=StopAfter(2))
    with pytest.raises(CheckpointError, match="another run"):
        train(settings, checkpoint=checkpoint, fingerprint="two")


def test_the_progress_of_a_checkpoint_is_read_without_its_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = CheckpointFile(tmp_path / "train.safetensors")
    assert checkpoint.progress() is None
    checkpoint.save({"w": np.ones(3)}, {"plan": {"steps": 4}})
    assert checkpoint.load() == ({"w": pytest.approx(np.ones(3))}, {"plan": {"steps": 4}})
    monkeypatch.setattr("moltide.training.checkpoint.read_arrays", None)
    assert checkpoint.progress() == {"plan": {"steps": 4}}
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=str(checkpoint.path)):
        checkpoint.progress()


def test_a_damaged_checkpoint_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    with pytest.raises(Interrupted):
        train(TrainSettings(epochs=3), checkpoint=CheckpointFile(path), stop=StopAfter(2))
    whole = path.read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=str(path)):
            train(TrainSettings(epochs=3), checkpoint=CheckpointFile(path))


def test_the_first_signal_asks_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def twice() -> None:
        with catch_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signum == signal.SIGINT
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="SIGTERM"):
        twice()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_comes_after_the_last_step_is_not_lost() -> None:
    def once() -> None:
        with catch_signals():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="SIGINT"):
        once()


# ---- the command, in a process of its own -----------------------------------------------------

SETTINGS = ("--epochs", 80, "--patience", 80, "--batch-size", 8, "--split", "random")


def command(table: Path, backbone: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "moltide", "finetune", str(table)),
        *("--backbone", str(backbone), "--out", str(out)),
        *map(str, SETTINGS),
    ]


def results(out: Path) -> dict[str, Any]:
    """Everything that must not depend on interruptions."""
    found: dict[str, Any] = {}
    for name in ("adapter_model.safetensors", "head.safetensors"):
        found[name] = (out / name).read_bytes()
    for name in ("predictions.csv", "metrics.json", "split.csv"):
        found[name] = (out / name).read_text()
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found["log"] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    config = json.loads((out / "config.json").read_text())
    found["curve"], found["identity"] = config["learning_curve"], config["identity"]
    return found


@pytest.fixture(scope="module")
def undisturbed(
    table: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, dict[str, Any]]:
    """(table, backbone, results) of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(command(table, backbone, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return table, backbone, results(out)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    table, backbone, expected = undisturbed
    out = tmp_path / "run"
    rng = np.random.default_rng()
    environment = {**os.environ, "MOLTIDE_CHECKPOINT_SECONDS": "0.05"}
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(
            command(table, backbone, out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        # From before the first step to after the last one: reading, training, curve, writing.
        wait_for_log(out, process, int(rng.integers(0, 1500)))
        time.sleep(float(rng.uniform(0, 0.2)))
        process.kill()
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    done = subprocess.run(command(table, backbone, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert kills
    found = results(out)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value, name
    left = {path.name for path in out.iterdir()}
    assert "checkpoint" not in left
    assert not [name for name in left if name.startswith(".")]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(
    undisturbed: tuple[Path, Path, dict[str, Any]],
    tmp_path: Path,
    signum: signal.Signals,
    code: int,
) -> None:
    table, backbone, expected = undisturbed
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(table, backbone, out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 2 " in line:
            break
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "moltide finetune" in errors
    assert str(out) in errors
    assert "Traceback" not in errors
    arrays, _ = read_arrays(out / "checkpoint" / "train.safetensors")
    assert any(name.startswith("trainer.m.") for name in arrays)
    done = subprocess.run(command(table, backbone, out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    assert results(out)["adapter_model.safetensors"] == expected["adapter_model.safetensors"]
    assert results(out)["predictions.csv"] == expected["predictions.csv"]


def test_other_settings_or_data_do_not_resume(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    table, backbone, _ = undisturbed
    run = tmp_path / "run"
    options = ("--backbone", backbone, "--out", run, "--epochs", 1, "--split", "random")
    assert moltide("finetune", table, *options).returncode == 0
    again = moltide("finetune", table, *options, "--seed", 5)
    assert again.returncode == 2
    assert "--seed 0 -> 5" in again.stderr
    assert "--overwrite" in again.stderr
    changed = tmp_path / "assay.csv"
    lines = table.read_text().splitlines()
    changed.write_text("\n".join([*lines[:-1], lines[-1].split(",")[0] + ",7.5"]) + "\n")
    other = moltide("finetune", changed, *options)
    assert other.returncode == 2
    assert "other rows or values" in other.stderr
    same = moltide("finetune", table, *options)
    assert same.returncode == 0
    assert "nothing to do" in same.stdout
    fresh = moltide("finetune", table, *options, "--seed", 5, "--overwrite")
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads((run / "config.json").read_text())["settings"]["seed"] == 5
