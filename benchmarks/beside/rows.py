"""Runs measurements, each in a fresh process, and keeps what they found."""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from workload import forward_flops, length_mix, parameter_count

from beside.configurations import Case, Configuration

WORKER = Path(__file__).parent.parent / "worker.py"


class WorkerError(Exception):
    """A measurement's process failed; its last lines say how."""


# What oneDNN, the products of torch and OpenVINO, calls our instruction sets.
ONEDNN_ISA = {
    "portable": "SSE41",
    "avx2": "AVX2",
    "avx512": "AVX512_CORE",
    "avx512_vnni": "AVX512_CORE_VNNI",
    "avx512_bf16": "AVX512_CORE_BF16",
    "amx": "AVX512_CORE_AMX",
}


def environment(threads: int, isa: str, folder: Path) -> dict[str, str]:
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    settings = dict.fromkeys(names, count) | {
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_COMPILE_THREADS": count,
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }
    # Bytecode is kept, as pip keeps it: start-up is not the time that compiling sources takes.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if isa:
        settings |= {"MOLTIDE_ISA": isa, "ONEDNN_MAX_CPU_ISA": ONEDNN_ISA[isa]}
    return {**kept, **settings}


def run_worker(spec: dict, env: dict[str, str], limit: float | None = None) -> dict:
    """What worker.py prints for `spec`; raises WorkerError with its last lines."""
    command = [sys.executable, str(WORKER), json.dumps(spec)]
    # A session of its own: torch.compile starts compilers, which must end with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        start_new_session=True,
    )  # fmt: skip
    try:
        out, message = process.communicate(timeout=limit)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise WorkerError(f"stopped after {limit:.0f} s (--limit)") from error
        raise
    if process.returncode != 0:
        raise WorkerError((message.strip().splitlines() or ["no message"])[-1][:300])
    return json.loads(out.strip().splitlines()[-1])


def run_process(command: list[str], env: dict[str, str]) -> tuple[float, resource.struct_rusage]:
    """(seconds from a process's start to its end, what it used); raises WorkerError."""
    before = time.perf_counter()
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    message = process.stderr.read() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise WorkerError((message.strip().splitlines() or ["no message"])[-1][:300])
    return took, usage


@dataclass
class Row:
    """All that the rounds found for one configuration of a case."""

    case: Case
    configuration: Configuration
    seconds: list[float] = field(default_factory=list)
    ready_mb: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    # Against our float32 embeddings: largest difference over their root mean square, least cosine.
    difference: float | None = None
    cosine: float | None = None

    def add(self, found: dict) -> None:
        self.seconds += found["seconds"]
        for name in ("ready_mb", "peak_mb"):
            if name in found:
                getattr(self, name).append(found[name])

    @property
    def lengths(self) -> np.ndarray:
        if self.case.kind == "embed":
            return length_mix(self.case.count)
        return np.full(self.case.count, self.case.length)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Residues per second."""
        return float(self.lengths.sum()) / self.median

    @property
    def spread(self) -> tuple[float, float]:
        total = float(self.lengths.sum())
        return total / max(self.seconds), total / min(self.seconds)

    @property
    def flops(self) -> float:
        """FLOP/s of the products that the task needs, without padding or recomputation."""
        passes = {"train-full": 3.0, "train-lora": 2.0}.get(self.case.kind, 1.0)
        return passes * forward_flops(self.case.size, self.lengths + 2) / self.median

    @property
    def weight_bytes(self) -> float:
        """Bytes per second that weights alone need: read once a pass, twice to train, updated."""
        count = parameter_count(self.case.size)
        each = {"float32": 4, "bf16": 2, "int8": 1}[self.configuration.dtype]
        # AdamW reads and writes weight and two moments, and reads the gradient: 28 bytes.
        step = {"train-full": 2 * each + 28, "train-lora": 2 * each}.get(self.case.kind, each)
        return count * step / self.median


def compare_embeddings(rows: dict[str, Row], saved: dict[str, Path], reference: Path) -> None:
    """Set each row's difference from the reference's embeddings."""
    if not reference.exists():
        return
    expected = np.load(reference).astype(np.float64)
    for key, row in rows.items():
        if saved[key].exists():
            row.difference, row.cosine = distance(np.load(saved[key]), expected)


def distance(values: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """(largest difference over the root mean square of `expected`, least cosine of two rows)."""
    values = values.astype(np.float64)
    scale = float(np.sqrt((expected**2).mean()))
    norms = np.linalg.norm(values, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (values * expected).sum(axis=1) / norms
    return float(np.abs(values - expected).max()) / scale, float(cosines.min())
