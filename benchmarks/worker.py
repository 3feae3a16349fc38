"""One measurement of cpu.py or scaling.py in a process of its own; takes and prints JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from workload import memory_mb

# A first pass longer than this is the measurement itself, unless the engine compiles during it.
LONG_PASS = 15.0


def timed(run, budget: float, clock: str, compiles: bool) -> list[float]:
    """Seconds of repeated runs after one warm-up, until the budget is spent."""
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]

    def once() -> float:
        start = now()
        run()
        return now() - start

    first = once()
    if first > LONG_PASS and not compiles:
        return [first]
    seconds = [once()]
    while sum(seconds) < budget:
        seconds.append(once())
    return seconds


def embed(spec: dict) -> dict:
    import numpy as np
    from beside.embedders import load_embedder
    from workload import protein_sequences

    sequences = protein_sequences(spec["count"])
    setup = [spec[k] for k in ("engine", "dtype", "how", "size", "folder", "threads")]
    run = load_embedder(*setup)
    ready = memory_mb("VmRSS")
    values: list[np.ndarray] = [np.empty(0)]

    def once() -> None:
        values[0] = run(sequences)

    seconds = timed(once, spec["budget"], spec["clock"], spec["engine"] == "torch.compile")
    peak = memory_mb("VmHWM")
    np.save(spec["save"], values[0])
    return {"seconds": seconds, "ready_mb": ready, "peak_mb": peak}


def train(spec: dict) -> dict:
    from beside.trainers import load_trainer

    mode = spec["kind"].removeprefix("train-")
    setup = [spec[k] for k in ("size", "length", "folder", "threads")]
    step = load_trainer(spec["engine"], spec["dtype"], spec["how"], mode, *setup)
    ready = memory_mb("VmRSS")
    seconds = timed(step, spec["budget"], spec["clock"], spec["engine"] == "torch.compile")
    return {"seconds": seconds, "ready_mb": ready, "peak_mb": memory_mb("VmHWM")}


def startup(spec: dict) -> dict:
    """A peer's way from nothing to the first embedding; the parent takes the time."""
    from beside.embedders import load_embedder

    run = load_embedder(*(spec[k] for k in ("engine", "dtype", "how", "size", "folder", "threads")))
    run([spec["sequence"]])
    return {"peak_mb": memory_mb("VmHWM")}


def limits(spec: dict) -> dict:
    from beside.limits import measure_limits

    return measure_limits(*(spec[k] for k in ("size", "threads", "libraries", "budget")))


def checkpoint(spec: dict) -> dict:
    from beside.exports import checkpoint_folder
    from workload import make_checkpoint

    make_checkpoint(checkpoint_folder(Path(spec["folder"]), spec["size"]), spec["size"])
    return {}


def export(spec: dict) -> dict:
    from beside.exports import make_files

    make_files(Path(spec["folder"]), spec["size"], spec["engine"])
    return {}


def accuracy(spec: dict) -> dict:
    """Embeddings of the bundled, trained model: what a dtype costs where weights mean something."""
    import numpy as np
    from workload import protein_sequences

    import moltide

    moltide.set_num_threads(spec["threads"])
    np.save(spec["save"], moltide.load("protein-mini", dtype=spec["dtype"]).embed(
        protein_sequences(spec["count"])
    ))  # fmt: skip
    return {}


def profile(spec: dict) -> dict:
    from beside.symbols import profile_embedding

    return profile_embedding(spec)


def scale(spec: dict) -> dict:
    from scaling import measure_point

    return measure_point(spec)


KINDS = {
    "embed": embed, "train-full": train, "train-lora": train, "startup": startup, "limits": limits,
    "checkpoint": checkpoint, "export": export, "accuracy": accuracy, "profile": profile,
    "scale": scale,
}  # fmt: skip

if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps(KINDS[request["kind"]](request)), flush=True)
