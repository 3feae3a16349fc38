"""A messy table of molecules, fine-tuned: seconds, memory, and whether every row is accounted for.

    python benchmarks/molecule_table.py --data DATA/molecules --write
    python benchmarks/molecule_table.py --data DATA/molecules --rows 2000 --backbone molecule-mini

The table (`messy_table.py`) has salts, ions and atoms in any order, one row in five repeating a
molecule, five units, bounds, and one row in a hundred broken in one of thirteen ways. It goes
through `moltide finetune --transform plog`, the head alone for a few steps, in a process of its
own. What the run wrote is then held against what is known of every row: account.csv line by line,
the merged values, the parts of the split, the counts in the report. --write stores the result in
benchmarks/results/; a difference ends with an error.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import messy_table
import pandas as pd
from messy_table import Messy
from workload import machine

from moltide.random_init import esm2_config, random_encoder
from moltide.smiles_tokenizer import SMILES_VOCABULARY, SmilesTokenizer

SOURCE = "smiles_pretrain.csv.gz"
TARGET = "pIC50"
_SAMPLE_SECONDS = 0.2
# What the terminal says when a stage begins -> what it is.
STAGES = {
    "data": "table read: parsed, standardised, merged",
    "split": "split by scaffold",
    "model": "backbone loaded, step planned",
    "activity cliffs": "account written, all pairs of molecules compared",
    "training": "baselines",
    "end": "training, predictions and report",
}


def tiny_backbone(folder: Path) -> str:
    """Three layers of width 96 over SMILES, random weights."""
    tokenizer = SmilesTokenizer()
    config = {
        **esm2_config(3, 96, 6),
        "vocab": len(SMILES_VOCABULARY),
        "mask_token": tokenizer.mask_id,
        "token_dropout": False,
        "contact_head": False,
    }
    random_encoder(config, tokenizer=tokenizer).save(folder)
    return str(folder)


def resident_mb(pid: int) -> float:
    """Memory of a process and those it started that is theirs alone, in MB."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) / 1024
        except OSError:  # it has just ended
            continue
    return total


class Run:
    """A command, its lines with the second at which each came, and the peak of its memory."""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[tuple[float, str]] = []
        self.peak = 0.0
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
        )
        done = threading.Event()

        def sample() -> None:
            while not done.wait(_SAMPLE_SECONDS):
                self.peak = max(self.peak, resident_mb(process.pid))

        sampler = threading.Thread(target=sample)
        sampler.start()
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append((time.perf_counter() - started, line.rstrip()))
            print(line, end="", flush=True)
        code = process.wait()
        done.set()
        sampler.join()
        self.seconds = time.perf_counter() - started
        if code:
            raise SystemExit(f"{' '.join(command)} ended with {code}")

    def stages(self) -> list[tuple[str, float]]:
        """Seconds up to the line that ends each stage, since the one before."""
        found, last = [], 0.0
        for name, what in STAGES.items():
            times = [at for at, line in self.lines if line.strip().startswith(name)]
            at = self.seconds if name == "end" else times[0] if times else last
            found.append((what, at - last))
            last = at
        return found


def check(messy: Messy, run: Path) -> tuple[list[str], list[str]]:
    """(what was checked, what is wrong) of a finished run."""

    def lines(name: str) -> list[dict[str, str]]:
        with (run / name).open(newline="") as stream:
            return list(csv.DictReader(stream))

    account = lines("account.csv")
    wrong = messy_table.check_account(messy, account, TARGET)
    states, expected = Counter(line["state"] for line in account), messy_table.counts(messy)
    if states != expected:
        wrong.append(f"states are {dict(states)}, not {expected}")
    parts = lines("split.csv")
    in_parts = sorted(int(row) for one in parts for row in one["rows"].split(";"))
    good = sorted(one.row for one in messy.truth if not one.broken)
    if in_parts != good:
        wrong.append("split.csv does not hold every good row once")
    values = {messy.parents[m]: v for m, v in messy_table.expected_values(messy).items()}
    predictions = lines("predictions.csv")
    for line in predictions:
        value, bound = values[line["sequence"]]
        measured = float(line[f"measured_{TARGET}"])
        if abs(measured - value) > 1e-4 or line[f"bound_{TARGET}"] != "<>"[bound > 0][: abs(bound)]:
            wrong.append(f"rows {line['rows']}: merged to {measured}, not {value:.6g}")
    data = json.loads((run / "config.json").read_text())["data"]
    aside = sum(map(len, data["set_aside"].values()))
    if (data["rows_read"], data["rows_used"], aside) != (
        len(messy.rows), expected["used"] + expected["merged"], expected["set aside"],
    ):  # fmt: skip
        wrong.append("the summary counts other rows")
    checked = [
        f"rows: {len(account):,} = {states['used']:,} used + {states['merged']:,} merged into "
        f"another + {states['set aside']:,} set aside; state, target row, reason, structure and "
        "value of each as they were made",
        f"parts of the split: {len(parts):,} molecules of {len(in_parts):,} rows, each once",
        f"merged values and bounds of the {len(predictions):,} validation and test molecules",
        "rows set aside, by how they were broken: "
        + ", ".join(f"{way} {n}" for way, n in messy_table.broken_counts(messy).most_common()),
    ]
    return checked, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {SOURCE}")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--backbone", default="tiny", help="tiny (3 layers of 96), or a name")
    parser.add_argument("--minutes", type=float, default=10.0, help="--max-minutes of the run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        backbone = given.backbone
        if backbone == "tiny":
            backbone = tiny_backbone(folder / "tiny")
        smiles = pd.read_csv(given.data / SOURCE, nrows=round(1.3 * given.rows))["smiles"].tolist()
        messy = messy_table.make(smiles, given.rows, given.seed)
        table = messy.write(folder / "messy.csv")
        out = folder / "run"
        options = ["--target", "Standard Value", "--transform", "plog", "--on-bad-row", "set_aside"]
        options += ["--backbone", backbone, "--adapter", "head", "--epochs", "1"]
        options += ["--no-learning-curve", "--max-minutes", f"{given.minutes:g}", "--overwrite"]
        command = [sys.executable, "-m", "moltide", "finetune", str(table), "--out", str(out)]
        run = Run([*command, *options])
        checked, wrong = check(messy, out)
        facts = machine()
        said = [line.strip() for _, line in run.lines]
        lines = [
            "# A messy table of molecules, fine-tuned",
            "",
            ", ".join(f"{name} {value}" for name, value in facts.items()) + ".",
            f"Load average at the end {os.getloadavg()[0]:.1f}: other work shared the cores.",
            "",
            f"{given.rows:,} rows of {SOURCE} made by messy_table.py (seed {given.seed}); backbone "
            f"{Path(given.backbone).name}; `moltide finetune {' '.join(options[:6])} --adapter "
            f"head --epochs 1 --no-learning-curve --max-minutes {given.minutes:g}`.",
            "",
            "| stage | seconds |",
            "|---|---:|",
            *(f"| {what} | {seconds:.1f} |" for what, seconds in run.stages()),
            f"| **all** | {run.seconds:.1f} |",
            "",
            f"Peak memory of the command and its helpers: {run.peak:,.0f} MB.",
            "",
            "Checked against what is known of every row, "
            + ("nothing differs:" if not wrong else f"{len(wrong):,} things differ:"),
            "",
            *(f"- {line}" for line in checked),
            *(f"- WRONG: {line}" for line in wrong[:20]),
            "",
            *(line for line in said if line.startswith("activity cliffs of")),
        ]
        print("\n".join(lines))
        if given.write:
            name = f"{facts['date']}-molecule-table-{Path(given.backbone).name}.md"
            (Path(__file__).parent / "results" / name).write_text("\n".join(lines) + "\n")
    if wrong:
        raise SystemExit(f"{len(wrong):,} things differ from what is known of the rows")


if __name__ == "__main__":
    main()
