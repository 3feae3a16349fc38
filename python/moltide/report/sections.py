"""The part of a report about one target: tiles, metrics, figures and the worst misses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from moltide.report import classification, regression, training
from moltide.report.data import TargetReport, noise_ceiling
from moltide.report.style import Picture
from moltide.report.words import number, score
from moltide.verdict import LOWER_IS_BETTER, METRIC_LABELS, interval_text

_MISSES = 25


def target_section(target: TargetReport, index: int, dpi: int) -> dict[str, Any]:
    """What the template shows of one target; figures are `Picture`s."""
    labels = np.where(target.exact, target.y, np.nan)
    ceiling = noise_ceiling(labels, target.noise_sd, target.n_replicates, target.metric)
    on_curve = target.learning_curve
    curve_ceiling = None
    if (
        on_curve is not None
        and on_curve.metric == target.metric
        and target.metric not in LOWER_IS_BETTER
    ):
        curve_ceiling = ceiling
    if target.task == "regression":
        main: list[Picture | None] = [
            regression.predicted_against_measured(target, dpi),
            regression.residuals(target, dpi),
        ]
        more = [regression.coverage(target, dpi), regression.error_by_spread(target, dpi)]
        wide = [regression.positions(target, dpi)]
        if not target.exact.any():
            main, more, wide = [], [], []
    else:
        main = [classification.confusion(target, dpi), classification.reliability(target, dpi)]
        more = [classification.roc(target, dpi), classification.precision_recall(target, dpi)]
        wide = []
    verdict = target.verdict
    difference = ""
    if verdict is not None:
        difference = interval_text(verdict.difference, verdict.low, verdict.high)
    columns, rows = _misses(target)
    return {
        "target": target,
        "anchor": f"target-{index + 1}",
        "n": int(target.exact.sum()),
        "verdict": verdict,
        "difference": difference,
        "metric_label": METRIC_LABELS[target.metric],
        "tiles": _tiles(target, ceiling),
        "comparison": training.comparison(target, dpi),
        "metrics": [
            {"name": m, "label": METRIC_LABELS[m][:1].upper() + METRIC_LABELS[m][1:]}
            for m in target.metric_names
        ],
        "rows": _metric_rows(target),
        "ceiling_text": _ceiling_text(target, ceiling),
        "main": [one for one in main if one is not None],
        "curves": [one for one in [training.learning_curve(on_curve, curve_ceiling, dpi)] if one],
        "curve_text": training.one_size_text(on_curve),
        "more": [one for one in more if one is not None],
        "wide": [one for one in wide if one is not None],
        "misses": rows,
        "miss_columns": columns,
        "miss_text": _miss_text(target, len(rows)),
    }


def _heading(metric: str) -> dict[str, str]:
    label = METRIC_LABELS[metric]
    return {"name": metric, "label": label[:1].upper() + label[1:]}


def _tiles(target: TargetReport, ceiling: float | None) -> list[dict[str, str]]:
    label, show = METRIC_LABELS[target.metric], _writer(target.metric)
    tiles = []
    model = next((row for row in target.methods if row.is_model), None)
    if model is not None and target.metric in model.metrics:
        value, low, high = model.metrics[target.metric]
        spread = "" if math.isnan(low) else f"95% {show(low)} to {show(high)}"
        tiles.append({"name": f"{label}, model", "value": show(value), "note": spread})
    verdict = target.verdict
    if verdict is not None and verdict.baseline_name:
        best = {"name": f"{label}, best baseline", "value": show(verdict.baseline)}
        tiles.append(best | {"note": verdict.baseline_label})
        shown = show(verdict.difference)
        sign = "+" if verdict.difference > 0 and shown != show(0.0) else ""
        bottom, top = show(verdict.low), show(verdict.high)
        note = "" if math.isnan(verdict.low) else f"95% {bottom} to {top}, paired"
        tiles.append(
            {
                "name": "Advantage of the model",
                "value": sign + shown,
                "note": note,
            }
        )
    if ceiling is not None:
        what = "Noise floor" if target.metric in LOWER_IS_BETTER else "Noise ceiling"
        tiles.append(
            {"name": f"{what}, {label}", "value": show(ceiling), "note": "from the replicates"}
        )
    bounds = 0 if target.censor is None else int(((target.censor != 0) & ~np.isnan(target.y)).sum())
    n = int(target.exact.sum())
    note = (
        f"{bounds:,} bounds beside them"
        if bounds and bounds + n == int((~np.isnan(target.y)).sum())
        else ""
    )
    tiles.append({"name": "Test rows", "value": f"{n:,}", "note": note})
    return tiles


def _metric_rows(target: TargetReport) -> list[dict[str, Any]]:
    best = {}
    for name in target.metric_names:
        values = [row.metrics[name][0] for row in target.methods if name in row.metrics]
        values = [value for value in values if not math.isnan(value)]
        if values:
            best[name] = min(values) if name in LOWER_IS_BETTER else max(values)
    rows = []
    for row in target.methods:
        cells = [
            _cell(row.metrics[m], best.get(m), _writer(m))
            for m in target.metric_names
            if m in row.metrics
        ]
        seconds = "" if row.fit_seconds is None else _seconds(row.fit_seconds)
        rows.append(
            {
                "label": row.label,
                "note": row.note,
                "is_model": row.is_model,
                "cells": cells,
                "seconds": seconds,
            }
        )
    return rows


def _writer(metric: str) -> Callable[[float], str]:
    return number if metric in LOWER_IS_BETTER else score


def _cell(
    interval: tuple[float, float, float], best: float | None, show: Callable[[float], str]
) -> dict[str, Any]:
    value, low, high = interval
    known = not math.isnan(low) and not math.isnan(high) and low != high
    spread = f"{show(low)} to {show(high)}" if known else ""
    return {"value": show(value), "range": spread, "best": value == best}


def _seconds(value: float) -> str:
    if value < 1:
        return "< 1 s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def _ceiling_text(target: TargetReport, ceiling: float | None) -> str:
    if target.task != "regression":
        return ""
    if target.noise_sd is None or not math.isfinite(target.noise_sd):
        return (
            "No replicates, or of too few sequences: the noise of the assay, and so the best "
            "possible score, is unknown."
        )
    text = f"One reading has a pooled SD of {number(target.noise_sd)}"
    if ceiling is None:
        return text + ", about as much as the test values vary: the assay cannot rank them."
    what = (
        "an RMSE or MAE below"
        if target.metric in LOWER_IS_BETTER
        else f"a {METRIC_LABELS[target.metric]} above"
    )
    return f"{text}, so {what} about {ceiling:.2f} would be fitting noise."


def _misses(target: TargetReport) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Header and cells of the rows predicted worst."""
    keep = np.flatnonzero(target.exact)
    if not len(keep):
        return [], []
    columns: list[dict[str, Any]] = [{"label": "Variant", "number": False}]
    if target.task == "regression":
        error = target.prediction[keep] - target.y[keep]
        order = keep[np.argsort(-np.abs(error), kind="stable")][:_MISSES]
        columns += [{"label": name, "number": True} for name in ("Measured", "Predicted", "Error")]
    else:
        assert target.classes is not None
        labels = target.y[keep].astype(int)
        given = target.prediction[keep, labels]
        wrong = target.prediction[keep].argmax(axis=1) != labels
        order = keep[np.argsort(given, kind="stable")]
        order = order[wrong[np.argsort(given, kind="stable")]][:_MISSES]
        columns += [
            {"label": "True class", "number": False},
            {"label": "Predicted", "number": False},
        ]
        columns += [{"label": "P(predicted)", "number": True}, {"label": "P(true)", "number": True}]
    with_std = target.std is not None and bool(np.isfinite(target.std).any())
    if with_std:
        columns.append({"label": "Predicted SD", "number": True})
    if target.domain_notes is not None and any(target.domain_notes):
        columns.append({"label": "Unlike training", "number": False})
    if target.rows is not None:
        # Merged readings have several rows in a cell ("7; 12"), which is no number.
        single = all(row.isdecimal() for row in target.rows)
        columns.append({"label": "Row in the table", "number": single})

    def value(x: float, digits: int = 3) -> dict[str, Any]:
        return {"number": True, "value": f"{x:.9g}", "text": number(float(x), digits)}

    def words(text: str, limit: int = 48) -> dict[str, Any]:
        short = text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit // 2) :]}"
        return {"number": False, "text": short, "full": text if short != text else ""}

    rows = []
    for i in order:
        row = [words(target.names[i])]
        if target.task == "regression":
            row += [value(target.y[i]), value(target.prediction[i])]
            row.append(value(target.prediction[i] - target.y[i]))
        else:
            assert target.classes is not None
            true, guess = int(target.y[i]), int(target.prediction[i].argmax())
            row += [words(target.classes[true]), words(target.classes[guess])]
            row += [value(target.prediction[i, guess]), value(target.prediction[i, true])]
        if with_std and target.std is not None:
            row.append(value(target.std[i]))
        if target.domain_notes is not None and any(target.domain_notes):
            row.append(words(target.domain_notes[i], 80))
        if target.rows is not None:
            at = target.rows[i]
            row.append({"number": True, "value": at, "text": at} if single else words(at))
        rows.append(row)
    return columns, rows


def _miss_text(target: TargetReport, count: int) -> str:
    n = int(target.exact.sum())
    if target.task == "regression":
        text = f"The {count} largest errors among {n:,} test rows."
    else:
        text = f"{count} wrong predictions, the most confident first, among {n:,} test rows."
    text += " A click on a heading sorts."
    if target.std is not None and np.ptp(target.std) < 1e-9 * np.max(target.std):
        text += (
            " The predicted SD is the same for every row, in and outside the training domain: the "
            "validation residuals do not support one that differs between rows."
        )
    return text
