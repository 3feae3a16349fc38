"""Where moltide's time goes, by op: Linux `perf` samples, grouped by the source file of a symbol.

Needs an engine with its symbols, as a build folder has it; wheels are stripped.
"""

from __future__ import annotations

import bisect
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

# First match wins: (what the table says, the source file's name, the symbol's name).
GROUPS = (
    ("matmul: epilogues (bias, GELU, residual, rounding)", r"^matmul", r"finish|epilogue|gelu"),
    ("matmul: packing weights", r"^matmul_pack", r""),
    ("matmul: packing weights", r"^matmul", r"pack_matrix"),
    ("quantising", r"^quantize", r""),
    ("matmul: products", r"^matmul|^linear", r""),
    ("attention", r"^attention", r""),
    ("LayerNorm", r"^layernorm|^rmsnorm", r""),
    ("RoPE", r"^rope", r""),
    ("activations apart (GELU)", r"^mlp_act", r""),
    ("embedding, residual, pooling", r"^embedding|^residual|^pool", r""),
)
OTHER, PYTHON, KERNEL = "engine: other", "Python, NumPy, libraries", "kernel (pages, scheduling)"


class ProfileError(Exception):
    """No profile can be taken here; the message says why."""


def profile_embedding(spec: dict) -> dict:
    """{"shares": {group: share}, "seconds": of one pass} of moltide embedding the length mix."""
    import os

    from workload import protein_sequences

    from beside.embedders import load_embedder
    from moltide import _engine

    perf = shutil.which("perf")
    if perf is None:
        raise ProfileError("--profile needs Linux perf (package linux-perf or linux-tools)")
    library = Path(_engine.__file__)
    table = symbol_files(library)
    if not table:
        raise ProfileError(f"{library} has no symbols: use a build folder's, wheels are stripped")
    sequences = protein_sequences(spec["count"])
    run = load_embedder("moltide", spec["dtype"], "", spec["size"], spec["folder"], spec["threads"])
    run(sequences)
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch, "samples")
        recorder = subprocess.Popen(
            [perf, "record", "-q", "-F", "997", "-o", str(samples), "-p", str(os.getpid())],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(0.5)
        if recorder.poll() is not None:
            raise ProfileError(f"perf record: {recorder.stderr.read().strip()[-300:]}")
        passes, start = 0, time.process_time()
        while time.process_time() - start < spec["budget"]:
            run(sequences)
            passes += 1
        took = (time.process_time() - start) / passes
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
        listing = subprocess.run(
            [perf, "report", "-i", str(samples), "-v", "--stdio", "--sort", "dso,sym"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
    return {"shares": shares(listing, library.resolve().name, table), "seconds": took}


def symbol_files(library: Path) -> list[tuple[int, str]]:
    """(address, source file) of the library's functions, by address; empty if it is stripped.

    Functions that the linker made local name no file: they lie behind others of theirs.
    """
    if shutil.which("readelf") is None:
        raise ProfileError("--profile needs readelf (package binutils)")
    lines = subprocess.run(
        ["readelf", "-sW", str(library)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    out, source = [], ""
    for line in lines:
        cells = line.split()
        if len(cells) < 4:
            continue
        if cells[3] == "FILE":
            source = cells[7] if len(cells) > 7 else ""
        elif cells[3] == "FUNC" and cells[4] == "LOCAL" and source:
            out.append((int(cells[1], 16), source))
    return sorted(out)


def shares(listing: str, library: str, table: list[tuple[int, str]]) -> dict[str, float]:
    """`perf report -v --sort dso,sym` in groups, largest first."""
    total: Counter[str] = Counter()
    addresses = [address for address, _ in table]
    pattern = re.compile(r"^\s*([\d.]+)%\s+(\S+)\s+(?:0x([0-9a-f]+))?.*?\[([.k])\]\s*(.*)$")
    for line in listing.splitlines():
        match = pattern.match(line)
        if match is None:
            continue
        percent, dso, address, level, symbol = match.groups()
        if level == "k":
            group = KERNEL
        elif library not in dso:
            group = PYTHON
        else:
            at = bisect.bisect_right(addresses, int(address or "0", 16)) - 1
            group = _group(table[at][1] if at >= 0 else "", symbol)
        total[group] += float(percent)
    whole = sum(total.values()) or 1.0
    return {group: value / whole for group, value in total.most_common()}


def _group(source: str, symbol: str) -> str:
    for group, files, names in GROUPS:
        if re.search(files, source) and re.search(names, symbol):
            return group
    return OTHER
