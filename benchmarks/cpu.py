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
import tempfile
from pathlib import Path

from beside.configurations import ALL, ENGINES, MEASURED, cases
from beside.report import accuracy_lines, profile_lines, report_lines, write_results
from beside.rows import ONEDNN_ISA
from beside.run import Run


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=[*MEASURED, "profile"], default=list(MEASURED))
    add("--profile", action="store_true", help="also: share of time by op (as --only profile)")
    add("--sizes", nargs="+", default=list(ALL), choices=ALL)
    add("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    add("--count", type=int, help="sequences to embed at 8M (default 32); larger sizes fewer")
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=2, help="times the engines take turns (150M, 650M: once)")
    add("--budget", type=float, default=2.0, help="seconds of each measurement, at least one pass")
    add("--limit", type=float, default=600.0, help="seconds after which a process is stopped")
    add("--compile-minutes", type=float, default=6.0,
        help="time for torch.compile in embedding, and as much in training")  # fmt: skip
    add("--skip-slow", action="store_true", help="leave out eager attention and torch.compile")
    add("--clock", choices=["wall", "cpu"], default="wall",
        help="cpu: processor time, fair to all on a shared machine (one thread only)")  # fmt: skip
    add("--isa", default="", choices=list(ONEDNN_ISA),
        help="hold moltide, and the peers that compute with oneDNN (torch, OpenVINO), to this "
        "instruction set (default: the best)")  # fmt: skip
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
        extra = accuracy_lines(run) if "embed" in options.only else []
        if "profile" in options.only:
            extra += profile_lines(run)
        lines = report_lines(run, extra)
        print("\n".join(lines))
        if options.write:
            write_results(run, lines)


if __name__ == "__main__":
    main()
