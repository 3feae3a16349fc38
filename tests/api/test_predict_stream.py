"""`moltide predict` row by row: every row accounted for, resumed to the same bytes, flat memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import FAST, call, one_error
from partial_files import rows_held
from tiny_runs import PARENT, read_table, variants, write_table

from moltide.cli.counting import LineCounter
from moltide.errors import ConfigError
from moltide.predicting import Partial
from moltide.predicting.partial import INSIDE, OUTSIDE, SKIPPED, Row
from moltide.predicting.rows import paired
from moltide.sequence_files import SequenceBatch

TEXTS = variants(400, seed=5)[0]


@pytest.fixture(scope="module")
def panel(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table of numbers and classes, with thresholds kept."""
    folder = tmp_path_factory.mktemp("panel")
    texts, values = variants(120)
    rows = [
        [text, f"{value:.3f}", "" if i % 3 else f"{10 - value:.3f}", "yes" if value > 0 else "no"]
        for i, (text, value) in enumerate(zip(texts, values, strict=True))
    ]
    table = write_table(folder / "panel.csv", ["sequence", "Km", "Tm", "active"], rows)
    options = ("--targets", "all", "--thresholds", "Km<0,active=yes", "--adapter", "head")
    out = folder / "run"
    assert call("finetune", table, "--backbone", backbone, "--out", out, *options, *FAST) == 0
    return out


# ---- what a file of predictions holds -----------------------------------------------------------


def test_a_panel_with_the_thresholds_of_the_run(
    panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[f"n{i}", text] for i, text in enumerate([*TEXTS[:20], PARENT + "A", "MK1", ""])]
    new = write_table(tmp_path / "new.csv", ["name", "sequence"], rows)
    out, page = tmp_path / "out.csv", tmp_path / "panel.html"
    options = ("--on-bad-row", "set_aside", "--report", page, "--json")
    capsys.readouterr()
    assert call("predict", panel, new, "-o", out, *options) == 0
    captured = capsys.readouterr()
    found = read_table(out)
    assert [row["name"] for row in found] == [row[0] for row in rows]
    assert [bool(row["predicted_Km"]) for row in found] == [True] * 21 + [False] * 2
    assert [row["light_Km"] for row in found[20:]] == ["grey", "", ""]
    assert found[21]["domain_note"] == "not predicted: '1' at position 3 is no residue"
    assert found[22]["domain_note"] == "not predicted: no sequence"
    for row in found[:20]:
        low, high = float(row["low90_Km"]), float(row["high90_Km"])
        light = "green" if high < 0 else "red" if low >= 0 else "amber"
        assert row["light_Km"] == (light if row["in_domain"] == "yes" else "grey")
        both = float(row["meets_Km"]) * float(row["meets_active"])
        assert float(row["overall"]) == pytest.approx(both, rel=1e-4)
        assert row["set90_active"] in ("no", "yes", "no|yes", "none", "")
        assert "light_Tm" not in row
    inside = [row for row in found[:21] if row["in_domain"] == "yes"]
    best = max(inside, key=lambda row: float(row["overall"]))
    assert best["rank"] == "1"
    assert int(found[20]["rank"]) == 21 or found[20]["in_domain"] == "yes"
    line = json.loads(captured.out)
    assert (line["rows"], line["predicted"], line["skipped"]) == (23, 21, 2)
    assert sum(line["lights"]["Km"].values()) == 21
    assert line["ranked_by"] == "overall"
    text = page.read_text()
    assert "Km &lt; 0" in text
    assert "&#39;1&#39; at position 3 is no residue" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert not list(tmp_path.glob(".out.csv*"))


def test_thresholds_given_later_count_and_none_are_explained(
    panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in TEXTS[:5]])
    out = tmp_path / "out.csv"
    assert call("predict", panel, new, "-o", out, "--thresholds", "Tm>100") == 0
    (row, *_) = read_table(out)
    assert "light_Km" not in row
    assert row["light_Tm"] in ("red", "amber", "grey")
    for given, message in (
        (("--thresholds", "tm>3"), "no endpoint 'tm'; did you mean 'Tm'?"),
        (("--thresholds", "Tm>3", "--ascending"), "--ascending does not go with thresholds"),
        (("--report", tmp_path / "p.txt"), "ends in neither .html nor .htm"),
    ):
        assert message in one_error(capsys, "predict", panel, new, "-o", out, *given)
    config = json.loads((panel / "config.json").read_text())
    kept = config.pop("thresholds")
    assert kept == [
        {"endpoint": "Km", "below": 0.0, "weight": 1.0},
        {"endpoint": "active", "wanted": "yes", "weight": 1.0},
    ]
    text = (panel / "config.json").read_text()
    try:
        (panel / "config.json").write_text(json.dumps(config))
        capsys.readouterr()
        assert call("predict", panel, new, "-o", out, "--report", tmp_path / "p.html") == 0
    finally:
        (panel / "config.json").write_text(text)
    said = capsys.readouterr().out
    assert "mean percentile among the training values of 3 targets" in said
    assert 'no lights: --thresholds "NAME<5,OTHER>-4"' in said
    for row in read_table(out):
        each = [float(row[f"percentile_{name}"]) for name in ("Km", "Tm", "active")]
        assert float(row["overall"]) == pytest.approx(np.mean(each), abs=0.1)
        assert "light_Km" not in row
    assert "No thresholds were given" in (tmp_path / "p.html").read_text()


def test_a_single_target_with_a_threshold(run: Path, tmp_path: Path) -> None:
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in TEXTS[:5]])
    out = tmp_path / "out.csv"
    assert call("predict", run, new, "-o", out, "--thresholds", "fitness>0", "--sort") == 0
    rows = read_table(out)
    expected = ["sequence", "predicted", "std", "low90", "high90", "light", "meets", "overall"]
    assert [*rows[0]] == [*expected, "liabilities", "rank", "in_domain", "domain_note"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(row["meets"] == row["overall"] for row in rows)


def test_a_bad_row_far_down_is_refused_before_the_first_prediction(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*(TEXTS * 12)[:4500], "MK1"]  # in the reader's second part
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in texts])

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("predicted")

    monkeypatch.setattr("moltide.predicting.run._predicted", never)
    assert "row 4502" in one_error(capsys, "predict", run, new, "-o", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir() if "partial" not in path.name] == ["new.csv"]


# ---- a kill, and the same command again ---------------------------------------------------------


def command(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "moltide", "predict", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "options", "times"),
    [("csv", (), 2), ("tsv.gz", ("--sort",), 1), ("parquet", ("--sort",), 1)],
)
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(
    panel: Path, tmp_path: Path, kind: str, options: tuple[str, ...], times: int
) -> None:
    rng = np.random.default_rng(0)
    rows: list[list[str]] = []
    for i in range(4000):
        # Repeats, so that ranks are shared; bad rows throughout.
        text = TEXTS[int(rng.integers(400))] if i % 3 else "".join(rng.permutation(list(PARENT)))
        rows.append([f"n{i}", "MK1" if i % 97 == 5 else text])
    new = write_table(tmp_path / "new.csv", ["name", "sequence"], rows)
    want, out = tmp_path / f"want.{kind}", tmp_path / f"out.{kind}"
    common = ("--on-bad-row", "set_aside", *options)
    assert call("predict", panel, new, "-o", want, *common) == 0
    # Slow enough to be caught: a chunk of few rows at a time.
    slow = {**os.environ, "MOLTIDE_PREDICT_CHUNK": "64"}
    partial = tmp_path / f".out.{kind}.partial"
    kills, held = 0, 0
    while kills < times:
        process = command(panel, new, "-o", out, *common, env=slow)
        while process.poll() is None and rows_held(partial) < held + 400:
            time.sleep(0.002)
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        assert not out.exists()
        before, held = held, rows_held(partial)
        assert before < held < 4000
    process = command(panel, new, "-o", out, *common)
    said = process.communicate()[0]
    assert process.returncode == 0
    assert "going on behind row" in said
    if kind == "tsv.gz":  # gzip writes the time
        import gzip

        assert gzip.decompress(out.read_bytes()) == gzip.decompress(want.read_bytes())
    else:
        assert out.read_bytes() == want.read_bytes()
    assert not list(tmp_path.glob(".out*"))


def test_another_input_model_or_option_begins_anew(
    panel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = write_table(tmp_path / "new.csv", ["sequence"], [[text] for text in TEXTS[:40]])
    out, calls = tmp_path / "out.csv", 0
    real = Partial.add

    def stopped(self: Partial, rows: list[Row]) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt
        real(self, rows)

    monkeypatch.setenv("MOLTIDE_PREDICT_CHUNK", "10")
    cases: list[tuple[tuple[str, ...], bool]] = [((), True), (("--no-uncertainty",), False)]
    for options, same in [*cases, ((), False)]:
        calls = 0
        with monkeypatch.context() as patch:
            patch.setattr(Partial, "add", stopped)
            capsys.readouterr()
            assert call("predict", panel, new, "-o", out) == 130
            assert "the same command goes on from here" in capsys.readouterr().err
        assert not out.exists()
        if not options and not same:
            new.write_text(new.read_text().replace(TEXTS[3], PARENT))
        assert call("predict", panel, new, "-o", out, *options) == 0
        said = capsys.readouterr().out
        assert ("going on behind row" in said) == same
        assert ("begun anew" in said) != same
        assert len(read_table(out)) == 40
        out.unlink()


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    first = Partial(tmp_path / "p", "a")
    first.add([Row(2, "x", ["1"], INSIDE, 1.0, 0.0)])
    with pytest.raises(ConfigError, match="another process is writing this output"):
        Partial(tmp_path / "p", "a")
    first.close(finished=False)
    again = Partial(tmp_path / "p", "a")
    assert (again.resumed, again.done, again.replaced) == (True, 2, False)
    again.close(finished=True)
    assert not (tmp_path / "p").exists()
    (tmp_path / "p").write_text("not a database, but long enough to look like a file of one" * 20)
    other = Partial(tmp_path / "p", "b")
    assert (other.resumed, other.replaced) == (False, True)
    other.close(finished=True)


def test_ranks_and_their_order(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "p", "a")
    scores: list[tuple[float | None, float | None]] = [
        *((1.0, 0.0), (3.0, 0.0), (None, None), (3.0, 1.0), (1.0, 0.0)),
    ]
    rows = [Row(i, f"r{i}", [i], INSIDE, a, b) for i, (a, b) in enumerate(scores)]
    partial.add([*rows, Row(9, "bad", ["?"], SKIPPED)])
    partial.rank()
    assert [(n, rank) for n, _, _, rank in partial.ranked()] == [
        *((0, 3), (1, 2), (2, None), (3, 1), (4, 3), (9, None)),
    ]
    assert [n for n, *_ in partial.ranked(by_rank=True)] == [3, 1, 0, 4, 2, 9]
    assert [n for n, *_ in partial.ranked(True, 2)] == [3, 1]
    assert [n for n, *_ in partial.ranked(True, 2, last=True)] == [4, 0]
    assert partial.counts() == {SKIPPED: 1, INSIDE: 5, OUTSIDE: 0}
    partial.close(finished=True)


def test_rows_meet_their_sequences_however_both_are_cut() -> None:
    def blocks() -> Iterator[tuple[list[str], Any]]:
        for start in (2, 5, 8):
            yield ["s"], ((n, [str(n)]) for n in range(start, start + 3))

    def batches() -> Iterator[SequenceBatch]:
        yield SequenceBatch(["a"], ["AA"], [2], [(3, "b", "no sequence")], [], {2: "a remark"})
        yield SequenceBatch([], [], [], [(4, "c", "bad")])
        # Row 5 is a blank line.
        yield SequenceBatch(["e", "f"], ["EE", "FF"], [6, 7], [(8, "g", "late")], [], {9: "later"})
        yield SequenceBatch(["h"], ["HH"], [9])

    found = list(paired(blocks(), batches()))
    assert [(row.number, row.sequence, row.reason, row.remark) for row in found] == [
        (2, "AA", "", "a remark"),
        (3, None, "no sequence", ""),
        (4, None, "bad", ""),
        (6, "EE", "", ""),
        (7, "FF", "", ""),
        (8, None, "late", ""),
        (9, "HH", "", "later"),
    ]
    assert [row.cells for row in found] == [[str(row.number)] for row in found]


def test_a_log_hears_of_the_time_left_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("moltide.cli.counting.time.monotonic", lambda: now)
    said: list[str] = []
    with LineCounter(said.append, "predicting", 1000, "row") as counter:
        counter.advance(200, computed=False)
        now = 10.0
        counter.advance(100)
        assert said == []
        now = 20.0
        counter.advance(100)
    assert said == ["predicting: 400 of 1,000 rows (40%) | 10 rows/s | 01:00 left"]


_GROWTH = """
import sys
from pathlib import Path
from moltide.cli import main
def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0])
run, few, many, out = sys.argv[1:]
for source in (few, few, many):
    assert main(["predict", run, source, "-o", out, "--sort"]) == 0
    print("peak", peak())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_flat(panel: Path, tmp_path: Path) -> None:
    """Three times the rows: the file grows by more than twice what the peak may grow by. The
    allocator's own reserve is full after some ten thousand."""
    sources, out = [], tmp_path / "out.csv"
    for n in (20_000, 60_000):
        # A long note makes rows that would show in memory.
        rows = [[TEXTS[i % 400], f"{i:0600}"] for i in range(n)]
        sources.append(write_table(tmp_path / f"{n}.csv", ["sequence", "note"], rows))
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, *map(str, (panel, *sources, out))],
        capture_output=True,
        text=True,
        check=True,
    )
    peaks = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak")]
    added = out.stat().st_size / 1024 * 2 / 3
    assert added > 10 * 1024
    assert peaks[2] - peaks[1] < added / 2
