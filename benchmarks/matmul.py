"""The matrix product at ESM-2's shapes, beside NumPy's BLAS and PyTorch, in GFLOP/s.

    taskset -c 0 python benchmarks/matmul.py --sizes 8M,35M --isa avx512,amx --write

For each layer shape (tokens x out x in): forward (with bias), forward with GELU, dx, dw (with db).
"peak" is what the instruction set's multiply-add instruction reaches with all operands in
registers, measured in the same run. The engines take turns; each figure is the best of its rounds.
NumPy and PyTorch compute plain products of the same shapes (no bias, GELU or accumulation), with
their outputs allocated before; PyTorch is left out where it is not installed. "error" is that of
float32's forward product of normal values against float64, root mean square over that of the
result. A share above 100 % is no mistake: some processors have adders beside the multiply-add
units.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WIDTHS = {"8M": 320, "35M": 480, "150M": 640, "650M": 1280}
OPS = ("forward", "gelu", "dx", "dw")
Row = dict[str, object]


def layer_shapes(size: str) -> list[tuple[int, int]]:
    """(out, in) of a layer's projections: attention, feed-forward up and down, LoRA's two."""
    width = WIDTHS[size]
    return [(width, width), (4 * width, width), (width, 4 * width), (8, width), (width, 8)]


def best_seconds(call: Callable[[], object], budget: float) -> float:
    call()
    best, end = float("inf"), time.perf_counter() + budget
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def numpy_calls(m: int, n: int, k: int) -> dict[str, Callable[[], object]]:
    import numpy as np

    rng = np.random.default_rng(0)
    x, dy, w = (rng.normal(size=s).astype(np.float32) for s in ((m, k), (m, n), (n, k)))
    y, dx, dw = (np.empty(s, np.float32) for s in ((m, n), (m, k), (n, k)))
    return {
        "forward": lambda: np.matmul(x, w.T, out=y),
        "dx": lambda: np.matmul(dy, w, out=dx),
        "dw": lambda: np.matmul(dy.T, x, out=dw),
    }


def torch_calls(m: int, n: int, k: int, dtype: str) -> dict[str, Callable[[], object]]:
    import torch

    kind = {"float32": torch.float32, "bf16": torch.bfloat16}[dtype]
    x, dy, w = (torch.randn(s).to(kind) for s in ((m, k), (m, n), (n, k)))
    y, dx, dw = (torch.empty(s, dtype=kind) for s in ((m, n), (m, k), (n, k)))
    return {
        "forward": lambda: torch.matmul(x, w.T, out=y),
        "dx": lambda: torch.matmul(dy, w, out=dx),
        "dw": lambda: torch.matmul(dy.T, x, out=dw),
    }


def float32_errors(n: int, k: int, isas: list[str]) -> dict[str, float]:
    """By engine: root mean square of the error of 64 rows over that of the product."""
    import numpy as np

    from moltide import _engine

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, k)).astype(np.float32), rng.normal(size=(n, k)).astype(np.float32)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    products = {"NumPy": x @ w.T}
    for isa in isas:
        _engine.set_isa(isa)
        products[isa] = _engine.ops.matmul(x, w)
    try:
        import torch

        products["PyTorch"] = torch.matmul(torch.from_numpy(x), torch.from_numpy(w).T).numpy()
    except ImportError:
        pass
    size = np.linalg.norm(exact)
    return {engine: float(np.linalg.norm(y - exact) / size) for engine, y in products.items()}


def peers(m: int, n: int, k: int, dtype: str) -> Iterator[tuple[str, dict[str, Callable]]]:
    if dtype == "float32":
        yield "NumPy", numpy_calls(m, n, k)
    try:
        yield "PyTorch", torch_calls(m, n, k, dtype)
    except ImportError:
        return


def measure(shape: tuple[int, int, int], dtype: str, options: argparse.Namespace) -> list[Row]:
    """One row per engine and operation."""
    from moltide import _engine

    m, n, k = shape
    seconds: dict[tuple[str, str], float] = {}
    peak: dict[str, float] = {}
    others = list(peers(m, n, k, dtype))
    for _ in range(options.rounds):
        for isa in options.isa:
            _engine.set_isa(isa)
            peak[isa] = max(peak.get(isa, 0.0), _engine.ops.matmul_peak_flops(dtype))
            for op in OPS:
                took = _engine.ops.time_matmul(m, n, k, dtype, op, options.budget)
                seconds[isa, op] = min(seconds.get((isa, op), took), took)
        for name, calls in others:
            for op, call in calls.items():
                took = best_seconds(call, options.budget)
                seconds[name, op] = min(seconds.get((name, op), took), took)
    flops = 2.0 * m * n * k
    errors = float32_errors(n, k, options.isa) if dtype == "float32" else {}
    return [
        {
            "shape": f"{m} x {n} x {k}",
            "dtype": dtype,
            "engine": engine,
            "op": op,
            "gflops": flops / took * 1e-9,
            "share": flops / took / (peak[engine] * options.threads) if engine in peak else None,
            "peak": peak.get(engine),
            "error": errors.get(engine),
        }
        for (engine, op), took in seconds.items()
    ]


def table(rows: list[Row]) -> list[str]:
    """A line for each shape, type and engine; GFLOP/s and the share of the peak for each op."""
    lines = [
        "| tokens x out x in | dtype | engine | " + " | ".join(OPS) + " | error |",
        "|---|---|---|" + "---:|" * (len(OPS) + 1),
    ]
    groups: dict[tuple[object, ...], dict[object, Row]] = {}
    for row in rows:
        groups.setdefault((row["shape"], row["dtype"], row["engine"]), {})[row["op"]] = row
    for key, ops in groups.items():
        cells = []
        for op in OPS:
            row = ops.get(op)
            share = f" ({row['share']:.0%})" if row and row["share"] is not None else ""
            cells.append(f"{row['gflops']:,.0f}{share}" if row else "")
        error = ops["forward"]["error"]
        cells.append("" if error is None else f"{error:.1e}")
        lines.append("| " + " | ".join([*map(str, key), *cells]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="8M,35M,150M,650M", help=f"of {', '.join(WIDTHS)}")
    parser.add_argument("--tokens", type=int, default=928, help="rows of x")
    parser.add_argument("--dtypes", default="float32,bf16")
    parser.add_argument("--isa", default="", help="instruction sets, default the best")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.1, help="seconds a figure and round")
    parser.add_argument(
        "--write", action="store_true", help="store the table in benchmarks/results"
    )
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)

    from workload import machine

    from moltide import _engine

    _engine.set_num_threads(options.threads)
    options.isa = options.isa.split(",") if options.isa else [_engine.active_isa()]
    rows: list[Row] = []
    for size in options.sizes.split(","):
        for n, k in layer_shapes(size):
            for dtype in options.dtypes.split(","):
                rows += measure((options.tokens, n, k), dtype, options)
                print(f"{options.tokens} x {n} x {k} {dtype} done", flush=True)
    peaks = {(r["engine"], r["dtype"]): r["peak"] for r in rows if r["peak"]}
    facts = machine() | {"threads": str(options.threads)}
    head = [f"- {key}: {value}" for key, value in facts.items() if key != "isa"]
    head += [
        f"- peak of a core, {isa} {dtype}: {peak * 1e-9:,.0f} GFLOP/s"
        for (isa, dtype), peak in peaks.items()
    ]
    text = ["# Matrix products, GFLOP/s (share of the peak)", "", *head, "", *table(rows)]
    if options.write:
        name = f"{facts['date']}-matmul-{options.threads}t.md"
        path = Path(__file__).parent / "results" / name
        path.write_text("\n".join(text) + "\n")
        print(f"wrote {path}")
    else:
        print("\n".join(text))


if __name__ == "__main__":
    main()
