"""The report of a run of cpu.py, and its files."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import numpy as np
from workload import length_mix, split_flops

from beside.configurations import ENGINES, MEASURED, SMALL
from beside.rows import WorkerError, distance, run_worker
from beside.run import Run
from beside.tables import LEGEND, limit_lines, verdict_lines, write_csv
from beside.verdict import judge

# Sequences of a profile.
PROFILED = 24
FLOPS_OF = ("matmul: products", "attention")
RESULTS = Path(__file__).parent.parent / "results"


def profile_lines(run: Run) -> list[str]:
    """Share of time by op, with the FLOP/s that products and attention reach in theirs."""
    lines = ["## Where moltide's time goes (embedding)", ""]
    lengths = length_mix(PROFILED) + 2
    for size in run.options.sizes:
        if size not in SMALL:
            continue
        checkpoint = {"kind": "checkpoint", "size": size, "folder": str(run.folder)}
        run_worker(checkpoint, run.env)
        for dtype in ("float32", "bf16", "int8"):
            spec = {
                "kind": "profile", "size": size, "dtype": dtype, "count": PROFILED,
                "folder": str(run.folder), "threads": run.options.threads,
                "budget": max(run.options.budget, 0.5),
            }  # fmt: skip
            try:
                found = run.worker(spec)
            except WorkerError as error:
                lines += [f"{size} {dtype}: {error}", ""]
                continue
            flops = dict(zip(FLOPS_OF, split_flops(size, lengths), strict=True))
            lines += [f"| ESM-2 {size}, {dtype} | share of time | GFLOP/s |", "|---|---:|---:|"]
            for group, share in found["shares"].items():
                spent = share * found["seconds"]
                rate = f"{flops[group] / spent / 1e9:,.0f}" if group in flops else ""
                if share >= 0.0005:
                    lines.append(f"| {group} | {share:.1%} | {rate} |")
            lines.append("")
    return lines


def accuracy_lines(run: Run) -> list[str]:
    """What bf16 and int8 cost in the bundled model, whose weights are trained."""
    lines = ["| dtype | largest difference / rms | 1 - least cosine |", "|---|---:|---:|"]
    expected = None
    for dtype in ("float32", "bf16", "int8"):
        path = run.folder / f"mini-{dtype}.npy"
        spec = {
            "kind": "accuracy", "dtype": dtype, "save": str(path),
            "count": run.options.count or 32, "threads": run.options.threads,
        }  # fmt: skip
        try:
            run_worker(spec, run.env)
        except WorkerError as error:
            lines.append(f"| {dtype} | {error} | |")
            continue
        if expected is None:
            expected = np.load(path).astype(np.float64)
            continue
        difference, cosine = distance(np.load(path), expected)
        lines.append(f"| {dtype} | {difference:.1e} | {1 - cosine:.1e} |")
    return ["## Accuracy of the bundled model's embeddings, against float32", "", *lines, ""]


def _command(o: argparse.Namespace) -> str:
    """What to type for the same rows, but where to keep and write them."""
    parts = ["benchmarks/cpu.py", "--only", *o.only, "--sizes", *o.sizes]
    if set(o.engines) < set(ENGINES):
        parts += ["--engines", *o.engines]
    if o.isa:
        parts += ["--isa", o.isa]
    if o.skip_slow:
        parts.append("--skip-slow")
    for name in ("count", "threads", "rounds", "budget", "clock", "compile_minutes"):
        if getattr(o, name) is not None:
            parts += [f"--{name.replace('_', '-')}", str(getattr(o, name))]
    return shlex.join(parts)


def report_lines(run: Run, extra: list[str]) -> list[str]:
    head = [f"- {key}: {value}" for key, value in run.facts.items()]
    lines = [
        "# moltide beside its peers on the CPU", "", *head, f"- peers: {versions()}",
        f"- `{_command(run.options)}`", "",
    ]  # fmt: skip
    if run.rows:
        lines += [*verdict_lines(judge(run.rows, run.limits)), ""]
        lines += ["## Limits of this machine", "", *limit_lines(run.limits), ""]
        lines += ["## Rows", "", LEGEND, ""]
        for case in dict.fromkeys(r.case for r in run.rows):
            lines += run.lines_of(case)
    return lines + extra


def write_results(run: Run, lines: list[str]) -> None:
    from beside.chart import draw

    RESULTS.mkdir(exist_ok=True)
    o = run.options
    name = f"{run.facts['date']}-cpu-{o.threads}t-{run.facts['isa']}"
    # A run of a part says which.
    name = "-".join([
        name, *([] if set(o.only) >= set(MEASURED) else o.only),
        *([] if set(o.sizes) >= set(SMALL) else o.sizes),
    ])  # fmt: skip
    base = RESULTS / name
    base.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
    write_csv(base.with_suffix(".csv"), run.rows, run.facts)
    draw(run.rows, base.with_suffix(".svg"), run.facts)
    print(f"written: {base}.md, .csv, .svg")


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
