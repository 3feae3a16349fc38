"""One run of cpu.py: the configurations of each case take turns; failures are named."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from workload import machine, random_sequences

from beside.configurations import MOST_ROUNDS, Case, Configuration, configurations, needs
from beside.exports import checkpoint_folder, is_made
from beside.rows import (
    WORKER,
    Row,
    WorkerError,
    compare_embeddings,
    environment,
    run_process,
    run_worker,
)
from beside.tables import case_lines

# Startup takes one process a measurement, so it repeats more often than the rounds.
STARTUP_ROUNDS = 3


class Run:
    """One run's options, machine limits, rows, and what is missing."""

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
        minutes = options.compile_minutes
        # Seconds that torch.compile may still take.
        self.compile_left = dict.fromkeys(("embed", "train"), minutes * 60)
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
            "kind": "limits", "size": size, "threads": o.threads,
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
        print("\n".join(["", *self.lines_of(case)]), file=sys.stderr, flush=True)

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
            if turn:  # the first only warms the disk cache and keeps bytecode
                row.add(found)
        elif c.engine == "torch.compile":
            row.add(self.compiled(spec))
        else:
            row.add(self.worker(spec, options.limit))
        if row.seconds:
            say(f"  {c.label}, {c.dtype}: {row.seconds[-1]:.3g} s")

    def compiled(self, spec: dict) -> dict:
        """A row of torch.compile, whose minutes are counted."""
        kind = spec["kind"].split("-")[0]
        left = self.compile_left[kind]
        if left <= 0:
            raise WorkerError("the time of --compile-minutes is spent")
        start = time.perf_counter()
        try:
            return self.worker(spec, self.options.limit)
        finally:
            self.compile_left[kind] = left - (time.perf_counter() - start)

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
            command = [str(WORKER), json.dumps(spec | {"sequence": sequence})]
        seconds, usage = run_process([sys.executable, *command], self.env)
        if spec["clock"] == "cpu":
            seconds = usage.ru_utime + usage.ru_stime
        return {"seconds": [seconds]}

    def lines_of(self, case: Case) -> list[str]:
        rows = [r for r in self.rows if r.case == case]
        if not rows:
            return [f"### {case.name}", "", *self.missing[case.name]]
        return case_lines(rows, self.limits, self.missing[case.name])


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def has_bf16() -> bool:
    from moltide import _engine

    return any(isa in ("avx512_bf16", "amx") for isa in _engine.available_isas())
