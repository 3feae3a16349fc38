"""The panel of predicted rows as one offline page: lights, ranks, and where predictions lie."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.assay_model.uncertainty import INTERVAL
from moltide.atomic import atomic_write_text
from moltide.panel.lights import LIGHTS
from moltide.report.render import render_template
from moltide.report.style import ACCENT, BASE, MODEL, Picture, drawing, new_figure, plain, to_svg
from moltide.report.words import number

if TYPE_CHECKING:
    from moltide.panel.tally import EndpointTally, RankedRow, Tally

_NAME = 40


def write_predictions_report(
    path: str | os.PathLike[str],
    tally: Tally,
    columns: Mapping[str, Any],
    *,
    title: str,
    model: str,
    ranked_by: str,
) -> None:
    """Write the page, whole or not at all.

    Args:
        columns: where the cells of ranked rows are: "values" and "lights" by endpoint, "overall".
        title: the file that was predicted. model: what predicted it. ranked_by: in words.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    worst = [row for row in tally.worst if row.rank > (tally.best[-1].rank if tally.best else 0)]
    page = render_template(
        "predictions.html.j2",
        title=title,
        model=model,
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
        ranked_by=ranked_by,
        level=f"{INTERVAL:.0%}",
        tiles=_tiles(tally),
        names=[one.name for one in tally.endpoints],
        with_lights=any(one.lights for one in tally.endpoints),
        lit=[_lit(one) for one in tally.endpoints if one.lights],
        best=[_row(row, tally, columns) for row in tally.best],
        worst=[_row(row, tally, columns) for row in worst[::-1]],
        pictures=[_histogram(one, 100) for one in tally.endpoints],
        skipped=tally.skipped,
        skipped_more=tally.skipped_rows - len(tally.skipped),
    )
    atomic_write_text(path, page)


def _tiles(tally: Tally) -> list[dict[str, str]]:
    predicted = tally.rows - tally.skipped_rows
    outside = f"{tally.outside / max(1, predicted):.0%} of those predicted"
    return [
        {"name": "Rows", "value": f"{tally.rows:,}", "note": ""},
        {"name": "Predicted", "value": f"{predicted:,}", "note": ""},
        {"name": "Unlike training", "value": f"{tally.outside:,}", "note": outside},
        {"name": "Without a prediction", "value": f"{tally.skipped_rows:,}", "note": ""},
    ]


def _lit(one: EndpointTally) -> dict[str, Any]:
    parts = [{"name": light, "count": one.lights[light]} for light in LIGHTS]
    return {"wanted": str(one.threshold), "parts": parts}


def _row(row: RankedRow, tally: Tally, columns: Mapping[str, Any]) -> dict[str, Any]:
    cells = []
    for j, endpoint in enumerate(tally.endpoints):
        at = columns["values"][j]
        text = str(row.cells[at])
        light = str(row.cells[columns["lights"][j]]) if j in columns["lights"] else ""
        value = float(text or "nan")
        if endpoint.classes:
            shown, possible = f"{row.cells[at - len(endpoint.classes)]} {value:.2f}", ""
            if len(tally.endpoints) > 1:
                possible = str(row.cells[at + 1])
            cells.append({"value": text, "text": shown, "range": possible, "light": light})
            continue
        low, high = (str(cell) for cell in row.cells[at + 2 : at + 4])
        span = f"{number(float(low))} to {number(float(high))}" if low and high else ""
        cells.append({"value": text, "text": number(value), "range": span, "light": light})
    name = row.name
    return {
        "rank": row.rank,
        "name": name,
        "short": name if len(name) <= _NAME else f"{name[: _NAME - 1]}…",
        "overall": row.cells[columns["overall"]],
        "cells": cells,
        "liabilities": row.cells[columns["overall"] + 1] if columns["lights"] else "",
        "note": row.cells[-1],
    }


def _histogram(one: EndpointTally, dpi: int) -> Picture:
    """Where the predictions lie, beside the training values."""
    total = int(one.counts.sum())
    centres = (one.edges[1:] + one.edges[:-1]) / 2
    width = float(one.edges[1] - one.edges[0])
    with drawing():
        figure, axes = new_figure(480, 260)
        axes.bar(centres, one.counts / max(1, total), width, color=MODEL, alpha=0.75, linewidth=0)
        caption = f"{total:,} predictions."
        if one.training is not None:
            axes.step(centres, one.training, where="mid", color=BASE, linewidth=1.6)
            caption += " Grey line: the training values."
        threshold = one.threshold
        if threshold is not None and not one.classes:
            for limit in (threshold.above, threshold.below):
                if math.isfinite(limit) and one.edges[0] <= limit <= one.edges[-1]:
                    axes.axvline(limit, color=ACCENT, linewidth=1.3, linestyle=(0, (4, 3)))
            caption += f" Wanted: {threshold}."
        label = f"Probability of {one.classes[-1]}" if one.classes else f"Predicted {one.name}"
        axes.set_xlabel(plain(label, 50))
        axes.set_ylabel("Share")
        axes.set_xlim(float(one.edges[0]), float(one.edges[-1]))
        axes.grid(axis="x", visible=False)
        middle = float(np.average(centres, weights=one.counts)) if total else math.nan
        alt = f"Histogram of {total:,} predictions of {one.name}, mean {middle:.3g}."
        return Picture(to_svg(figure, alt, dpi), caption, one.name)
