"""Figures of a regression target: predicted against measured, residuals, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.report.data import TargetReport
from moltide.report.style import (
    ACCENT,
    BASE,
    GRID,
    INK,
    MODEL,
    MUTED,
    Picture,
    density_map,
    drawing,
    new_figure,
    plain,
    to_svg,
)
from moltide.report.words import MINUS, number

FloatArray = npt.NDArray[np.float64]
#: From this many points a scatter is a picture, and coloured by density.
MANY = 400
_FEW_POSITIONS = 45


def local_density(x: FloatArray, y: FloatArray, bins: int = 60) -> FloatArray:
    """(n,) share of points near each point, 0 to 1, from a smoothed two-dimensional histogram."""
    from scipy.ndimage import gaussian_filter

    counts, edges_x, edges_y = np.histogram2d(x, y, bins=bins)
    smooth = gaussian_filter(counts, 1.2)
    column = np.clip(np.searchsorted(edges_x, x, side="right") - 1, 0, bins - 1)
    row = np.clip(np.searchsorted(edges_y, y, side="right") - 1, 0, bins - 1)
    density = np.log1p(smooth[column, row])
    top = density.max(initial=0.0)
    share: FloatArray = density / top if top > 0 else density
    return share


def scatter(axes: Any, x: FloatArray, y: FloatArray) -> None:
    """Points; many of them coloured by density, the densest on top, and as one picture."""
    if len(x) < MANY:
        axes.scatter(x, y, s=16, color=MODEL, alpha=0.7, linewidths=0, zorder=3)
        return
    density = local_density(x, y)
    order = np.argsort(density, kind="stable")
    size = float(np.clip(6000 / len(x), 2.5, 9))
    axes.scatter(
        x[order],
        y[order],
        s=size,
        c=density[order],
        cmap=density_map(),
        alpha=0.85,
        linewidths=0,
        rasterized=True,
        zorder=3,
    )


def limits(*values: FloatArray) -> tuple[float, float]:
    """Axis limits that hold all values with a margin."""
    joined = np.concatenate([v[np.isfinite(v)] for v in values])
    if not len(joined):
        return 0.0, 1.0
    low, high = float(joined.min()), float(joined.max())
    margin = 0.05 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - margin, high + margin


def axis_name(target: TargetReport, kind: str) -> str:
    """ "Predicted log fluorescence (a.u.)"."""
    unit = f" ({plain(target.unit, 20)})" if target.unit else ""
    return f"{kind} {plain(target.name, 34)}{unit}"


def predicted_against_measured(target: TargetReport, dpi: int) -> Picture:
    """The test rows around the diagonal; training rows grey behind; bounds as arrows."""
    keep = target.exact
    y, prediction = target.y[keep], target.prediction[keep]
    caption = f"{len(y):,} test rows. The diagonal is a perfect prediction."
    with drawing():
        figure, axes = new_figure(480, 440)
        seen = [y, prediction]
        if target.y_train is not None and target.prediction_train is not None:
            known = ~np.isnan(target.y_train)
            train, guess = target.y_train[known], target.prediction_train[known]
            axes.scatter(
                train, guess, s=4, color=BASE, alpha=0.25, linewidths=0, rasterized=True, zorder=1
            )
            seen += [train, guess]
            caption += f" Grey: {len(train):,} training rows."
        scatter(axes, y, prediction)
        bound = ~keep & ~np.isnan(target.y)
        if target.censor is not None and bound.any():
            for sign, marker in ((1, ">"), (-1, "<")):
                chosen = bound & (target.censor == sign)
                axes.scatter(
                    target.y[chosen],
                    target.prediction[chosen],
                    s=18,
                    marker=marker,
                    facecolors="none",
                    edgecolors=ACCENT,
                    linewidths=0.9,
                    zorder=4,
                )
            seen += [target.y[bound], target.prediction[bound]]
            caption += f" Arrow heads: {int(bound.sum()):,} rows known only as a bound."
        low, high = limits(*seen)
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, zorder=2)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel(axis_name(target, "Measured"))
        axes.set_ylabel(axis_name(target, "Predicted"))
        if len(y) >= MANY:
            caption += " Colour: density of points, blue (sparse) to orange (dense)."
        model = target.methods[0].metrics if target.methods else {}
        score = f", Spearman {model['spearman'][0]:.2f}" if "spearman" in model else ""
        alt = f"Predicted against measured {target.name} for {len(y):,} test rows{score}."
        return Picture(to_svg(figure, alt, dpi), caption, "Predicted against measured")


def residuals(target: TargetReport, dpi: int) -> Picture:
    """Residuals by prediction, and their distribution beside the noise of a reading."""
    keep = target.exact
    prediction = target.prediction[keep]
    error = prediction - target.y[keep]
    with drawing():
        figure, (left, right) = new_figure(
            480, 440, nrows=2, ncols=1, gridspec_kw={"height_ratios": [3, 2]}
        )
        scatter(left, prediction, error)
        left.axhline(0, color=MUTED, linewidth=1, zorder=2)
        centres, medians = running_median(prediction, error)
        if len(centres):
            left.plot(centres, medians, color=INK, linewidth=1.8, zorder=4)
        left.locator_params(axis="x", nbins=6)
        left.set_xlabel(axis_name(target, "Predicted"))
        left.set_ylabel(f"Residual (predicted {MINUS} measured)")
        bins = min(60, max(10, int(np.sqrt(len(error)) * 1.5)))
        right.hist(error, bins=bins, color=MODEL, alpha=0.8, linewidth=0)
        right.axvline(0, color=MUTED, linewidth=1)
        right.set_xlabel("Residual")
        right.set_ylabel("Test rows")
        right.grid(axis="x", visible=False)
        mean, spread = float(error.mean()), float(error.std())
        caption = f"Mean {number(mean)}, SD {number(spread)}."
        if len(centres):
            caption += " Line: running median."
        if target.noise_sd is not None and np.isfinite(target.noise_sd):
            noise = float(target.noise_sd)
            right.axvspan(-noise, noise, color=GRID, zorder=0)
            caption += f" Grey band: ±1 SD of one reading ({number(noise)})."
        alt = (
            f"Residuals of {target.name}: mean {mean:.3g}, standard deviation {spread:.3g}, "
            "by predicted value and as a histogram."
        )
        return Picture(to_svg(figure, alt, dpi), caption, "Residuals")


def running_median(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Medians of y in up to 15 equally filled bins of x; empty with fewer than 60 points."""
    if len(x) < 60 or np.ptp(x) == 0:
        return np.zeros(0), np.zeros(0)
    parts = np.array_split(np.argsort(x, kind="stable"), min(15, len(x) // 20))
    return (
        np.array([np.median(x[part]) for part in parts]),
        np.array([np.median(y[part]) for part in parts]),
    )


def _spread(target: TargetReport) -> tuple[FloatArray, FloatArray] | None:
    """(predicted SD, |error|) of the rows that have both, if there are twenty."""
    if target.std is None:
        return None
    keep = target.exact & np.isfinite(target.std) & (target.std > 0)
    if keep.sum() < 20:
        return None
    return target.std[keep], np.abs(target.prediction[keep] - target.y[keep])


def coverage(target: TargetReport, dpi: int) -> Picture | None:
    """The share of test rows within Gaussian intervals of every level."""
    found = _spread(target)
    if found is None:
        return None
    from scipy.stats import norm

    spread, error = found
    levels = np.linspace(0.05, 0.95, 19)
    held = np.array([(error <= norm.ppf(0.5 + p / 2) * spread).mean() for p in levels])
    with drawing():
        figure, axes = new_figure(480, 400)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        axes.plot(levels, held, color=MODEL, marker="o", markersize=3.5)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xlabel("Nominal coverage from the predicted SD")
        axes.set_ylabel("Share of test rows inside")
        caption = "Below the grey line the model is overconfident."
        if target.low is not None and target.high is not None:
            ends = target.exact & np.isfinite(target.low) & np.isfinite(target.high)
            inside = (target.y >= target.low) & (target.y <= target.high)
            if ends.any():
                at = float(inside[ends].mean())
                caption += f" The {target.level:.0%} intervals hold {at:.0%} of the test rows."
        alt = f"Calibration of the predicted uncertainty: 90% intervals hold {held[-2]:.0%}."
        return Picture(to_svg(figure, alt, dpi), caption, "Coverage of the predicted uncertainty")


def error_by_spread(target: TargetReport, dpi: int) -> Picture | None:
    """Actual error in equal groups by predicted SD: whether the SD tells rows apart."""
    found = _spread(target)
    if found is None or np.ptp(found[0]) == 0:
        return None
    spread, error = found
    count = min(10, max(3, len(error) // 15))
    parts = np.array_split(np.argsort(spread, kind="stable"), count)
    predicted = np.array([np.sqrt((spread[part] ** 2).mean()) for part in parts])
    actual = np.array([np.sqrt((error[part] ** 2).mean()) for part in parts])
    with drawing():
        figure, axes = new_figure(480, 400)
        top = 1.08 * max(predicted.max(), actual.max())
        axes.plot([0, top], [0, top], color=MUTED, linewidth=1)
        axes.plot(predicted, actual, color=MODEL, marker="o", markersize=4.5, linewidth=1)
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("Predicted SD of the error")
        axes.set_ylabel("Actual RMSE")
        caption = (
            f"Test rows in {count} equal groups by predicted SD. A flat line: the SD does not tell "
            "easy rows from hard ones. Above the grey line: overconfident."
        )
        alt = f"Actual error against predicted standard deviation in {count} groups."
        return Picture(to_svg(figure, alt, dpi), caption, "Error by predicted SD")


def positions(target: TargetReport, dpi: int) -> Picture | None:
    """Mean absolute error of the test variants that touch each position of the wild type."""
    if target.positions is None:
        return None
    keep = target.exact
    error = np.abs(target.prediction - target.y)
    touched = [
        (p, float(error[i]))
        for i, places in enumerate(target.positions)
        if keep[i]
        for p in set(places)
    ]
    if not touched:
        return None
    place = np.array([p for p, _ in touched])
    value = np.array([e for _, e in touched])
    length = len(target.wildtype) if target.wildtype else int(place.max()) + 1
    count = np.bincount(place, minlength=length)
    total = np.bincount(place, value, minlength=length)
    found = np.flatnonzero(count)
    mean = total[found] / count[found]
    overall = float(error[keep].mean())
    with drawing():
        figure, (upper, lower) = new_figure(
            980, 330, nrows=2, ncols=1, sharex=True, gridspec_kw={"height_ratios": [4, 1]}
        )
        numbers = found + target.numbering
        letters = target.wildtype or ""
        names = [f"{plain(letters[p]) if letters else ''}{p + target.numbering}" for p in found]
        # Few positions stand side by side under their names; many keep their places.
        few = len(found) <= _FEW_POSITIONS
        at = np.arange(len(found)) if few else numbers
        span = len(found) if few else length
        worst = _labelled(mean, count[found], at, span)
        colours = [ACCENT if i in worst else MODEL for i in range(len(found))]
        upper.bar(at, mean, width=0.85, color=colours, linewidth=0)
        upper.axhline(overall, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        for i in [] if few else worst:
            # A name is wider than a bar: it stands clear of the bars beside its own.
            beside = np.abs(at - at[i]) <= 1 + span / 55
            upper.annotate(
                names[i],
                (at[i], mean[beside].max()),
                (0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                color=INK,
            )
        upper.set_ylim(0, (float(mean.max()) or 1.0) * 1.16)
        upper.set_ylabel("Mean |error|")
        upper.grid(axis="x", visible=False)
        lower.bar(at, count[found], width=0.85, color=BASE, linewidth=0)
        lower.set_ylabel("Rows")
        lower.set_xlabel("Position in the wild type")
        lower.grid(axis="x", visible=False)
        if few:
            lower.set_xticks(at, names, rotation=90 if len(found) > 18 else 0)
            lower.set_xlim(-0.8, max(len(found), 8) - 0.2)
        else:
            lower.set_xlim(target.numbering - 0.9, target.numbering + length - 0.1)
        caption = (
            f"{len(found):,} of {length:,} positions are mutated in the test rows. Dashed: mean "
            f"over all test rows ({number(overall)}). Orange: the largest errors among positions "
            "with enough rows. A variant counts at each of its positions."
        )
        alt = f"Mean absolute error by position over {length:,} positions, with row counts below."
        return Picture(to_svg(figure, alt, dpi), caption, "Error by position")


def _labelled(
    mean: FloatArray,
    count: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
    span: int,
) -> list[int]:
    """Up to five positions to mark: the largest means among those not resting on one or two rows,
    far enough apart on the axis for their names."""
    enough = count >= min(3, int(count.max()))
    chosen: list[int] = []
    apart = 0 if span <= _FEW_POSITIONS else span / 25
    for i in np.argsort(-np.where(enough, mean, -1.0), kind="stable"):
        if enough[i] and all(abs(int(at[i] - at[j])) > apart for j in chosen):
            chosen.append(int(i))
        if len(chosen) == 5:
            break
    return chosen
