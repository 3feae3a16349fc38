"""A pretraining run that is killed or interrupted ends with the bits of one left alone."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call, one_error
from pretraining_files import SMALL, proteins, write_fasta
from tiny_runs import wait_for_log

from moltide.pretraining.loop import Progress

STEPS = ("--steps", 240, "--valid-every", 30, "--save-every", 7)


def arguments(fasta: Path, out: Path) -> list[str]:
    return [str(one) for one in ("pretrain", fasta, "--out", out, *SMALL, *STEPS)]


def command(fasta: Path, out: Path) -> list[str]:
    return [sys.executable, "-u", "-m", "moltide", *arguments(fasta, out)]


def results(out: Path) -> dict[str, Any]:
    """Everything that must not depend on interruptions."""
    found: dict[str, Any] = {
        name: (out / name).read_bytes()
        for name in ("model.safetensors", "config.json", "metrics.json", "holdout.csv", "README.md")
    }
    timed = ("seconds", "residues_per_second")
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found["log"] = [{k: v for k, v in row.items() if k not in timed} for row in rows]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(file, results) of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    fasta = write_fasta(folder / "corpus.fasta", proteins(120))
    assert call(*arguments(fasta, folder / "run")) == 0
    return fasta, results(folder / "run")


def test_a_killed_run_goes_on_to_the_same_bits(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    fasta, expected = undisturbed
    out = tmp_path / "run"
    rng = np.random.default_rng()
    kills = 0
    for rows in (0, 2, 8, 16):
        process = subprocess.Popen(
            command(fasta, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        wait_for_log(out, process, rows)
        time.sleep(float(rng.uniform(0, 0.05)))
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
        kills += process.returncode != 0
    assert call(*arguments(fasta, out)) == 0
    assert kills
    found = results(out)
    for name, value in expected.items():
        assert found[name] == value, name
    left = {path.name for path in out.iterdir()}
    assert "checkpoint" not in left
    assert not [name for name in left if name.startswith(".")]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    fasta, expected = undisturbed
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(fasta, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "step 60/" in line:
            break
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"moltide pretrain {fasta}" in errors
    assert "Traceback" not in errors
    assert call(*arguments(fasta, out)) == 0
    assert results(out)["model.safetensors"] == expected["model.safetensors"]
    assert results(out)["log"] == expected["log"]


def test_the_last_weights_resume_too(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    fasta, _ = undisturbed
    outs = []
    for rows in (None, 12):
        out = tmp_path / f"run-{rows}"
        last = [*arguments(fasta, out), "--keep", "last", "--schedule", "constant"]
        if rows is not None:
            process = subprocess.Popen(
                [sys.executable, "-m", "moltide", *last], stdout=subprocess.DEVNULL, text=True
            )
            wait_for_log(out, process, rows)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert call(*last) == 0
        outs.append((out / "model.safetensors").read_bytes())
    assert outs[0] == outs[1]


def test_a_checkpoint_may_hold_more_than_is_read() -> None:
    state = Progress(step=7, history=[{"step": 5}])
    assert Progress.from_dict({**dataclasses.asdict(state), "row_tokens": 3}) == state


def test_other_settings_or_data_do_not_resume(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta, _ = undisturbed
    out = tmp_path / "run"
    assert call("pretrain", fasta, "--out", out, *SMALL, "--steps", 3) == 0
    said = one_error(capsys, "pretrain", fasta, "--out", out, *SMALL, "--steps", 4)
    assert "--steps 3 -> 4" in said
    assert "--overwrite" in said
    said = one_error(capsys, "pretrain", fasta, "--out", out, *SMALL, "--steps", 3, "--seed", 9)
    assert "--seed 0 -> 9. Use the same" in said
    wider = (*SMALL, "--steps", 3, "--width", 32)
    said = one_error(capsys, "pretrain", fasta, "--out", out, *wider)
    assert "--width 16 -> 32. Use the same" in said
    other = write_fasta(tmp_path / "other.fasta", proteins(50, seed=1))
    said = one_error(capsys, "pretrain", other, "--out", out, *SMALL, "--steps", 3)
    assert "other rows or values" in said
    assert call("pretrain", fasta, "--out", out, *SMALL, "--steps", 3) == 0
    assert "nothing to do" in capsys.readouterr().out
    again = ("pretrain", fasta, "--out", out, *SMALL, "--steps", 4, "--overwrite")
    assert call(*again) == 0
    assert json.loads((out / "metrics.json").read_text())["steps"] == 4
