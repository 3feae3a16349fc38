"""What a residue costs by number and length of sequences, and what memory a stream of them takes.

    taskset -c 0 python benchmarks/scaling.py
    python benchmarks/scaling.py --size 35M --dtype float32 --write

Four questions, about embedding with moltide alone, an ESM-2 of random weights:
  number   microseconds a residue for 1 to 1,000 sequences in one call (flat)
  length   the same by length, with a + b L fitted: b is attention's, the only term that grows
  mix      one 1,022-mer and 200 peptides in one call, against the two apart (no padding: 1.0)
  memory   peak memory by the number of sequences streamed: `embed_iter`, and `moltide embed` (flat)
--write stores table and plot in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from beside.chart import OWN, PEER, TEXT, save, use_style
from beside.exports import checkpoint_folder
from beside.rows import WorkerError, environment, run_process, run_worker
from workload import SIZES, machine, memory_mb, random_sequences

import moltide

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
COUNT_LENGTH = 100
LENGTHS = (50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1022)
# Residues of each length's measurement.
LENGTH_RESIDUES = 8000
LONG, PEPTIDES, PEPTIDE_LENGTH = 1022, 200, 20
STREAMED = (500, 1000, 2000, 5000, 10000)
STREAM_LENGTHS = (30, 90)
QUESTIONS = ("number", "length", "mix", "memory")


def stream_lengths(count: int) -> np.ndarray:
    """Lengths of a stream's sequences; a longer stream begins with a shorter one's."""
    return np.random.default_rng(1).integers(*STREAM_LENGTHS, count)


def measure_point(spec: dict) -> dict:
    """In a fresh process: seconds of each round of each batch, or the peak of a stream."""
    moltide.set_num_threads(spec["threads"])
    folder = checkpoint_folder(Path(spec["folder"]), spec["size"])
    encoder = moltide.load(folder, dtype=spec["dtype"])
    if "stream" in spec:
        lengths = stream_lengths(spec["stream"])
        one_by_one = (random_sequences([n], seed=i)[0] for i, n in enumerate(lengths))
        total = sum(float(row[0]) for row in encoder.embed_iter(one_by_one))
        return {"peak_mb": memory_mb("VmHWM"), "finite": bool(np.isfinite(total))}
    now = {"wall": time.perf_counter, "cpu": time.process_time}[spec["clock"]]
    batches = [random_sequences(lengths, seed=i) for i, lengths in enumerate(spec["batches"])]
    seconds: list[list[float]] = [[] for _ in batches]
    for batch in batches:
        encoder.embed(batch)
    for _ in range(spec["rounds"]):
        for found, batch in zip(seconds, batches, strict=True):
            calls, start = 0, now()
            while calls == 0 or now() - start < spec["budget"]:
                encoder.embed(batch)
                calls += 1
            found.append((now() - start) / calls)
    return {"seconds": seconds}


class Scaling:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.env = environment(options.threads, options.isa, folder)
        self.spec = {
            "kind": "scale", "size": options.size, "dtype": options.dtype, "folder": str(folder),
            "threads": options.threads, "rounds": options.rounds, "clock": options.clock,
            "budget": options.budget,
        }  # fmt: skip
        run_worker({"kind": "checkpoint", "size": options.size, "folder": str(folder)}, self.env)

    def medians(self, batches: list[list[int]]) -> list[float]:
        found = run_worker(self.spec | {"batches": batches}, self.env)["seconds"]
        return [statistics.median(s) for s in found]

    def number(self) -> dict:
        counts = self.options.counts
        seconds = self.medians([[COUNT_LENGTH] * n for n in counts])
        cost = [s / (n * COUNT_LENGTH) * 1e6 for s, n in zip(seconds, counts, strict=True)]
        return {"x": counts, "cost": cost}

    def length(self) -> dict:
        lengths = self.options.lengths
        batches = [[n] * max(1, LENGTH_RESIDUES // n) for n in lengths]
        seconds = self.medians(batches)
        cost = np.array([s / sum(b) * 1e6 for s, b in zip(seconds, batches, strict=True)])
        slope, start = np.polyfit(lengths, cost, 1)
        fitted = start + slope * np.array(lengths)
        worst = float(np.abs(cost / fitted - 1).max())
        return {
            "x": lengths, "cost": cost.tolist(), "start": float(start), "slope": float(slope),
            "worst": worst,
        }  # fmt: skip

    def mix(self) -> dict:
        long, peptides = [LONG], [PEPTIDE_LENGTH] * PEPTIDES
        half = len(peptides) // 2
        both, one, many = self.medians(
            [[*peptides[:half], *long, *peptides[half:]], long, peptides]
        )
        return {"both": both, "long": one, "peptides": many, "ratio": both / (one + many)}

    def memory(self) -> dict:
        streamed, command = [], []
        for count in self.options.streamed:
            streamed.append(run_worker(self.spec | {"stream": count}, self.env)["peak_mb"])
            fasta = self.folder / "stream.fasta"
            with fasta.open("w") as stream:
                for i, n in enumerate(stream_lengths(count)):
                    stream.write(f">{i}\n{random_sequences([n], seed=i)[0]}\n")
            backbone = checkpoint_folder(self.folder, self.options.size)
            arguments = ["--backbone", str(backbone), "--dtype", self.options.dtype]
            out = str(self.folder / "stream.npy")
            _, usage = run_process(
                [sys.executable, "-m", "moltide", "embed", str(fasta), "-o", out, *arguments],
                self.env,
            )
            command.append(usage.ru_maxrss / 1024)
        return {"x": self.options.streamed, "stream": streamed, "command": command}


def lines_of(found: dict) -> list[str]:
    lines: list[str] = []
    if "number" in found:
        f = found["number"]
        lines += [f"| sequences of {COUNT_LENGTH} residues | us/residue |", "|---:|---:|"]
        lines += [f"| {n:,} | {c:.1f} |" for n, c in zip(f["x"], f["cost"], strict=True)]
        lines += ["", f"Dearest over cheapest: {max(f['cost']) / min(f['cost']):.2f}.", ""]
    if "length" in found:
        f = found["length"]
        lines += ["| residues a sequence | us/residue | fit |", "|---:|---:|---:|"]
        lines += [
            f"| {n:,} | {c:.1f} | {f['start'] + f['slope'] * n:.1f} |"
            for n, c in zip(f["x"], f["cost"], strict=True)
        ]
        lines += [
            "",
            f"us/residue = {f['start']:.1f} + {f['slope'] * 1000:.1f} L / 1,000; farthest from it: "
            f"{f['worst']:.1%}.",
            "",
        ]
    if "mix" in found:
        f = found["mix"]
        lines += [
            f"One {LONG:,}-mer and {PEPTIDES} peptides of {PEPTIDE_LENGTH} in one call: "
            f"{f['both'] * 1e3:.0f} ms; apart "
            f"{f['long'] * 1e3:.0f} + {f['peptides'] * 1e3:.0f} ms, "
            f"ratio {f['ratio']:.2f}.",
            "",
        ]
    if "memory" in found:
        f = found["memory"]
        lines += [
            "| sequences streamed | peak MB, `embed_iter` | peak MB, `moltide embed` |",
            "|---:|---:|---:|",
        ]
        lines += [
            f"| {n:,} | {a:,.0f} | {b:,.0f} |"
            for n, a, b in zip(f["x"], f["stream"], f["command"], strict=True)
        ]
        lines.append("")
    return lines


def draw(found: dict, path: Path, title: str) -> None:
    import matplotlib.pyplot as plt

    use_style()
    names = [q for q in ("number", "length", "memory") if q in found]
    figure, axes = plt.subplots(1, len(names), figsize=(8.6, 2.7), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        f = found[name]
        if name == "memory":
            axis.plot(f["x"], f["stream"], "o-", color=OWN, label="embed_iter", markersize=4)
            axis.plot(f["x"], f["command"], "s-", color=PEER, label="moltide embed", markersize=4)
            axis.set_ylim(0, 1.45 * max(*f["stream"], *f["command"]))
            axis.set_xlabel("sequences streamed")
            axis.set_title("peak memory, MB", loc="left")
            axis.legend(loc="upper left", labelcolor=TEXT)
            continue
        axis.plot(f["x"], f["cost"], "o-" if name == "number" else "o", color=OWN, markersize=4)
        axis.set_ylim(0, 1.3 * max(f["cost"]))
        axis.set_title("microseconds a residue", loc="left")
        if name == "number":
            axis.set_xscale("log")
            axis.set_xlabel(f"sequences of {COUNT_LENGTH} residues")
        else:
            x = np.array([0, max(f["x"])])
            label = f"{f['start']:.1f} + {f['slope'] * 1000:.1f} L/1000"
            axis.plot(x, f["start"] + f["slope"] * x, color=PEER, label=label, zorder=0)
            axis.set_xlabel("residues a sequence, L")
            axis.legend(loc="lower right", labelcolor=TEXT)
    figure.suptitle(title, color=TEXT, fontsize=10.5)
    figure.tight_layout()
    save(figure, path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    add("--size", choices=list(SIZES), default="8M")
    add("--dtype", choices=["float32", "bf16", "int8"], default="bf16")
    add("--counts", nargs="+", type=int, default=list(COUNTS))
    add("--lengths", nargs="+", type=int, default=list(LENGTHS))
    add("--streamed", nargs="+", type=int, default=list(STREAMED))
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=5)
    add("--budget", type=float, default=0.2, help="seconds of a point in a round, at least a call")
    add("--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time, one thread")
    add("--isa", default="", help="instruction set (default: the best)")
    add("--folder", type=Path, help="keeps the checkpoint (default: temporary)")
    add("--write", action="store_true", help="store table and plot in benchmarks/results")
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu goes with --threads 1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            scaling = Scaling(options, folder)
            found = {q: getattr(scaling, q)() for q in QUESTIONS if q in options.only}
        except WorkerError as error:
            raise SystemExit(f"scaling.py: {error}") from error
    facts = machine() | {"threads": str(options.threads), "clock": options.clock}
    if options.isa:
        facts["isa"] = options.isa
    what = f"ESM-2 {options.size}, {options.dtype}"
    head = [f"- {key}: {value}" for key, value in facts.items()]
    lines = [f"# Cost by number and length of sequences: {what}", "", *head, "", *lines_of(found)]
    print("\n".join(lines))
    if options.write:
        name = f"{facts['date']}-scaling-{options.size}-{options.dtype}-{options.threads}t"
        base = Path(__file__).parent / "results" / name
        base.parent.mkdir(exist_ok=True)
        base.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
        draw(found, base.with_suffix(".svg"), f"{what}, {facts['isa']}, {facts['threads']} thread")
        print(f"written: {base}.md, .svg")


if __name__ == "__main__":
    main()
