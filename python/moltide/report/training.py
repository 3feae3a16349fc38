"""Figures of methods and of training: comparison, learning curve, loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moltide.report.data import LearningCurve, TargetReport, TrainingCurve, noise_ceiling
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
from moltide.report.words import minus
from moltide.verdict import METRIC_LABELS, interval_text


def comparison(target: TargetReport, dpi: int) -> Picture | None:
    """The metric of every method with its interval, best on top."""
    name = target.metric
    rows = [
        (row, row.metrics[name])
        for row in target.methods
        if name in row.metrics and not math.isnan(row.metrics[name][0])
    ]
    if not rows:
        return None
    lower_is_better = name in ("rmse", "mae")
    rows.sort(key=lambda one: one[1][0] if lower_is_better else -one[1][0])
    label = METRIC_LABELS[name]
    with drawing():
        figure, axes = new_figure(1000, 62 + 34 * len(rows))
        for at, (row, (value, low, high)) in enumerate(rows):
            colour = MODEL if row.is_model else BASE
            if not math.isnan(low):
                axes.plot([low, high], [at, at], color=colour, linewidth=2.4, alpha=0.85)
            axes.plot([value], [at], marker="o", markersize=7, color=colour)
            axes.annotate(
                minus(interval_text(value, low, high)),
                (1.0, at),
                (10, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=INK,
                annotation_clip=False,
            )
        axes.set_yticks(range(len(rows)), [plain(row.label) for row, _ in rows])
        for text, (row, _) in zip(axes.get_yticklabels(), rows, strict=True):
            text.set_fontweight("bold" if row.is_model else "normal")
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{label} on the test rows")
        caption = f"{label} with 95% bootstrap intervals"
        caption += ", lower is better." if lower_is_better else "."
        ceiling = noise_ceiling(
            np.where(target.exact, target.y, np.nan), target.noise_sd, target.n_replicates, name
        )
        if ceiling is not None:
            axes.axvline(ceiling, color=ACCENT, linewidth=1.2, linestyle=(0, (4, 3)))
            what = "floor" if lower_is_better else "ceiling"
            caption += f" Dashed: noise {what} of the assay, about {ceiling:.2f}."
        best = rows[0][0].label
        alt = f"{label} of {len(rows)} methods with intervals; best: {best}."
        return Picture(to_svg(figure, alt, dpi), caption, "Model and baselines")


def learning_curve(curve: LearningCurve | None, ceiling: float | None, dpi: int) -> Picture | None:
    """The test metric against the number of training rows, on a logarithmic axis; from two sizes
    on."""
    if curve is None or len({size for series in curve.series for size in series.sizes}) < 2:
        return None
    label = METRIC_LABELS.get(curve.metric, curve.metric)
    with drawing():
        figure, axes = new_figure(480, 360)
        for at, series in enumerate(curve.series):
            if not series.sizes:
                continue
            order = np.argsort(series.sizes, kind="stable")
            sizes = np.asarray(series.sizes, float)[order]
            means = np.array([np.mean(series.values[i]) for i in order])
            colour = MODEL if series.is_model else (BASE, ACCENT, MUTED)[at % 3]
            axes.plot(
                sizes,
                means,
                color=colour,
                marker="o",
                markersize=4.5,
                linestyle="-" if series.is_model else (0, (5, 2)),
                label=plain(series.label, 34),
                zorder=4 if series.is_model else 3,
            )
            for size, i in zip(sizes, order, strict=True):
                if len(series.values[i]) > 1:
                    axes.scatter(
                        [size] * len(series.values[i]),
                        series.values[i],
                        s=12,
                        color=colour,
                        alpha=0.45,
                        linewidths=0,
                    )
        if ceiling is not None:
            axes.axhline(ceiling, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
            axes.annotate(
                "noise ceiling",
                (1, ceiling),
                (0, 3),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=MUTED,
            )
        sizes_seen = sorted({size for series in curve.series for size in series.sizes})
        axes.set_xscale("log")
        axes.set_xticks(_apart(sizes_seen))
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("Training rows")
        axes.set_ylabel(f"{label} on the test rows")
        axes.legend(loc="best")
        caption = "More rows still help where the curve rises at its right end."
        if len(curve.series) > 1:
            caption += (
                " At each size the methods are fitted to the same training rows; baselines above "
                "have the validation rows too."
            )
        if any(len(one) > 1 for series in curve.series for one in series.values):
            caption += " Pale points: single seeds; the line joins their means."
        alt = f"Learning curve: {label} for {sizes_seen[0]:,} to {sizes_seen[-1]:,} training rows."
        return Picture(to_svg(figure, alt, dpi), caption, "Learning curve")


def one_size_text(curve: LearningCurve | None) -> str:
    """A sentence where there is one size, and so no curve to draw."""
    sizes = sorted({size for series in (curve.series if curve else []) for size in series.sizes})
    if len(sizes) != 1:
        return ""
    return (
        f"No learning curve: {sizes[0]:,} training rows are its only size. Smaller parts held too "
        "few rows, or there was no time for them."
    )


def _apart(sizes: list[int]) -> list[int]:
    """Sizes whose labels do not touch on a logarithmic axis, the largest always among them."""
    if not sizes:
        return []
    span = max(math.log(sizes[-1] / max(sizes[0], 1)), 1e-9)
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if math.log(kept[-1] / max(size, 1)) / span > 0.13:
            kept.append(size)
    return kept[::-1]


def training_curve(curve: TrainingCurve | None, dpi: int) -> Picture | None:
    """Loss by step above, the validation metric below, the kept step marked."""
    if curve is None or not curve.steps:
        return None
    label = METRIC_LABELS.get(curve.valid_metric, curve.valid_metric)
    both = bool(curve.valid_steps)
    with drawing():
        figure, axes = new_figure(480, 360, nrows=2 if both else 1, ncols=1, sharex=True)
        panels: list[Any] = list(axes) if both else [axes]
        steps, loss = np.asarray(curve.steps, float), np.asarray(curve.loss, float)
        thin = max(1, len(steps) // 1500)
        many = len(steps) > 60
        panels[0].plot(
            steps[::thin],
            loss[::thin],
            color=BASE if many else MODEL,
            linewidth=0.8 if many else 1.6,
            alpha=0.6 if many else 1.0,
            marker="" if many else "o",
            markersize=3.5,
        )
        if many:
            panels[0].plot(steps, _smooth(loss), color=MODEL)
        finite = loss[np.isfinite(loss)]
        if len(finite) and finite.min() > 0 and finite.max() / finite.min() > 30:
            panels[0].set_yscale("log")
        panels[0].set_ylabel(curve.loss_label)
        if both:
            panels[1].plot(
                curve.valid_steps, curve.valid_values, color=MODEL, marker="o", markersize=3.5
            )
            panels[1].set_ylabel(f"Validation {label}")
        caption = "Thick: smoothed." if many else ""
        if curve.best_step is not None:
            for panel in panels:
                panel.axvline(curve.best_step, color=ACCENT, linewidth=1.1, linestyle=(0, (4, 3)))
            caption += f" Dashed: the weights that were kept (step {curve.best_step:,.0f})."
        panels[-1].set_xlabel("Optimiser step")
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
        if len(set(curve.steps)) == 1:
            panels[-1].set_xticks(curve.steps[:1])
        panels[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        figure.align_ylabels(panels)
        alt = f"Training loss over {int(steps[-1]):,} steps and the validation metric."
        return Picture(to_svg(figure, alt, dpi), caption.strip(), "Training")


def _smooth(values: Any) -> Any:
    """Centred running mean over a fortieth of the steps, NaN left out."""
    width = max(3, len(values) // 40)
    known = np.isfinite(values)
    kernel = np.ones(width)
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")
    return total / np.maximum(np.convolve(known.astype(float), kernel, "same"), 1)
