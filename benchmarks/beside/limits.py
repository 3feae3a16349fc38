"""What the machine can do at most: instruction peak, large matrix products, memory streams.

The limit of a matrix product is the best that any library here reaches with a large one and packed
weights: ours, PyTorch's (oneDNN) and OpenVINO's are tried. Times are of the wall clock, the best of
many: other load on the machine disturbs them least so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from matmul import best_seconds, torch_calls
from workload import SIZES

# (tokens, out, in): ESM-2's larger projections and a square product.
SHAPES = ((256, 1280, 1280), (1024, 1280, 1280), (1024, 5120, 1280), (2048, 2048, 2048))
# Rows of x where the model's own shapes are measured: a few sequences.
TOKENS = 1024
DTYPES = ("float32", "bf16", "int8")
# Bytes of each array of a memory stream: beyond the caches of a core, not always a server's L3.
STREAM_BYTES = 1 << 27


def measure_limits(size: str, threads: int, libraries: list[str], budget: float) -> dict:
    """FLOP/s by dtype: "peak", "gemm" (the best large product, "by" whom), "shapes" (of `size`).

    "memory" is bytes/s. `libraries`: of PyTorch and OpenVINO, which try beside moltide.
    """
    width = SIZES[size][1]
    # A layer: four of the first (queries, keys, values, output), up and down.
    own = [(TOKENS, width, width)] * 4 + [(TOKENS, 4 * width, width), (TOKENS, width, 4 * width)]
    peak: dict[str, float] = {}
    gemm: dict[str, float] = {}
    by: dict[str, str] = {}
    shapes: dict[str, float] = {}
    for dtype in DTYPES:
        reached = instruction_peak(dtype)
        if reached is not None:
            peak[dtype] = reached * threads
        fastest: dict[tuple, tuple[float, str]] = {}
        for name, shape, seconds in _products(dtype, {*SHAPES, *own}, threads, libraries, budget):
            fastest[shape] = min(fastest.get(shape, (seconds, name)), (seconds, name))
        if not fastest:
            continue
        rates = {s: _flops(s) / seconds for s, (seconds, _) in fastest.items() if s in SHAPES}
        best = max(rates, key=rates.__getitem__)
        gemm[dtype] = rates[best]
        by[dtype] = f"{fastest[best][1]}, {' x '.join(map(str, best))}"
        shapes[dtype] = sum(map(_flops, own)) / sum(fastest[s][0] for s in own)
    return {
        "peak": peak, "gemm": gemm, "by": by, "shapes": shapes,
        "memory": stream_bytes_per_second(threads),
    }  # fmt: skip


def _flops(shape: tuple[int, int, int]) -> float:
    return 2.0 * shape[0] * shape[1] * shape[2]


def instruction_peak(dtype: str) -> float | None:
    """FLOP/s of a core with all operands in registers; None where the engine has no such path."""
    from moltide._engine import ops

    if dtype == "int8":
        return max(ops.matmul_i8_peak() for _ in range(3)) or None
    return max(ops.matmul_peak_flops(dtype) for _ in range(3))


def _products(
    dtype: str, shapes: set[tuple], threads: int, libraries: list[str], budget: float
) -> Iterator[tuple[str, tuple, float]]:
    import moltide
    from moltide._engine import ops

    moltide.set_num_threads(threads)
    for shape in shapes:
        if dtype == "int8":
            yield "moltide", shape, ops.time_matmul_i8(*shape, "forward", budget)
        else:
            yield "moltide", shape, ops.time_matmul(*shape, dtype, "forward", budget)
    if dtype == "int8":
        return
    makers = {"PyTorch": _torch_product, "OpenVINO": _openvino_product}
    for name in libraries:
        for shape in shapes:
            try:
                call = makers[name](*shape, dtype, threads)
            except ImportError:
                break
            yield name, shape, best_seconds(call, budget)


def _torch_product(m: int, n: int, k: int, dtype: str, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    return torch_calls(m, n, k, dtype)["forward"]


def _openvino_product(m: int, n: int, k: int, dtype: str, threads: int) -> Callable[[], object]:
    import openvino
    from openvino import opset13

    rng = np.random.default_rng(0)
    x = opset13.parameter([m, k], np.float32)
    weight = opset13.constant(rng.normal(size=(n, k)).astype(np.float32))
    product = opset13.matmul(x, weight, transpose_a=False, transpose_b=True)
    precision = {"float32": "f32", "bf16": "bf16"}[dtype]
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(openvino.Model([product], [x]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(rng.normal(size=(m, k)).astype(np.float32)))
    return request.infer


def stream_bytes_per_second(threads: int, rounds: int = 5) -> float:
    """The better of copying and of the sum a += b, read and written bytes counted once each."""
    from concurrent.futures import ThreadPoolExecutor

    count = STREAM_BYTES // 4
    a, b = np.zeros(count, np.float32), np.ones(count, np.float32)
    parts = [slice(i * count // threads, (i + 1) * count // threads) for i in range(threads)]

    def copy(part: slice) -> None:
        np.copyto(a[part], b[part])

    def add(part: slice) -> None:
        np.add(a[part], b[part], out=a[part])

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for work, arrays in ((copy, 2), (add, 3)):
            for _ in range(rounds):
                start = time.perf_counter()
                list(pool.map(work, parts))
                best = max(best, arrays * STREAM_BYTES / (time.perf_counter() - start))
    return best
