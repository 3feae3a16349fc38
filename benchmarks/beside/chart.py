"""Bars of residues/s by engine and size, as an SVG for light and dark pages."""

from __future__ import annotations

from pathlib import Path

from beside.configurations import ALL, SDPA_FILE
from beside.rows import Row

# Greys and hues that keep their contrast on white and on near-black.
TEXT, OWN, PEER = "#7d8590", "#1f9d8a", "#8c96a3"


def use_style() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "font.size": 9.5, "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT,
        "xtick.color": TEXT, "ytick.color": TEXT, "axes.spines.top": False,
        "axes.spines.right": False, "savefig.transparent": True, "svg.hashsalt": "moltide",
        "legend.frameon": False, "axes.titlesize": 10.5, "axes.titlecolor": TEXT,
    })  # fmt: skip


def save(figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def chosen(rows: list[Row]) -> list[Row]:
    """The fastest way of each engine and dtype, and Transformers as most people run it."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row.configuration.engine, row.configuration.dtype)
        if row.seconds and (key not in best or row.rate > best[key].rate):
            best[key] = row
    common = [r for r in rows if r.seconds and r.configuration.how == SDPA_FILE]
    listed = [*best.values(), *(r for r in common if r not in best.values())]
    return sorted(listed, key=lambda r: r.rate)


def _name(row: Row) -> str:
    c = row.configuration
    dtype = {"float32": "f32"}.get(c.dtype, c.dtype)
    return f"{c.engine} {dtype}" + (", batch 8" if "batch 8" in c.how else "")


def draw(rows: list[Row], path: Path, facts: dict[str, str]) -> None:
    import matplotlib.pyplot as plt

    use_style()
    embedded = [r for r in rows if r.case.kind == "embed" and r.seconds]
    by_size = {s: chosen([r for r in embedded if r.case.size == s]) for s in ALL}
    panels = {size: listed for size, listed in by_size.items() if listed}
    if not panels:
        return
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    most = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        lines, columns, figsize=(8.6, lines * (0.55 + 0.235 * most)), squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (size, listed) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, size, listed)
    cores = "one core" if facts["threads"] == "1" else f"{facts['threads']} threads"
    figure.suptitle(
        f"Embedding, residues/s on {cores} ({facts['isa']}); in brackets: moltide bf16 over it",
        color=TEXT, fontsize=10.5,
    )  # fmt: skip
    figure.tight_layout()
    save(figure, path)
    plt.close(figure)


def _panel(axis, size: str, listed: list[Row]) -> None:
    names = [_name(row) for row in listed]
    own = [row.configuration.engine == "moltide" for row in listed]
    axis.barh(names, [r.rate for r in listed], color=[OWN if o else PEER for o in own], height=0.7)
    ours = next((r for r, o in zip(listed, own, strict=True) if o and "bf16" in _name(r)), None)
    top = listed[-1].rate
    for place, row in enumerate(listed):
        ratio = f" ({ours.rate / row.rate:.1f}x)" if ours is not None and not own[place] else ""
        axis.text(row.rate + top * 0.015, place, f"{row.rate:,.0f}{ratio}", va="center")
    for label, is_own in zip(axis.get_yticklabels(), own, strict=True):
        label.set_fontweight("bold" if is_own else "normal")
    axis.set_xlim(0, top * 1.32)
    axis.set_title(f"ESM-2 {size}", loc="left")
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(axis="y", length=0)
