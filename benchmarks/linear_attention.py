"""Attention by the length of sequences: MoLFormer's linear one beside softmax, and in PyTorch.

    taskset -c 0 python benchmarks/linear_attention.py --write
    python benchmarks/linear_attention.py --dtype bf16 --lengths 128 1024 8192 --threads 2

The same number of tokens each time, cut into sequences of each length, MoLFormer's heads (12 of 64,
32 random features). Softmax costs a token in proportion to the length, linear attention the same
whatever the length. Forward, and forward with backward, from projected queries, keys and values in
memory; PyTorch's are `scaled_dot_product_attention`, and linear attention as its formula reads.
Engines take turns; each figure is the best of its rounds. "product" is our matrix product's rate on
256 x 768 x 768 in the same run, "peak" what multiply-adds reach with operands in registers (float32
products may pass it: see docs/kernels.md on additions that have units of their own).
--write stores table and plot in benchmarks/results/. PyTorch is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

HEADS, HEAD_DIM, FEATURES = 12, 64, 32
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
OWN_LINEAR, OWN_SOFTMAX = "moltide, linear", "moltide, softmax"
TORCH_LINEAR, TORCH_SOFTMAX = "PyTorch, linear", "PyTorch, softmax"
ENGINES = (OWN_LINEAR, OWN_SOFTMAX, TORCH_LINEAR, TORCH_SOFTMAX)
PASSES = ("forward", "forward + backward")
# Of the forward and of both passes, a token, head, dimension and feature.
OPERATIONS = {"forward": 8, "forward + backward": 26}
Found = dict[tuple[str, int, str], float]


def own_seconds(length: int, options: argparse.Namespace) -> Found:
    """By engine, length and pass."""
    from moltide import _engine

    def linear(backward: bool) -> float:
        return _engine.ops.time_linear_attention(
            options.tokens, length, HEADS, HEAD_DIM, FEATURES, options.dtype, backward,
            options.budget,
        )  # fmt: skip

    def softmax(backward: bool) -> float:
        return _engine.ops.time_attention(
            options.tokens, length, HEADS, HEAD_DIM, options.dtype, backward, options.budget
        )

    found: Found = {}
    for engine, call in ((OWN_LINEAR, linear), (OWN_SOFTMAX, softmax)):
        forward = call(False)
        found[engine, length, PASSES[0]] = forward
        found[engine, length, PASSES[1]] = forward + call(True)
    return found


def best_seconds(call: Callable[[], object], budget: float) -> float:
    call()
    best, end = float("inf"), time.perf_counter() + budget
    while True:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() >= end:
            return best


def torch_seconds(length: int, options: argparse.Namespace) -> Found:
    try:
        import torch
    except ImportError:
        return {}
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    shape = (options.tokens // length, HEADS, length, HEAD_DIM)
    q, k, v, dout = (torch.randn(shape).to(dtype) for _ in range(4))
    w = torch.randn(HEAD_DIM, FEATURES).to(dtype)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]

    def linear(q, k, v):
        fq, fk = torch.relu(q @ w), torch.relu(k @ w)
        normaliser = (fq @ fk.sum(-2).unsqueeze(-1)).clamp(min=1e-6)
        return fq @ (fk.transpose(-1, -2) @ v) / normaliser

    def both(attention: Callable) -> None:
        for leaf in leaves:
            leaf.grad = None
        attention(*leaves).backward(dout)

    def forward(attention: Callable) -> None:
        with torch.no_grad():
            attention(q, k, v)

    softmax = torch.nn.functional.scaled_dot_product_attention
    found: Found = {}
    for engine, attention in ((TORCH_LINEAR, linear), (TORCH_SOFTMAX, softmax)):
        for name, call in zip(PASSES, (forward, both), strict=True):
            once = functools.partial(call, attention)
            found[engine, length, name] = best_seconds(once, options.budget)
    return found


def measure(options: argparse.Namespace) -> tuple[Found, dict[str, float]]:
    """Seconds, and the rates of the product and of multiply-adds, operations a second."""
    from moltide import _engine

    best: Found = {}
    rates = {"product": 0.0, "peak": 0.0}
    for _ in range(options.rounds):
        took = _engine.ops.time_matmul(256, 768, 768, "float32", "forward", options.budget)
        rates["product"] = max(rates["product"], 2 * 256 * 768 * 768 / took)
        peak = _engine.ops.matmul_peak_flops("float32") * options.threads
        rates["peak"] = max(rates["peak"], peak)
        for length in options.lengths:
            for found in (own_seconds(length, options), torch_seconds(length, options)):
                for key, seconds in found.items():
                    best[key] = min(best.get(key, seconds), seconds)
            print(f"{length:,} tokens done", flush=True)
    return best, rates


def table(found: Found, rates: dict[str, float], options: argparse.Namespace) -> list[str]:
    engines = [e for e in ENGINES if (e, options.lengths[0], PASSES[0]) in found]
    lines: list[str] = []
    for name in PASSES:
        lines += [
            f"Microseconds a token, {name}; then what moltide's linear attention computes:",
            "",
            f"| tokens | {' | '.join(engines)} | GFLOP/s | of the product | of the peak |",
            "|---:|" + "---:|" * (len(engines) + 3),
        ]
        for length in options.lengths:
            costs = [found[e, length, name] / options.tokens for e in engines]
            rate = OPERATIONS[name] * HEADS * HEAD_DIM * FEATURES / costs[0]
            cells = [f"{c * 1e6:,.2f}" for c in costs] + [f"{rate * 1e-9:,.0f}"]
            cells += [f"{rate / rates[r]:.0%}" for r in ("product", "peak")]
            lines.append(f"| {length:,} | {' | '.join(cells)} |")
        cost = [found[OWN_LINEAR, n, name] for n in options.lengths]
        lines += ["", f"Linear, dearest length over cheapest: {max(cost) / min(cost):.2f}.", ""]
    return lines


def draw(found: Found, path: Path, title: str, options: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    from beside.chart import OWN, PEER, TEXT, save, use_style

    use_style()
    styles = dict(zip(ENGINES, ("o-", "s--", "o-", "s--"), strict=True))
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.2), sharey=True)
    for axis, name in zip(axes, PASSES, strict=True):
        for engine, style in styles.items():
            if (engine, options.lengths[0], name) not in found:
                continue
            cost = [found[engine, n, name] / options.tokens * 1e6 for n in options.lengths]
            color = OWN if engine.startswith("moltide") else PEER
            axis.plot(options.lengths, cost, style, color=color, label=engine, markersize=4)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(options.lengths, [f"{n:,}" for n in options.lengths], rotation=45)
        axis.minorticks_off()
        axis.set_xlabel("tokens a sequence")
        axis.set_title(f"microseconds a token, {name}", loc="left")
    axes[0].legend(loc="upper left", labelcolor=TEXT)
    figure.suptitle(title, color=TEXT, fontsize=10.5)
    figure.tight_layout()
    save(figure, path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--lengths", nargs="+", type=int, default=list(LENGTHS))
    add("--tokens", type=int, default=8192, help="a multiple of every length")
    add("--dtype", choices=["float32", "bf16"], default="float32")
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=3)
    add("--budget", type=float, default=0.2, help="seconds of a figure in a round, at least a call")
    add("--isa", default="", help="instruction set (default: the best)")
    add("--write", action="store_true", help="store table and plot in benchmarks/results")
    options = parser.parse_args()
    for length in options.lengths:
        if length < 1 or options.tokens % length:
            parser.error(f"--lengths {length}: --tokens {options.tokens} is no multiple of it")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)

    from workload import machine

    from moltide import _engine

    _engine.set_num_threads(options.threads)
    if options.isa:
        _engine.set_isa(options.isa)
    found, rates = measure(options)
    facts = machine() | {"threads": str(options.threads), "tokens": f"{options.tokens:,}"}
    try:
        import torch

        facts["torch"] = torch.__version__
    except ImportError:
        pass
    facts |= {f"{name}, float32": f"{rate * 1e-9:,.0f} GFLOP/s" for name, rate in rates.items()}
    what = f"Attention by length, {HEADS} heads of {HEAD_DIM}, {options.dtype}"
    head = [f"- {key}: {value}" for key, value in facts.items()]
    lines = [f"# {what}", "", *head, "", *table(found, rates, options)]
    print("\n".join(lines))
    if options.write:
        name = f"{facts['date']}-linear-attention-{options.dtype}-{options.threads}t"
        base = Path(__file__).parent / "results" / name
        base.parent.mkdir(exist_ok=True)
        base.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n")
        title = f"{what}, {facts['isa']}, {facts['threads']} thread"
        draw(found, base.with_suffix(".svg"), title, options)
        print(f"written: {base}.md, .svg")


if __name__ == "__main__":
    main()
