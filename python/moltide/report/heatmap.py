"""The heat map of a single-mutant scan: residues down, positions along, log-odds as colour."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.atomic import atomic_path, atomic_write_text
from moltide.errors import ConfigError, DataError
from moltide.report.style import GRID, INK, MUTED, drawing, new_figure, plain, to_svg
from moltide.report.words import minus
from moltide.sequences import RESIDUES

#: Rows by chemistry, so that neighbours in the picture are neighbours in character.
ORDER = "GAVLIMCFYWHKRQNEDSTP"
_ACROSS = 70
_FORMATS = (".html", ".svg", ".png")


def check_format(path: str | os.PathLike[str]) -> str:
    """The ending of a file that `write_heatmap` can write.

    Raises:
        ConfigError: another file ending.
    """
    kind = Path(path).suffix.lower()
    if kind not in _FORMATS:
        raise ConfigError(f"heat map {str(path)!r}: expected one of {', '.join(_FORMATS)}")
    return kind


def write_heatmap(
    scores: npt.ArrayLike,
    wildtype: str,
    path: str | os.PathLike[str],
    *,
    residues: str = RESIDUES,
    numbering: int = 1,
    title: str = "",
    subtitle: str = "",
    label: str = "Log-odds against the wild type",
) -> None:
    """Draw a scan and write it to `path`, whole or not at all.

    Args:
        scores: (L, R) for each position and each of `residues`; NaN is left blank.
        wildtype: L residues; a dot marks each one's own cell.
        path: .html (one offline page), .svg or .png.
        numbering: the number of the first residue.

    Raises:
        DataError: shapes that do not fit.
        ConfigError: another file ending.
        OSError: the folder is missing or not writable.
    """
    table = np.asarray(scores, np.float64)
    if table.shape != (len(wildtype), len(residues)):
        raise DataError(
            f"scan has shape {table.shape}, expected ({len(wildtype)}, {len(residues)}) for the "
            "wild type and residues given"
        )
    kind = check_format(path)
    with drawing():
        figure = _draw(
            table, wildtype, residues, numbering, label, "" if kind == ".html" else title
        )
        alt = f"Scores of all single substitutions of {len(wildtype)} residues. {title}"
        if kind == ".png":
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format="png", dpi=200, facecolor="white")
            return
        if kind == ".svg":
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format="svg", dpi=200, facecolor="white")
            return
        svg = to_svg(figure, alt, dpi=200)
    from moltide.report.render import render_page

    atomic_write_text(
        path, render_page(title or "Single-mutant scan", subtitle, svg, legend(table))
    )


def legend(table: npt.NDArray[np.float64]) -> str:
    """How to read the picture, in words."""
    known = table[np.isfinite(table)]
    span = minus(f"{known.min():.2f} to {known.max():.2f}") if len(known) else "none"
    return (
        "Blue: the model likes the substitution less than the wild type; orange: more. A dot marks "
        f"the wild type's own residue. Scores run from {span}; colours saturate at the 1st and "
        "99th percentile."
    )


def _draw(
    table: npt.NDArray[np.float64],
    wildtype: str,
    residues: str,
    numbering: int,
    label: str,
    title: str,
) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm

    length = len(wildtype)
    known = table[np.isfinite(table)]
    low, high = np.percentile(known, [1, 99]) if len(known) else (-1.0, 1.0)
    low, high = min(float(low), -1e-6), max(float(high), 1e-6)
    # Both arms share one scale, so that equal steps of colour are equal steps of score.
    reach = max(-low, high)
    colours = LinearSegmentedColormap.from_list(
        "moltide-scan",
        ["#123f7a", "#3f7fbf", "#a9c9e6", "#f5f5f3", "#f2b98a", "#d3701f", "#8a3d06"],
    )
    norm = TwoSlopeNorm(0.0, -reach, reach)
    shown = "".join(r for r in ORDER if r in residues)
    shown += "".join(r for r in residues if r not in shown)
    column = [residues.index(r) for r in shown]
    panels = max(1, -(-length // _ACROSS))
    figure, axes = new_figure(1100, 70 + panels * (11 * len(shown) + 52), nrows=panels, ncols=1)
    grid: list[Any] = list(np.atleast_1d(axes))
    picture = None
    for panel, chart in enumerate(grid):
        start, end = panel * _ACROSS, min(length, (panel + 1) * _ACROSS)
        block = np.full((len(shown), _ACROSS), np.nan)
        block[:, : end - start] = table[start:end][:, column].T
        picture = chart.pcolormesh(
            np.arange(_ACROSS + 1) - 0.5,
            np.arange(len(shown) + 1) - 0.5,
            block,
            cmap=colours,
            norm=norm,
            rasterized=True,
        )
        own = [(i, shown.index(r)) for i, r in enumerate(wildtype[start:end]) if r in shown]
        if own:
            chart.scatter(
                *zip(*own, strict=True), s=5, color="#1d2733", linewidths=0, rasterized=True
            )
        chart.set_yticks(range(len(shown)), list(shown), fontsize=7, family="monospace")
        ticks = [
            i for i in range(end - start) if (start + i + numbering) % 10 == 0 or start + i == 0
        ]
        chart.set_xticks(ticks, [str(start + i + numbering) for i in ticks], fontsize=8)
        for i, residue in enumerate(wildtype[start:end]):
            chart.text(
                i,
                -0.75,
                plain(residue),
                ha="center",
                va="bottom",
                fontsize=6.5,
                color=MUTED,
                family="monospace",
            )
        chart.set_xlim(-0.5, _ACROSS - 0.5)
        chart.set_ylim(len(shown) - 0.5, -0.5)
        chart.tick_params(length=2, color=GRID)
        chart.grid(visible=False)
        for spine in chart.spines.values():
            spine.set_visible(False)
    grid[-1].set_xlabel("Position")
    if title:
        grid[0].set_title(plain(title, 100), pad=16, color=INK)
    if picture is not None:
        bar = figure.colorbar(
            picture,
            ax=grid,
            location="bottom",
            fraction=0.012 / panels + 0.004,
            aspect=60,
            shrink=0.5,
            pad=0.01,
        )
        bar.set_label(label)
        bar.outline.set_visible(False)
    return figure
