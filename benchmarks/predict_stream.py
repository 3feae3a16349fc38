"""What `moltide predict` takes for a long file: memory over time, rows a second, and a kill.

    python benchmarks/predict_stream.py
    python benchmarks/predict_stream.py --backbone protein-mini --rows 10000 100000 --write
    python benchmarks/predict_stream.py --smiles DATA/smiles_pretrain.csv.gz --write

Sequences of 30 residues (variants of one parent, one row in a hundred unreadable) are predicted by
a model of three endpoints with thresholds, fine-tuned here for a moment on 400 rows. For each
number of rows: seconds, rows a second, and the resident memory of the process, sampled while it
works. The largest file is then predicted once more, killed (SIGKILL) at about half, and predicted
again: the bytes are compared. With --smiles the rows are molecules of that table (column smiles),
every second one with a salt, and the model has two endpoints of examples/data/biogen_adme.csv;
memory is then that of all processes together, since standardising is shared out. --write stores the
table in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from workload import machine

import moltide
from moltide.finetune import FinetuneOptions, finetune
from moltide.random_init import esm2_config, random_encoder
from moltide.training import TrainSettings

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
PARENT = "MKTAYIAKQRQISFVKSHFSRQLEERLGLI"
_SAMPLE_SECONDS = 0.25


def variant(rng: np.random.Generator) -> str:
    """The parent with up to six residues changed."""
    text = list(PARENT)
    for place in rng.choice(len(text), int(rng.integers(1, 7)), replace=False):
        text[place] = RESIDUES[int(rng.integers(20))]
    return "".join(text)


def make_run(folder: Path, backbone: str) -> Path:
    """A fine-tuned model of two numbers and a class."""
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(3, len(PARENT), 20))
    texts = list(dict.fromkeys(variant(rng) for _ in range(420)))[:400]
    table = folder / "assay.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sequence", "KD", "Tm", "soluble"])
        for i, text in enumerate(texts):
            changed = [(p, RESIDUES.index(a)) for p, a in enumerate(text) if a != PARENT[p]]
            a, b, c = (sum(e[p, r] for p, r in changed) + rng.normal() / 4 for e in effects)
            row = [text, f"{a:.3f}", f"{60 + 4 * b:.2f}" if i % 2 else "", "yes" if c > 0 else "no"]
            writer.writerow(row)
    if backbone == "tiny":
        backbone = str(folder / "tiny")
        random_encoder(esm2_config(2, 64, 4)).save(backbone)
    options = FinetuneOptions(
        assay=table,
        out=folder / "run",
        backbone=backbone,
        split="random",
        table={"target": "all"},
        thresholds="KD<1,Tm>60,soluble=yes",
        settings=TrainSettings(epochs=2),
        learning_curve=False,
        report=False,
    )
    finetune(options)
    return folder / "run"


def make_molecule_run(folder: Path, backbone: str) -> Path:
    """A fine-tuned model of clearance and solubility, of 400 rows."""
    given = pd.read_csv(Path(__file__).parents[1] / "examples" / "data" / "biogen_adme.csv")
    table = folder / "assay.csv"
    given.sample(400, random_state=0).to_csv(table, index=False)
    options = FinetuneOptions(
        assay=table,
        out=folder / "run",
        backbone=backbone,
        split="random",
        table={"target": "all"},
        thresholds="log_hlm_clint<1,log_solubility>1.3",
        settings=TrainSettings(epochs=2),
        learning_curve=False,
        report=False,
    )
    finetune(options)
    return folder / "run"


def write_molecules(path: Path, rows: int, smiles: Path) -> Path:
    texts = pd.read_csv(smiles, usecols=["smiles"], nrows=rows)["smiles"]
    if len(texts) < rows:
        raise SystemExit(f"{smiles}: {len(texts):,} rows, {rows:,} wanted")
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "smiles"])
        for i, text in enumerate(texts):
            salted = f"{text}.Cl" if i % 2 else text
            writer.writerow([f"m{i}", "C1CC" if i % 100 == 7 else salted])
    return path


def write_input(path: Path, rows: int) -> Path:
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "sequence"])
        for i in range(rows):
            writer.writerow([f"design{i}", "MKT1" if i % 100 == 7 else variant(rng)])
    return path


def resident(pid: int) -> tuple[float, float]:
    """(MB of anonymous memory, MB in all) of a process and its children now."""
    own = [resident_alone(pid)]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError, KeyError):
            own += [resident(int(child)) for child in children.read_text().split()]
    return sum(one for one, _ in own), sum(one for _, one in own)


def resident_alone(pid: int) -> tuple[float, float]:
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "VmRSS"):
            fields[name] = int(value.split()[0]) / 1024
    return fields["RssAnon"], fields["VmRSS"]


def predict(
    run: Path, source: Path, out: Path, kill_after: float | None = None
) -> tuple[float, list[tuple[float, float, float]]]:
    """Seconds, and samples of (second, anonymous MB, MB in all); killed after so many seconds."""
    command = [sys.executable, "-m", "moltide", "predict", run, source, "-o", out]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*map(str, command), "--on-bad-row", "set_aside"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    samples = []
    while process.poll() is None:
        now = time.perf_counter() - started
        try:
            samples.append((now, *resident(process.pid)))
        except (OSError, KeyError):  # it has just ended
            break
        if kill_after is not None and now > kill_after:
            process.send_signal(signal.SIGKILL)
        time.sleep(_SAMPLE_SECONDS)
    process.wait()
    if kill_after is None and process.returncode:
        raise SystemExit(f"predict ended with {process.returncode}")
    return time.perf_counter() - started, samples


def at_shares(samples: list[tuple[float, float, float]]) -> list[str]:
    """Anonymous MB at a quarter, half and the end of the time, and the peak."""
    anonymous = [one for _, one, _ in samples] or [float("nan")]
    quarter, half = anonymous[len(anonymous) // 4], anonymous[len(anonymous) // 2]
    return [f"{value:.0f}" for value in (quarter, half, anonymous[-1], max(anonymous))]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbone", help="tiny (2 layers of 64; the default), or a name")
    parser.add_argument("--smiles", type=Path, help="table of molecules; backbone: molecule-mini")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        backbone = given.backbone or ("molecule-mini" if given.smiles else "tiny")
        make = make_molecule_run if given.smiles else make_run
        run = make(folder, backbone)
        today = datetime.date.today().isoformat()
        lines = [
            f"# Predicting a long file, {today}",
            "",
            f"moltide {moltide.__version__}, backbone {backbone}, "
            + (
                "drug-like molecules, two endpoints"
                if given.smiles
                else f"{len(PARENT)} residues, three endpoints"
            )
            + " with thresholds, one row in a hundred unreadable; "
            + ", ".join(f"{name} {value}" for name, value in machine().items())
            + ".",
            "",
            "| rows | seconds | rows/s | MB at a quarter | half | end | peak |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        print("\n".join(lines), flush=True)
        for rows in sorted(given.rows):
            path = folder / f"{rows}.csv"
            source = (
                write_molecules(path, rows, given.smiles)
                if given.smiles
                else write_input(path, rows)
            )
            whole = folder / f"{rows}-out.csv"
            seconds, samples = predict(run, source, whole)
            cells = [f"{rows:,}", f"{seconds:.0f}", f"{rows / seconds:,.0f}", *at_shares(samples)]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        out = folder / "killed.csv"
        predict(run, source, out, kill_after=seconds / 2)
        left = not out.exists()
        again, _ = predict(run, source, out)
        same = out.read_bytes() == whole.read_bytes()
        lines += [
            "",
            f"Anonymous memory (RssAnon). {rows:,} rows killed after {seconds / 2:.0f} s"
            f"{'' if left else ' (too late)'}: the same command took {again:.0f} s more, and the "
            f"file is {'the same bytes' if same else 'ANOTHER'}.",
        ]
        print(lines[-1])
        if given.write:
            name = f"{today}-predict-stream-{Path(backbone).name}.md"
            (Path(__file__).parent / "results" / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
