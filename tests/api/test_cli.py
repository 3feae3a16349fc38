"""The command: `finetune`, `predict`, `info`, help, and errors of one line with exit code 2."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import FAST, NEW, call, one_error
from tiny_runs import (
    PARENT,
    moltide,
    read_table,
    tiny_encoder,
    variants,
    write_table,
)

from moltide import load_assay_model
from moltide.cli.voice import TerminalVoice

# ---- finetune ---------------------------------------------------------------------------------


def test_finetune_says_what_it_does(
    table: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert call("finetune", table, "--backbone", backbone, "--out", out, *FAST) == 0
    said = capsys.readouterr().out
    for part in ("data", "120 read = 120 used", "split by random", "LoRA of rank 8", "memory of a"):
        assert part in said
    for part in ("ridge on one-hot: test Spearman", "epoch 1 | step 3/3", "residues/s", "left"):
        assert part in said
    assert json.loads((out / "metrics.json").read_text())["verdict"] in said
    assert "moltide predict" in said


def test_several_targets_end_with_a_verdict_over_all_and_each(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[text, value, -value] for text, value in zip(*variants(200), strict=True)]
    table = write_table(tmp_path / "assay.csv", ["sequence", "Km", "Tm"], rows)
    out = tmp_path / "run"
    again = ("finetune", table, "--target", "Km,Tm", "--backbone", backbone, "--out", out, *FAST)
    assert call(*again) == 0
    said = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert " of 2 targets" in metrics["verdict"]
    each = [f"  {name}: {metrics['endpoints'][name]['verdict']}" for name in ("Km", "Tm")]
    end = "\n".join(["", metrics["verdict"], *each, ""])
    assert end in said
    assert call(*again) == 0
    repeated = capsys.readouterr().out
    assert "nothing to do" in repeated
    assert end in repeated

    page = (out / "report.html").read_text()
    found = [page.index(one["verdict"][:40]) for one in (metrics, metrics["endpoints"]["Km"])]
    assert page.index('id="verdict"') < found[0] < found[1] < page.index('id="panel"')


def test_finetune_json_is_one_line(
    table: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert call("finetune", table, "--backbone", backbone, "--out", out, *FAST, "--json") == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    line = json.loads(captured.out)
    assert line["state"] == "finished"
    assert line["model"] == json.loads((out / "metrics.json").read_text())["model"]
    assert "training" in captured.err


def test_dry_run_shows_memory_and_time_and_writes_nothing(
    table: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "run"
    assert call("finetune", table, "--backbone", backbone, "--out", out, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "split by" in said
    assert "memory of a step" in said
    assert "of training, if it does not end early" in said
    assert not (tmp_path / "deep").exists()


def test_options_reach_the_run(table: Path, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--adapter", "full", "--lr", "1e-3", "--batch-size", 16, "--loss", "huber")
    more = ("--seed", 7, "--dtype", "bf16", "--recompute", "--max-tokens", 512, "--patience", 9)
    assert (
        call("finetune", table, "--backbone", backbone, "--out", out, *FAST, *options, *more) == 0
    )
    config = json.loads((out / "config.json").read_text())
    wanted = {
        "adapter": "full",
        "lr": 1e-3,
        "batch_size": 16,
        "loss": "huber",
        "seed": 7,
        "recompute": True,
        "max_tokens": 512,
        "patience": 9,
    }
    assert {name: config["settings"][name] for name in wanted} == wanted
    assert config["model"]["backbone"]["dtype"] == "bf16"


def test_bad_input_is_one_line(
    table: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: Any, text: str | None = None) -> str:
        source: Any = table
        if text is not None:
            source = tmp_path / "bad.csv"
            source.write_text(text)
        out = tmp_path / "run"
        found = one_error(
            capsys, "finetune", source, "--backbone", backbone, "--out", out, *arguments
        )
        assert not out.exists()
        return found

    rows = [f"{text},{i * i / 7:.3f}" for i, text in enumerate(variants(30)[0])]
    plain = "sequence,y\n" + "\n".join(rows) + "\n"
    assert "empty" in error(text="")
    assert "binary" in error(text="a\x00b\n")
    assert "bad.csv" in error(text="sequence,y\n")
    assert "bad.csv" in error(text="sequence,name\n" + plain.replace(",", ",n")[12:])
    same = "\n".join(row.split(",")[0] + ",1.5" for row in rows)
    assert "never varies" in error(text=f"sequence,y\n{same}\n")
    assert "1.5" in error("--target", "y", text=f"sequence,y\n{same}\n")
    wrong = plain.replace(rows[4], "MKT1AYIAK,4")
    illegal = error("--sequence", "sequence", text=wrong)
    assert "row 6" in illegal
    assert "'1'" in illegal
    mutations = "\n".join(f"{PARENT[i]}{i + 1}W,{i}" for i in range(20))
    against = f"variant,y\n{mutations}\nA1W,3\n"
    wrong = error("--wildtype", PARENT, text=against)
    assert "row 22" in wrong
    assert "A1W" in wrong
    assert "no such file" in one_error(capsys, "finetune", tmp_path / "no.csv", "--out", "x")
    assert "colour" in error("--target", "colour")
    assert "rank is 0" in error("--rank", 0)
    assert "--numbering" in error("--numbering", "one")
    assert "no CUDA" in error("--device", "cuda")
    assert "no model" in one_error(
        capsys, "finetune", table, "--backbone", tmp_path / "none", "--out", tmp_path / "run"
    )


def test_weights_that_are_not_finite_leave_nothing_behind(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = tiny_encoder()
    name = "layers.1.mlp.up.weight"
    weights = np.array(encoder.model.get_parameter(name))
    weights[0, 0] = np.inf
    encoder.model.set_parameter(name, weights)
    encoder.save(tmp_path / "broken")
    for command in ("finetune", table, "--out"), ("embed", table, "-o"):
        out = tmp_path / "out.npy"
        found = one_error(capsys, *command, out, "--backbone", tmp_path / "broken")
        assert "model.safetensors: tensor " in found
        assert "1 NaN or infinite" in found
        assert not out.exists()


def test_usage_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ASSAY" in one_error(capsys, "finetune")
    assert "--nope" in one_error(capsys, "info", "--nope")
    assert "bake" in one_error(capsys, "bake")
    assert "median" in one_error(capsys, "embed", "a.fasta", "-o", "b.npy", "--pool", "median")
    assert "--help" in one_error(capsys, "score", "a.csv")


def test_a_folder_that_cannot_be_written(
    table: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    options = ("--backbone", backbone, *FAST)
    found = one_error(capsys, "finetune", table, "--out", tmp_path / "file", *options)
    assert "file" in found
    assert (tmp_path / "file").read_text() == "x"
    found = one_error(capsys, "finetune", table, "--out", "/proc/run", *options)
    assert "/proc/run" in found
    rows = tmp_path / "rows.csv"
    rows.write_text("sequence\nMKTVRQERL\n")
    assert "/proc/x.npy" in one_error(capsys, "embed", rows, "-o", "/proc/x.npy")


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_a_full_disk_is_one_line_and_leaves_no_part(
    table: Path, backbone: Path, tmp_path: Path, limit: int
) -> None:
    """Every file is limited in size, as on a disk that fills up."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "moltide", "finetune", table, "--backbone", backbone]
    done = subprocess.run(
        [*map(str, command), "--out", str(out), *map(str, FAST)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: file too large")
    assert str(out) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (out / "config.json").exists()
    assert not [path.name for path in out.rglob(".*")]
    # With room, the same command finishes.
    assert call("finetune", table, "--backbone", backbone, "--out", out, *FAST) == 0
    assert load_assay_model(out).predict(NEW).shape == (3,)


@pytest.mark.parametrize(
    ("command", "written"),
    [
        (("embed", "-o", "out.npy"), "out.npy"),
        (("embed", "-o", "out.parquet"), "out.parquet"),
        (("pretrain", "--out", "run"), "run/checkpoint/corpus/corpus-"),
    ],
)
def test_no_room_names_the_file(
    backbone: Path, tmp_path: Path, command: tuple[str, ...], written: str
) -> None:
    rows = "".join(f">{i}\n{text}\n" for i, text in enumerate(variants(300)[0]))
    (tmp_path / "rows.fasta").write_text(rows)
    done = subprocess.run(
        [sys.executable, "-m", "moltide", *command, "rows.fasta", "--backbone", str(backbone)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: file too large for the limit set here: {written}")
    assert not list(tmp_path.glob("out*"))


def test_a_disk_without_space_is_said_to_be_full(capsys: pytest.CaptureFixture[str]) -> None:
    from moltide.cli.errors import explain

    assert explain(OSError(errno.ENOSPC, "No space left on device", "RUN/a"), [], False) == 2
    assert capsys.readouterr().err.startswith("error: disk full: RUN/a")


def test_faults_of_our_own_say_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from moltide.cli import info

    def broken() -> None:
        raise KeyError("nothing")

    monkeypatch.setattr(info, "facts", broken)
    assert call("info") == 1
    assert "internal error: KeyError" in capsys.readouterr().err
    assert call("info", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


# ---- predict ----------------------------------------------------------------------------------


def test_predict_keeps_columns_and_ranks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[f"v{i}", text, f"note, {i}"] for i, text in enumerate(NEW)]
    new = write_table(tmp_path / "new.csv", ["name", "sequence", "remark"], rows)
    out = tmp_path / "out.csv"
    assert call("predict", run, new, "-o", out, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["rows"], line["predicted"], line["skipped"]) == (3, 3, 0)
    found = read_table(out)
    assert [[one["name"], one["sequence"], one["remark"]] for one in found] == rows
    expected, std = load_assay_model(run).predict(NEW, return_std=True)
    np.testing.assert_allclose([float(one["predicted"]) for one in found], expected, rtol=1e-5)
    np.testing.assert_allclose([float(one["std"]) for one in found], std, rtol=1e-5)
    order = np.argsort(-expected)
    assert [int(found[i]["rank"]) for i in order] == [1, 2, 3]
    assert {one["in_domain"] for one in found} <= {"yes", "no"}

    assert call("predict", run, new, "-o", out, "--sort", "--ascending") == 0
    assert [one["rank"] for one in read_table(out)] == ["1", "2", "3"]
    assert [one["name"] for one in read_table(out)] == [f"v{i}" for i in order[::-1]]
    again = tmp_path / "again.csv"
    assert call("predict", run, out, "-o", again, "--sequence", "sequence") == 0
    assert "predicted_2" in read_table(again)[0]


def test_predict_reads_fasta_and_mutations_and_writes_elsewhere(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = tmp_path / "new.fasta"
    fasta.write_text("".join(f">s{i}\n{text}\n" for i, text in enumerate(NEW)))
    assert call("predict", run, fasta, "-o", "-", "--no-uncertainty") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "id,sequence,predicted,std,low90,high90,rank,in_domain,domain_note"
    assert said[1].startswith(f"s0,{NEW[0]},")
    assert ",,,," in said[1]
    mutants = write_table(tmp_path / "m.csv", ["mutant"], [["M1A"], ["WT"], ["Q22W"]])
    out = tmp_path / "out.parquet"
    assert call("predict", run, mutants, "-o", out, "--wildtype", PARENT) == 0
    import pandas as pd

    table = pd.read_parquet(out)
    assert table["mutant"].tolist() == ["M1A", "WT", "Q22W"]
    plain = [float(row.split(",")[2]) for row in said[1:]]
    np.testing.assert_allclose(table["predicted"].astype(float), plain, rtol=1e-5)


def test_predict_refuses_or_sets_aside_bad_rows(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_table(
        tmp_path / "new.csv", ["sequence", "n"], [[NEW[0], 1], ["MK1", 2], ["", 3], [NEW[1], 4]]
    )
    out = tmp_path / "out.csv"
    out.write_text("before")
    options = ("--sequence", "sequence", "-o", out)
    assert "row 3" in one_error(capsys, "predict", run, new, *options)
    assert out.read_text() == "before"
    assert call("predict", run, new, *options, "--on-bad-row", "set_aside") == 0
    found = read_table(out)
    assert [one["n"] for one in found] == ["1", "2", "3", "4"]
    assert [bool(one["predicted"]) for one in found] == [True, False, False, True]
    assert "'1' at position 3" in found[1]["domain_note"]


def test_predict_refuses_what_is_no_run(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert "no such folder" in one_error(capsys, "predict", tmp_path / "no", table, "-o", out)
    assert "no config.json" in one_error(capsys, "predict", tmp_path, table, "-o", out)
    found = one_error(capsys, "predict", tmp_path, table, "-o", tmp_path / "out.doc")
    assert ".parquet" in found
    found = one_error(capsys, "predict", tmp_path, table, "-o", tmp_path / "no" / "out.csv")
    assert "no folder" in found
    assert not out.exists()


# ---- info -------------------------------------------------------------------------------------


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["threads"] >= 1
    assert facts["instruction_set"] in facts["instruction_sets"]
    assert facts["libraries"]["numpy"]
    assert facts["memory_available_bytes"] > 0
    assert call("info") == 0
    assert "processor" in capsys.readouterr().out


# ---- the process ------------------------------------------------------------------------------


def test_help_and_version_are_quick_and_light() -> None:
    for arguments in (["--help"], ["finetune", "--help"], ["--version"]):
        assert moltide(*arguments).returncode == 0
    code = (
        "import sys; from moltide.cli import main; main(['finetune', '--help']); "
        "heavy = {'numpy', 'pandas', 'sklearn', 'matplotlib', 'moltide._engine'}; "
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Examples" in done.stdout


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "finetune" in capsys.readouterr().out


def test_lines_reach_a_pipe_as_they_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    with io.TextIOWrapper(pipe, encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        TerminalVoice().section("data", ["120 sequences"])
        assert pipe.getvalue().decode() == "data\n  120 sequences\n"


def test_a_closed_pipe_is_no_error(run: Path, tmp_path: Path) -> None:
    new = write_table(tmp_path / "new.csv", ["sequence"], [[PARENT]] * 3000)
    command = f"{sys.executable} -m moltide predict {run} {new} -o - --no-uncertainty | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.stdout.startswith("sequence,predicted")
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr


def test_a_stop_while_modules_are_imported_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            if name == "moltide.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "moltide.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting, *sys.meta_path])
    assert call("info") == 130
    assert capsys.readouterr().err.strip() == "stopped"
