"""`moltide embed`: arrays and tables out, bad records, long sequences, adapters of runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command import NEW, call, one_error
from tiny_runs import (
    PARENT,
    write_table,
)

from moltide import load, load_assay_model
from moltide.cli.voice import TerminalVoice


def test_embed(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    fasta = tmp_path / "in.fasta"
    fasta.write_text("".join(f">s{i}\n{text}\n" for i, text in enumerate(NEW)))
    out = tmp_path / "out.npy"
    assert call("embed", fasta, "-o", out, "--backbone", backbone, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["sequences"], line["width"]) == (3, 16)
    encoder = load(backbone)
    assert np.array_equal(np.load(out), encoder.embed(NEW))
    table = write_table(tmp_path / "in.csv", ["sequence", "id"], [[t, t[:3]] for t in NEW])
    flat = tmp_path / "out.parquet"
    assert call("embed", table, "-o", flat, "--backbone", backbone, "--pool", "cls") == 0
    found = pd.read_parquet(flat)
    assert found["id"].tolist() == [text[:3] for text in NEW]
    assert np.array_equal(np.stack(found["embedding"].to_list()), encoder.embed(NEW, "cls"))
    assert call("embed", table, "-o", flat, "--backbone", backbone, "--pool", "none") == 0
    residues = pd.read_parquet(flat)["embedding"][0]
    assert np.array_equal(np.stack(list(residues)), encoder.embed(NEW[:1], None)[0])
    assert ".parquet" in one_error(
        capsys, "embed", table, "-o", out, "--backbone", backbone, "--pool", "none"
    )
    assert "neither" in one_error(capsys, "embed", table, "-o", tmp_path / "out.txt")


def test_embed_leaves_out_bad_records(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    fasta = tmp_path / "in.fasta"
    fasta.write_text(f">a\n{NEW[0]}\n>b\n\n>c\nMK1\n>d\n{NEW[1]}\n")
    out, ids = tmp_path / "out.npy", tmp_path / "out.ids.csv"
    options = ("--backbone", backbone, "-o")
    assert "record 2 (b): no sequence" in one_error(capsys, "embed", fasta, *options, out)
    assert not out.exists()
    leave_out = ("--on-bad-row", "set_aside")
    assert call("embed", fasta, *options, out, *leave_out, "--json") == 0
    captured = capsys.readouterr()
    line = json.loads(captured.out)
    assert (line["sequences"], line["skipped"]) == (2, 2)
    assert "2 records left out (record 2: no sequence; record 3: " in captured.err
    assert np.array_equal(np.load(out), load(backbone).embed(NEW[:2]))
    assert ids.read_text() == "record,id\n1,a\n4,d\n"
    flat = tmp_path / "flat.parquet"
    assert call("embed", fasta, *options, flat, *leave_out) == 0
    assert pd.read_parquet(flat)["id"].tolist() == ["a", "d"]
    fasta.write_text(">a\n>b\n\n")
    assert "no sequence" in one_error(capsys, "embed", fasta, *options, out, *leave_out)


def test_a_warning_is_one_note(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = tmp_path / "in.fasta"
    fasta.write_text(">a\nMKJ\n")
    assert call("embed", fasta, "-o", tmp_path / "out.npy", "--backbone", backbone) == 0
    said = capsys.readouterr().err.strip()
    assert said.startswith("note: 1 of 1 sequences")
    assert ".py" not in said
    assert "\n" not in said


def test_a_hub_out_of_reach_is_one_line(tmp_path: Path) -> None:
    fasta = tmp_path / "in.fasta"
    fasta.write_text(">a\nMKT\n")
    command = ("embed", fasta, "-o", tmp_path / "out.npy", "--backbone", "lab/none")
    endpoint = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    quick = "import time; time.sleep = lambda seconds: None"
    code = f"{quick}; import sys; from moltide.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, **endpoint, "HF_HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: lab/none: config.json is not available")
    assert done.stderr.count("\n") == 1


def test_embed_says_how_long_a_long_sequence_is(
    backbone: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from moltide.cli import embed

    monkeypatch.setattr(embed, "_LONG", 30)
    fasta, out = tmp_path / "in.fasta", tmp_path / "out.npy"
    fasta.write_text(f">a\n{PARENT}\n>b\n{PARENT * 2}\n")
    assert call("embed", fasta, "-o", out, "--backbone", backbone) == 0
    assert f"{2 * len(PARENT)} residues (b)" in capsys.readouterr().out
    shown: list[str] = []
    status = SimpleNamespace(update=shown.append)
    monkeypatch.setattr(TerminalVoice, "busy", lambda *_: nullcontext(status))
    assert call("embed", fasta, "-o", out, "--backbone", backbone) == 0
    assert shown == [f"embedding: {3 * len(PARENT)} residues done"]


def test_embed_with_the_adapter_of_a_run(run: Path, backbone: Path, tmp_path: Path) -> None:
    fasta, out = tmp_path / "in.fasta", tmp_path / "out.npy"
    fasta.write_text(f">a\n{PARENT}\n")
    expected = load_assay_model(run).model_.represent([PARENT])
    for named in (("--backbone", backbone), ()):  # the run knows its backbone
        out.unlink(missing_ok=True)
        assert call("embed", fasta, "-o", out, *named, "--adapter", run) == 0
        assert np.array_equal(np.load(out), expected)
