"""The panel of a report: endpoints ranked, beside their baselines, and how they go together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.metrics import spearman
from moltide.report.data import FloatArray, LearningCurve, TargetReport
from moltide.report.style import (
    ACCENT,
    BASE,
    INK,
    MODEL,
    MUTED,
    Picture,
    drawing,
    new_figure,
    plain,
    to_svg,
)
from moltide.report.training import learning_curve
from moltide.report.words import minus, score
from moltide.verdict import METRIC_LABELS, fixed, interval_text

if TYPE_CHECKING:
    from moltide.company import Comparison

# Rows that both of two endpoints need for a correlation.
_FEWEST = 10
_LARGEST_WITH_NUMBERS = 16


@dataclass
class Panel:
    """What stands beside the endpoints of a report, in their order.

    Attributes:
        n_train: training rows of each.
        alone: the comparison with a model of it alone, None where there is none.
        measured, predicted: (k, k) rank correlations of measured values, and of predictions for the
            test rows; NaN where too few rows have both.
        thresholds: what is wanted, as text.
    """

    n_train: list[int]
    alone: list[Comparison | None]
    measured: FloatArray
    predicted: FloatArray
    learning_curve: LearningCurve | None = None
    thresholds: list[str] = field(default_factory=list)


def correlations(values: npt.ArrayLike) -> FloatArray:
    """(k, k) Spearman correlations of the columns of (n, k), each over the rows that have both; NaN
    with fewer than ten of these, or where one does not vary in them."""
    table = np.asarray(values, np.float64)
    k = table.shape[1]
    found = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(i + 1):
            both = ~np.isnan(table[:, i]) & ~np.isnan(table[:, j])
            a, b = table[both, i], table[both, j]
            if both.sum() >= _FEWEST and np.ptp(a) > 0 and np.ptp(b) > 0:
                found[i, j] = found[j, i] = spearman(a, b)
    return found


def panel_section(panel: Panel, sections: list[dict[str, Any]], dpi: int) -> dict[str, Any]:
    """What the template shows of a panel; `sections` are those of the targets."""
    targets: list[TargetReport] = [section["target"] for section in sections]
    order = sorted(range(len(targets)), key=lambda j: (-_scaled(targets[j]), j))
    names = [target.name for target in targets]
    rows = [
        {
            "rank": place,
            "section": sections[j],
            "n_train": panel.n_train[j],
            "alone": panel.alone[j],
            "alone_text": "" if panel.alone[j] is None else _apart(panel.alone[j]),
        }
        for place, j in enumerate(order, 1)
    ]
    pictures = [
        _ranking([targets[j] for j in order], dpi),
        learning_curve(panel.learning_curve, None, dpi),
        _heat_map(panel.measured, names, "Correlation of the measured endpoints", _MEASURED, dpi),
        _heat_map(panel.predicted, names, "Correlation of the predictions", _PREDICTED, dpi),
    ]
    return {
        "rows": rows,
        "with_alone": any(one is not None for one in panel.alone),
        "pictures": [one for one in pictures if one is not None],
        "thresholds": panel.thresholds,
    }


_MEASURED = (
    "Spearman over all rows that have both. Endpoints that go together may learn from each other; "
    "blank: fewer than ten rows have both."
)
_PREDICTED = (
    "The same for the predictions of the test rows. Much stronger than the measured one: the model "
    "predicts one thing twice."
)


def _scaled(target: TargetReport) -> float:
    """The target's metric on one scale: 0 for chance, 1 at best."""
    value = target.verdict.model if target.verdict is not None else math.nan
    if math.isnan(value):
        return -math.inf
    return value if target.task == "regression" else 2 * value - 1


def _apart(one: Comparison | None) -> str:
    assert one is not None
    return interval_text(one.difference, one.low, one.high)


def _ranking(targets: list[TargetReport], dpi: int) -> Picture | None:
    """The metric of each endpoint with its interval, beside the best baseline, best on top."""
    shown = [one for one in targets if math.isfinite(_scaled(one))]
    if not shown:
        return None
    with drawing():
        figure, axes = new_figure(480, 90 + 26 * len(shown))
        for at, target in enumerate(shown):
            verdict = target.verdict
            assert verdict is not None
            model = next((row for row in target.methods if row.is_model), None)
            _, low, high = (model.metrics if model else {}).get(target.metric, (0, np.nan, np.nan))
            if not math.isnan(low):
                axes.plot([low, high], [at, at], color=MODEL, linewidth=2.2, alpha=0.8)
            axes.plot([verdict.model], [at], "o", color=MODEL, markersize=6, zorder=4)
            if not math.isnan(verdict.baseline):
                axes.plot([verdict.baseline], [at], "D", color=BASE, markersize=5, zorder=3)
        axes.set_yticks(range(len(shown)), [plain(one.name, 30) for one in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        labels = dict.fromkeys(METRIC_LABELS[one.metric] for one in shown)
        axes.set_xlabel(f"{' or '.join(labels)} on the test rows")
        caption = "Dot: the model with its 95% interval. Diamond: the best baseline."
        if len(labels) > 1:
            caption += " Ordered on one scale, 0 for chance and 1 at best."
        alt = "; ".join(f"{one.name} {score(one.verdict.model)}" for one in shown if one.verdict)
        svg = to_svg(figure, f"Endpoints by test metric: {alt}.", dpi)
        return Picture(svg, caption, "Endpoints, best first")


def _heat_map(
    table: FloatArray, names: list[str], title: str, caption: str, dpi: int
) -> Picture | None:
    """Correlations as colours, and as numbers where there is room."""
    k = len(names)
    off = ~np.eye(k, dtype=bool)
    if not np.isfinite(table[off]).any():
        return None
    from matplotlib.patches import Rectangle

    size = max(300, min(480, 130 + 34 * k))
    with drawing():
        figure, axes = new_figure(480, size)
        for i in range(k):
            for j in range(k):
                value = table[i, j]
                if i == j or math.isnan(value):
                    continue
                box = Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, linewidth=0)
                box.set_facecolor(MODEL if value >= 0 else ACCENT)
                box.set_alpha(0.04 + 0.66 * abs(float(value)))
                axes.add_patch(box)
                if k <= _LARGEST_WITH_NUMBERS:
                    text = minus(fixed(value, 2))
                    axes.text(
                        j, i, text, ha="center", va="center", fontsize=max(5.5, 10 - k / 3),
                        color=INK,
                    )  # fmt: skip
        short = [plain(name, 18) for name in names]
        turned: Any = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if k > 3 else {}
        axes.set_xticks(range(k), short, **turned)
        axes.set_yticks(range(k), short)
        axes.set(xlim=(-0.5, k - 0.5), ylim=(k - 0.5, -0.5), aspect="equal")
        axes.tick_params(length=0, labelsize=8, color=MUTED)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        known = table[off & np.isfinite(table)]
        alt = f"{title}: {known.min():.2f} to {known.max():.2f} between {k} endpoints."
        legend = " Blue: they rise together; orange: one falls as the other rises."
        return Picture(to_svg(figure, alt, dpi), caption + legend, title)
