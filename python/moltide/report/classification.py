"""Figures of a classification target: ROC, precision-recall, confusion, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np

from moltide.report.data import TargetReport
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

_COLOURS = (MODEL, ACCENT, BASE, "#4d9a6a", "#8272cc", "#b0903a", "#3b9fa8", "#b2587f")
_CURVES = 8


def _judged(target: TargetReport) -> list[int]:
    """Classes with a curve: class 1 of two, else those that occur beside others."""
    labels = np.unique(target.y[target.exact]).astype(int)
    if len(labels) < 2:
        return []
    return [1] if target.prediction.shape[1] == 2 else labels.tolist()[:_CURVES]


def _curves(target: TargetReport) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """(colour, class, whether each row is of it, its scores) of every class with a curve."""
    judged = _judged(target)
    if not judged or target.classes is None:
        return []
    labels, scores = target.y[target.exact].astype(int), target.prediction[target.exact]
    return [
        (colour, plain(target.classes[k], 24), labels == k, scores[:, k])
        for colour, k in zip(_COLOURS, judged, strict=False)
    ]


def _rates(axes: Any, x: str, y: str, legend: str | None) -> None:
    """Both axes as rates from 0 to 1, and the place of the legend."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend is not None:
        axes.legend(loc=legend)


def roc(target: TargetReport, dpi: int) -> Picture | None:
    """ROC curves, one class against the rest."""
    from sklearn.metrics import roc_curve

    curves = _curves(target)
    if not curves:
        return None
    with drawing():
        figure, axes = new_figure(480, 400)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        for colour, name, of_class, scores in curves:
            false, true, _ = roc_curve(of_class, scores)
            axes.plot(false, true, color=colour, label=name)
        legend = "lower right" if len(curves) > 1 else None
        _rates(axes, "False positive rate", "True positive rate", legend)
        metrics = target.methods[0].metrics if target.methods else {}
        area = f" AUROC {metrics['auroc'][0]:.2f}." if "auroc" in metrics else ""
        alt = f"ROC curves of {target.name}.{area}"
        return Picture(to_svg(figure, alt, dpi), _against(target) + area, "ROC")


def precision_recall(target: TargetReport, dpi: int) -> Picture | None:
    """Precision-recall curves, one class against the rest."""
    from sklearn.metrics import precision_recall_curve

    curves = _curves(target)
    if not curves:
        return None
    with drawing():
        figure, axes = new_figure(480, 400)
        for colour, name, of_class, scores in curves:
            precision, recall, _ = precision_recall_curve(of_class, scores)
            axes.step(recall, precision, where="post", color=colour, label=name)
            axes.axhline(of_class.mean(), color=colour, linewidth=0.8, linestyle=(0, (2, 2)))
        _rates(axes, "Recall", "Precision", "lower left" if len(curves) > 1 else None)
        caption = f"{_against(target)} Dotted: the share of the class."
        alt = f"Precision-recall curves of {target.name}."
        return Picture(to_svg(figure, alt, dpi), caption, "Precision and recall")


def _against(target: TargetReport) -> str:
    judged = _judged(target)
    if len(judged) == 1 and target.classes is not None:
        return f"Positive class: {target.classes[judged[0]]}."
    more = f" The first {_CURVES} classes." if len(judged) == _CURVES else ""
    return "Each class against the rest." + more


def confusion(target: TargetReport, dpi: int) -> Picture | None:
    """Counts of true against predicted class, shaded by share of the true class."""
    keep = target.exact
    if not keep.any() or target.classes is None or len(target.classes) > 30:
        return None
    n = len(target.classes)
    labels, guess = target.y[keep].astype(int), target.prediction[keep].argmax(axis=1)
    table = np.bincount(labels * n + guess, minlength=n * n).reshape(n, n)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    with drawing():
        figure, axes = new_figure(480, 400)
        for i in range(n):
            for j in range(n):
                _cell(axes, i, j, share[i, j], int(table[i, j]), n)
        names = [plain(name, 14 if n > 4 else 20) for name in target.classes]
        axes.set_xticks(
            range(n), names, rotation=45 if n > 4 else 0, ha="right" if n > 4 else "center"
        )
        axes.set_yticks(range(n), names)
        axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("Predicted class")
        axes.set_ylabel("True class")
        right = int(np.trace(table))
        caption = f"{right:,} of {table.sum():,} test rows right. Shade: share of the true class."
        alt = f"Confusion matrix of {target.name}: {right:,} of {table.sum():,} rows right."
        return Picture(to_svg(figure, alt, dpi), caption, "Confusion matrix")


def _cell(axes: Any, i: int, j: int, share: float, count: int, n: int) -> None:
    from matplotlib.patches import Rectangle

    colour = MODEL if i == j else ACCENT
    box = Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, facecolor=colour, linewidth=0)
    box.set_alpha(0.06 + 0.5 * float(share))
    axes.add_patch(box)
    size = 11 if n <= 4 else max(6, 11 - n // 3)
    text = f"{count:,}\n{share:.0%}" if n <= 6 else f"{count:,}"
    axes.text(j, i, text, ha="center", va="center", fontsize=size, color=INK)


def reliability(target: TargetReport, dpi: int) -> Picture | None:
    """Stated probability against frequency in ten bins, with row counts below."""
    keep = target.exact
    if keep.sum() < 20 or target.classes is None:
        return None
    labels, scores = target.y[keep].astype(int), target.prediction[keep]
    if scores.shape[1] == 2:
        stated, happened = scores[:, 1], labels == 1
        what = f"Probability of {plain(target.classes[1], 24)}"
    else:
        stated, happened = scores.max(axis=1), scores.argmax(axis=1) == labels
        what = "Probability of the likeliest class"
    bins = np.minimum((stated * 10).astype(int), 9)
    count = np.bincount(bins, minlength=10)
    used = count > 0
    mean = np.bincount(bins, stated, minlength=10)[used] / count[used]
    rate = np.bincount(bins, happened, minlength=10)[used] / count[used]
    error = float((count[used] * np.abs(mean - rate)).sum() / count.sum())
    with drawing():
        figure, (upper, lower) = new_figure(
            480, 400, nrows=2, ncols=1, sharex=True, gridspec_kw={"height_ratios": [4, 1]}
        )
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        width = 1.96 * np.sqrt(np.maximum(rate * (1 - rate), 1e-12) / count[used])
        upper.vlines(mean, np.clip(rate - width, 0, 1), np.clip(rate + width, 0, 1), color=MODEL)
        upper.plot(mean, rate, color=MODEL, marker="o", markersize=5, linewidth=1.2)
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02))
        upper.set_ylabel("Observed frequency")
        lower.bar(np.arange(10) / 10 + 0.05, count, width=0.09, color=BASE, linewidth=0)
        lower.set_ylabel("Rows")
        lower.set_xlabel(what)
        lower.grid(axis="x", visible=False)
        caption = f"Expected calibration error {error:.3f}. Bars: 95% intervals of the frequency."
        alt = f"Reliability diagram of {target.name}: expected calibration error {error:.3f}."
        return Picture(to_svg(figure, alt, dpi), caption, "Reliability")
