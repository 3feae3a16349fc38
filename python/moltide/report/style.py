"""How figures look, and how a matplotlib figure becomes an SVG element of the page.

Figures use matplotlib's object interface only. Colours are fixed tokens that the SVG step turns
into CSS variables, so one file reads well on light and dark screens and on paper; text stays text.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

INK = "#1d2733"
MUTED = "#67727f"
GRID = "#e3e7ec"
MODEL = "#1668b0"
BASE = "#8b96a3"
ACCENT = "#b8501a"
PAPER = "#fdfefe"
#: Readable on white and on near black alike.
DENSITY = ("#5b96cf", "#8272cc", "#c25a92", "#e8834a")
_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", MODEL: "model", BASE: "base", ACCENT: "accent",
    PAPER: "paper",
}  # fmt: skip

_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "moltide",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": False,
}


@dataclass(frozen=True)
class Picture:
    """An SVG element and the words beside it. `alt` is plain text, `caption` too."""

    svg: str
    caption: str
    title: str = ""


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib's defaults plus the report's style, whatever the user's own settings are."""
    import matplotlib
    from matplotlib import style

    quiet = warnings.catch_warnings()
    with quiet, matplotlib.rc_context(), style.context(["default", _RC]):
        # A missing glyph or a cramped layout is the reader's font's affair, not an error.
        warnings.simplefilter("ignore")
        yield


def new_figure(width: float, height: float, **gridspec: Any) -> tuple[Any, Any]:
    """A figure of `width` x `height` CSS pixels and its axes; use inside `drawing`."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 96, height / 96), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(**gridspec)
    return figure, axes


def plain(text: str, limit: int = 60) -> str:
    """A user's words for an axis: control characters out, cut to `limit`, no math parsing."""
    cleaned = "".join(c if c.isprintable() else " " for c in text)
    shown = cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"
    return shown.replace("$", "\\$")


def density_map() -> Any:
    """The colour map of scatter density."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("moltide-density", list(DENSITY))


def to_svg(figure: Any, alt: str, dpi: int = 150) -> str:
    """The figure as one `<svg>` element for a page, labelled with `alt` for screen readers."""
    width = figure.get_figwidth() * 96
    stream = io.StringIO()
    if any(axes.get_aspect() != "auto" for axes in figure.axes):
        # Axes of fixed shape settle in steps; one pass of the layout may leave a label outside.
        for _ in range(3):
            figure.draw_without_rendering()
    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", dpi=dpi, metadata=none, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.S)
    text = _own_ids(text)
    # matplotlib 3.11 writes font-family alone, earlier releases the shorthand.
    text = re.sub(r"font-family: [^;\"]*", _family, text)
    text = re.sub(r"font: ([^;\"]*?)([\d.]+px) ([^;\"]*)", _shorthand, text)
    for token, name in _VARIABLES.items():
        text = text.replace(token, f"var(--{name})")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    opening = (
        f'<svg class="figure" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'xmlns="http://www.w3.org/2000/svg" {box.group()} role="img" '
        f'aria-label="{html.escape(alt, quote=True)}" style="max-width:{width:.0f}px">'
    )
    return opening + text[text.index(">") + 1 :].strip()


def _family(match: re.Match[str]) -> str:
    return "font-family: " + ("var(--mono)" if "Mono" in match.group() else "var(--sans)")


def _shorthand(match: re.Match[str]) -> str:
    weight = "bold " if re.search("bold|700", match.group(1)) else ""
    family = "var(--mono)" if "Mono" in match.group(3) else "var(--sans)"
    return f"font: {weight}{match.group(2)} {family}"


def _own_ids(text: str) -> str:
    """Only ids that something refers to, unique within a page and the same in every run."""
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:6]
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    ids = {old: f"{prefix}-{i}" for i, old in enumerate(dict.fromkeys(a or b for a, b in used))}

    def own(match: re.Match[str]) -> str:
        return f' id="{ids[match.group(1)]}"' if match.group(1) in ids else ""

    text = re.sub(r'\sid="([^"]+)"', own, text)
    text = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{ids[m.group(1)]})", text)
    return re.sub(r'href="#([^"]+)"', lambda m: f'href="#{ids[m.group(1)]}"', text)
