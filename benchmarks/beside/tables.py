"""Rows as Markdown and CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from beside.rows import Row
from beside.trainers import DEFAULT_TOKENS, FEWER_TOKENS
from beside.verdict import Verdict

EMBED_HEAD = (
    "| engine | dtype | residues/s (min..max) | seq/s | moltide, same dtype | of the limit "
    "| of its shapes | of memory | ready MB | peak MB | difference | 1 - cosine |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
)
TRAIN_HEAD = (
    "| engine | dtype | seq/s (min..max) | residues/s | moltide, same dtype | of the limit "
    "| of its shapes | of memory | ready MB | peak MB |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
)
STARTUP_HEAD = (
    "| engine | dtype | seconds (min..max) | to moltide |",
    "|---|---|---:|---:|",
)
LEGEND = f"""Each row is a process of its own; medians of all its passes in all rounds, with the
slowest and fastest. *moltide, same dtype*: how many times as fast moltide is at the same dtype. *Of
the limit*: FLOP/s of the products and attention that the task needs (no padding; training counts 3
forward passes, LoRA 2) as a share of the best large matrix product above; *of its shapes*: of the
best products of this model's own shapes. *Of memory*: what reading the weights once a pass
(training: twice, and AdamW's state) takes of the measured stream. *Ready*: resident memory with the
model loaded, before the first result. *Difference*: the largest from moltide's float32 embeddings,
over their root mean square; *1 - cosine*: of the worst sequence. In training moltide computes
{DEFAULT_TOKENS:,} tokens at once (`--max-tokens`), {FEWER_TOKENS:,} where blocks are recomputed
(`--recompute`: the same bits with less memory, not held to the bars) and in float32, unless all
weights are trained by steps of no more than {DEFAULT_TOKENS:,}. Start-up: a process's start to its
end with one embedding of 300 residues made (moltide: the command, with its file written)."""


def limit_lines(limits: dict) -> list[str]:
    lines = [
        "| dtype | instruction peak, GFLOP/s | best large product | by (tokens x out x in) "
        "| products of ESM-2's shapes |",
        "|---|---:|---:|---|---|",
    ]
    for dtype, reached in limits["gemm"].items():
        peak = limits["peak"].get(dtype)
        text = f"{peak / 1e9:,.0f}" if peak else ""
        sizes = [f"{s} {v[dtype] / 1e9:,.0f}" for s, v in limits["shapes"].items() if dtype in v]
        by = limits["by"][dtype]
        lines.append(f"| {dtype} | {text} | {reached / 1e9:,.0f} | {by} | {', '.join(sizes)} |")
    return [*lines, "", f"Memory, streamed: {limits['memory'] / 1e9:,.1f} GB/s."]


def case_lines(rows: list[Row], limits: dict, missing: list[str]) -> list[str]:
    """A heading, the table of one case's rows, and what was left out with the reason."""
    case = rows[0].case
    head = {"embed": EMBED_HEAD, "startup": STARTUP_HEAD}.get(case.kind, TRAIN_HEAD)
    count = f", {rows[0].lengths.sum():,} residues, sequences: {case.count}"
    lines = [f"### {case.name}{count if case.kind == 'embed' else ''}", "", *head]
    own: dict[str, Row] = {}
    for row in rows:
        if row.configuration.engine == "moltide" and row.seconds:
            own.setdefault(row.configuration.dtype, row)
    for row in rows:
        if row.seconds:
            lines.append(_line(row, own, limits))
    return [*lines, *(f"\nNot measured: {text}" for text in missing), ""]


def _line(row: Row, own: dict[str, Row], limits: dict) -> str:
    c = row.configuration
    same = own.get(c.dtype)
    if row.case.kind == "startup":
        first = next(iter(own.values()), None)
        ratio = f"{row.median / first.median:.2f}x" if first else ""
        cells = [f"{row.median:.2f} ({min(row.seconds):.2f}..{max(row.seconds):.2f})", ratio]
        return _joined([c.label, c.dtype, *cells])
    ratio = f"{same.rate / row.rate:.2f}x" if same else ""
    limit = limits["gemm"].get(c.dtype)
    shapes = limits["shapes"].get(row.case.size, {}).get(c.dtype)
    low, high = row.spread
    each = row.lengths.sum() / row.case.count
    if row.case.kind == "embed":
        rates = [f"{row.rate:,.0f} ({low:,.0f}..{high:,.0f})", f"{row.rate / each:,.1f}"]
    else:
        rates = [
            f"{row.rate / each:,.1f} ({low / each:,.1f}..{high / each:,.1f})", f"{row.rate:,.0f}"
        ]  # fmt: skip
    cells = [
        *rates,
        ratio,
        f"{row.flops / limit:.0%}" if limit else "",
        f"{row.flops / shapes:.0%}" if shapes else "",
        f"{row.weight_bytes / limits['memory']:.1%}",
        f"{max(row.ready_mb):,.0f}",
        f"{max(row.peak_mb):,.0f}",
    ]
    if row.case.kind == "embed":
        cells += [
            "" if row.difference is None else f"{row.difference:.1e}",
            "" if row.cosine is None else f"{1 - row.cosine:.1e}",
        ]
    return _joined([c.label, c.dtype, *cells])


def _joined(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def verdict_lines(verdicts: list[Verdict]) -> list[str]:
    passed = sum(v.passed is True for v in verdicts)
    missed = sum(v.passed is False for v in verdicts)
    return [
        "## Against the bars",
        "",
        f"{passed} passed, {missed} missed, {len(verdicts) - passed - missed} not measured.",
        "",
        "| case | bar | found | against | |",
        "|---|---:|---:|---|---|",
        *(_joined([v.case, v.bar, v.found, v.against, v.word]) for v in verdicts),
    ]


def write_csv(path: Path, rows: list[Row], facts: dict[str, str]) -> None:
    """One line for each configuration, with all that the tables are made of."""
    head = [
        *("date", "commit", "cpu", "isa", "threads", "clock"),
        *("case", "size", "length", "count", "engine", "dtype", "how"),
        *("passes", "median_s", "min_s", "max_s", "residues_per_s", "seq_per_s", "gflops"),
        *("ready_mb", "peak_mb", "difference", "cosine"),
    ]
    with path.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(head)
        for row in rows:
            if not row.seconds:
                continue
            case, c = row.case, row.configuration
            startup = case.kind == "startup"
            table.writerow([
                *(facts[k] for k in ("date", "commit", "cpu", "isa", "threads", "clock")),
                case.kind, case.size, case.length or "", case.count, c.engine, c.dtype, c.how,
                len(row.seconds),
                *(f"{s:.4f}" for s in (row.median, min(row.seconds), max(row.seconds))),
                *(
                    ["", "", ""] if startup
                    else [f"{row.rate:.1f}", f"{case.count / row.median:.3f}",
                          f"{row.flops / 1e9:.1f}"]
                ),
                *(f"{max(v):.0f}" if v else "" for v in (row.ready_mb, row.peak_mb)),
                *("" if v is None else f"{v:.3e}" for v in (row.difference, row.cosine)),
            ])  # fmt: skip
