"""moltide beside its peers on the CPU: embedding, fine-tuning steps, start-up; all take turns.

    taskset -c 0 python benchmarks/cpu.py                    # all of it, one core: about 40 minutes
    python benchmarks/cpu.py --only embed --sizes 8M --rounds 3
    python benchmarks/cpu.py --engines moltide --only profile
    python benchmarks/cpu.py --threads 2 --write             # table, CSV and chart in results/

Every row is a fresh process, so that peak memory is that row's own, and all load the same random
ESM-2 checkpoint; embeddings are compared with ours. The machine's limits are measured in the same
run. Peers that are not installed are named and left out; all of them:
    pip install torch transformers peft onnx onnxscript onnxruntime openvino
--folder keeps checkpoints, peers' model files and finished rows; --resume takes rows from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from beside.configurations import (
    ENGINES,
    MOST_ROUNDS,
    SIZES_IN_ORDER,
    Case,
    Configuration,
    cases,
    configurations,
    needs,
)
from beside.exports import checkpoint_folder, is_made
from beside.rows import (
    Row,
    WorkerError,
    compare_embeddings,
    distance,
    environment,
    run_process,
    run_worker,
)
from beside.tables import LEGEND, case_lines, limit_lines, verdict_lines, write_csv
from beside.verdict import judge
from workload import machine, random_sequences

RESULTS = Path(__file__).parent / "results"
KINDS = ("embed", "train", "startup", "profile")
# Startup takes one process a measurement, so it repeats more often than the rounds.
STARTUP_ROUNDS = 3


class Run:
    """One run's options, machine limits, rows, and the lines of its report."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.env = environment(options.threads, options.isa, folder)
        self.limits: dict = {"peak": {}, "gemm": {}, "by": {}, "shapes": {}, "memory": 0.0}
        self.rows: list[Row] = []
        self.missing: dict[str, list[str]] = {}
        self.facts = machine() | {"threads": str(options.threads), "clock": options.clock}
        if options.isa:
            self.facts["isa"] = options.isa
        self.kept = folder / "rows.jsonl"
        self.done: dict[str, dict] = {}
        if options.resume and self.kept.exists():
            lines = map(json.loads, self.kept.read_text().splitlines())
            self.done = {line["key"]: line["found"] for line in lines}
        elif self.kept.exists():
            self.kept.unlink()

    def measured(self, spec: dict, take) -> dict:
        """take(), or what an earlier run with --resume found for the same spec and commit."""
        key = json.dumps([spec, self.facts["commit"], self.facts["isa"]], sort_keys=True)
        if key not in self.done:
            self.done[key] = take()
            with self.kept.open("a") as stream:
                stream.write(json.dumps({"key": key, "found": self.done[key]}) + "\n")
        return self.done[key]

    def worker(self, spec: dict, limit: float | None = None) -> dict:
        return self.measured(spec, lambda: run_worker(spec, self.env, limit))

    def measure_limits(self, size: str) -> None:
        """The best of this and earlier calls: other load only ever lowers what is found."""
        o = self.options
        peers = {"Transformers": "PyTorch", "OpenVINO": "OpenVINO"}
        spec = {
            "kind": "limits", "size": size, "threads": o.threads, "turn": len(self.rows),
            "libraries": [library for engine, library in peers.items() if engine in o.engines],
            "budget": min(0.15, o.budget / 10),
        }  # fmt: skip
        found, limits = self.worker(spec), self.limits
        for dtype, reached in found["gemm"].items():
            if reached > limits["gemm"].get(dtype, 0.0):
                limits["gemm"][dtype] = reached
                limits["by"][dtype] = found["by"][dtype]
        for name, known in (
            ("peak", limits["peak"]),
            ("shapes", limits["shapes"].setdefault(size, {})),
        ):
            for dtype, reached in found[name].items():
                known[dtype] = max(reached, known.get(dtype, 0.0))
        limits["memory"] = max(found["memory"], limits["memory"])

    def usable(self, case: Case) -> Iterator[Configuration]:
        """Configurations whose packages and model files are there; says why others are not."""
        missing = self.missing.setdefault(case.name, [])
        for c in configurations(case, self.options.engines):
            absent = [p for p in needs(case, c) if importlib.util.find_spec(p) is None]
            if absent:
                reason = f"pip install {' '.join(absent)}"
            elif c.dtype == "bf16" and c.engine != "moltide" and not has_bf16():
                reason = "this processor has no bf16 instructions"
            elif c.once and self.options.skip_slow:
                reason = "--skip-slow"
            else:
                reason = self.made(case, c)
            if reason:
                missing.append(f"{c.label}, {c.dtype}: {reason}")
                say(f"  {missing[-1]}")
            else:
                yield c

    def made(self, case: Case, c: Configuration) -> str:
        """Make what the engine reads, unless it is there; the reason if that fails."""
        if is_made(self.folder, case.size, c.engine):
            return ""
        spec = {"kind": "export", "size": case.size, "engine": c.engine, "folder": str(self.folder)}
        try:
            run_worker(spec, self.env)
        except WorkerError as error:
            return f"its model file: {error}"
        return ""

    def measure(self, case: Case) -> None:
        say(case.name)
        spec = {"kind": "checkpoint", "size": case.size, "folder": str(self.folder)}
        run_worker(spec, self.env)
        rows = {c.key: Row(case, c) for c in self.usable(case)}
        self.measure_limits(case.size)
        self.rows += rows.values()
        rounds = min(self.options.rounds, MOST_ROUNDS[case.size])
        if case.kind == "startup":
            rounds = max(STARTUP_ROUNDS, self.options.rounds) + 1
        failed: set[str] = set()
        for turn in range(rounds):
            # Every other round goes the other way, so that a drift of the machine favours nobody.
            for key, row in list(rows.items())[:: -1 if turn % 2 else 1]:
                if key in failed or (turn and row.configuration.once):
                    continue
                try:
                    self.measure_row(row, turn)
                except WorkerError as error:
                    failed.add(key)
                    c = row.configuration
                    self.missing[case.name].append(f"{c.label}, {c.dtype}: {error}")
                    say(f"  {self.missing[case.name][-1]}")
        if case.kind == "embed":
            saved = {key: self.saved(row) for key, row in rows.items()}
            reference = next((p for k, p in saved.items() if k.startswith("moltide|float32")), None)
            if reference is not None:
                compare_embeddings(rows, saved, reference)
        print("\n".join(["", *self.lines_of(case)]), flush=True)

    def saved(self, row: Row) -> Path:
        name = row.configuration.key.replace("|", "-").replace(" ", "_")
        return self.folder / f"{row.case.size}-{row.case.count}-{name}.npy"

    def measure_row(self, row: Row, turn: int) -> None:
        case, c, options = row.case, row.configuration, self.options
        spec = {
            "kind": case.kind, "size": case.size, "count": case.count, "length": case.length,
            "engine": c.engine, "dtype": c.dtype, "how": c.how, "folder": str(self.folder),
            "threads": options.threads, "budget": options.budget, "clock": options.clock,
            "turn": turn, "save": str(self.saved(row)),
        }  # fmt: skip
        if case.kind == "startup":
            found = self.measured(spec, lambda: self.start_up(spec))
            if turn:  # the first only warms the disk cache
                row.add(found)
        else:
            row.add(self.worker(spec, options.limit))
        if row.seconds:
            say(f"  {c.label}, {c.dtype}: {row.seconds[-1]:.3g} s")

    def start_up(self, spec: dict) -> dict:
        """Process start to first embedding: ours is the real command."""
        sequence = random_sequences([300])[0]
        if spec["engine"] == "moltide":
            fasta = self.folder / "one.fasta"
            fasta.write_text(f">one\n{sequence}\n")
            folder = str(checkpoint_folder(self.folder, spec["size"]))
            command = [
                "-m", "moltide", "embed", str(fasta), "-o", str(self.folder / "one.npy"),
                "--backbone", folder, "--dtype", spec["dtype"],
            ]  # fmt: skip
        else:
            worker = Path(__file__).parent / "worker.py"
            command = [str(worker), json.dumps(spec | {"sequence": sequence})]
        seconds, usage = run_process([sys.executable, *command], self.env)
        if spec["clock"] == "cpu":
            seconds = usage.ru_utime + usage.ru_stime
        return {"seconds": [seconds]}

    def lines_of(self, case: Case) -> list[str]:
        rows = [r for r in self.rows if r.case == case]
        if not rows:
            return [f"### {case.name}", "", *self.missing[case.name]]
        return case_lines(rows, self.limits, self.missing[case.name])

    def profiles(self) -> list[str]:
        lines = ["## Where moltide's time goes (embedding)", ""]
        for size in self.options.sizes:
            if size not in ("8M", "35M"):
                continue
            checkpoint = {"kind": "checkpoint", "size": size, "folder": str(self.folder)}
            run_worker(checkpoint, self.env)
            for dtype in ("float32", "bf16", "int8"):
                spec = {
                    "kind": "profile", "size": size, "dtype": dtype, "count": 24,
                    "folder": str(self.folder), "threads": self.options.threads,
                    "budget": max(self.options.budget, 0.5),
                }  # fmt: skip
                try:
                    shares = self.worker(spec)["shares"]
                except WorkerError as error:
                    lines += [f"{size} {dtype}: {error}", ""]
                    continue
                lines += [f"| ESM-2 {size}, {dtype} | share of time |", "|---|---:|"]
                lines += [f"| {g} | {s:.1%} |" for g, s in shares.items() if s >= 0.0005]
                lines.append("")
        return lines

    def accuracy(self) -> list[str]:
        """What bf16 and int8 cost in the bundled model, whose weights are trained."""
        lines = ["| dtype | largest difference / rms | 1 - least cosine |", "|---|---:|---:|"]
        expected = None
        for dtype in ("float32", "bf16", "int8"):
            path = self.folder / f"mini-{dtype}.npy"
            spec = {
                "kind": "accuracy", "dtype": dtype, "save": str(path),
                "count": self.options.count or 48, "threads": self.options.threads,
            }  # fmt: skip
            try:
                run_worker(spec, self.env)
            except WorkerError as error:
                lines.append(f"| {dtype} | {error} | |")
                continue
            if expected is None:
                expected = np.load(path).astype(np.float64)
                continue
            difference, cosine = distance(np.load(path), expected)
            lines.append(f"| {dtype} | {difference:.1e} | {1 - cosine:.1e} |")
        return ["## Accuracy of the bundled model's embeddings, against float32", "", *lines, ""]

    def report(self, extra: list[str]) -> list[str]:
        o = self.options
        head = [f"- {key}: {value}" for key, value in self.facts.items()]
        lines = [
            "# moltide beside its peers on the CPU", "", *head, f"- peers: {versions()}",
            f"- `benchmarks/cpu.py --rounds {o.rounds} --budget {o.budget:g} --threads {o.threads} "
            f"--clock {o.clock}`", "",
        ]  # fmt: skip
        if self.rows:
            lines += [*verdict_lines(judge(self.rows, self.limits)), ""]
            lines += ["## Limits of this machine", "", *limit_lines(self.limits), ""]
            lines += ["## Rows", "", LEGEND, ""]
            for case in dict.fromkeys(r.case for r in self.rows):
                lines += self.lines_of(case)
        return lines + extra

    def write(self, lines: list[str]) -> None:
        from beside.chart import draw

        RESULTS.mkdir(exist_ok=True)
        base = RESULTS / f"{self.facts['date']}-cpu-{self.options.threads}t"
        base.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
        write_csv(base.with_suffix(".csv"), self.rows, self.facts)
        draw(self.rows, base.with_suffix(".svg"), self.facts)
        print(f"written: {base}.md, .csv, .svg")


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def has_bf16() -> bool:
    from moltide import _engine

    return any(isa in ("avx512_bf16", "amx") for isa in _engine.available_isas())


def versions() -> str:
    from importlib import metadata

    names = ("torch", "transformers", "peft", "onnxruntime", "openvino")
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=KINDS, default=["embed", "train", "startup"])
    add("--profile", action="store_true", help="also: share of time by op (as --only profile)")
    add("--sizes", nargs="+", default=list(SIZES_IN_ORDER), choices=SIZES_IN_ORDER)
    add("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    add("--count", type=int, help="sequences to embed at 8M (default 48); larger sizes fewer")
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=2, help="times the engines take turns (150M, 650M: once)")
    add("--budget", type=float, default=2.0, help="seconds of each measurement, at least one pass")
    add("--limit", type=float, default=420.0, help="seconds after which a process is stopped")
    add("--skip-slow", action="store_true", help="leave out eager attention and torch.compile")
    add("--clock", choices=["wall", "cpu"], default="wall",
        help="cpu: processor time, fair to all on a shared machine (one thread only)")  # fmt: skip
    add("--isa", default="", help="moltide's instruction set (default: the best)")
    add("--folder", type=Path, help="keeps model files and rows (default: temporary)")
    add("--resume", action="store_true", help="take rows of the same commit from --folder")
    add("--write", action="store_true", help="store table, CSV and chart in benchmarks/results")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu goes with --threads 1")
    if options.resume and options.folder is None:
        parser.error("--resume needs --folder")
    if options.profile:
        options.only = [*options.only, "profile"]
    return options


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(options, folder)
        for case in cases(options.only, options.sizes, options.count):
            run.measure(case)
        extra = run.accuracy() if "embed" in options.only else []
        if "profile" in options.only:
            extra += run.profiles()
        lines = run.report(extra)
        print("\n".join(lines))
        if options.write:
            run.write(lines)


if __name__ == "__main__":
    main()
