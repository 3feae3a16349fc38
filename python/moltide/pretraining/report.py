"""report.html of pretraining: loss and validation perplexity, beside the baselines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moltide.atomic import atomic_write_text
from moltide.pretraining.results import Facts, labels
from moltide.report.render import render_page
from moltide.report.style import ACCENT, BASE, MODEL, drawing, new_figure, to_svg
from moltide.wording import count_text


def write_pretraining_report(
    facts: Facts,
    metrics: Mapping[str, Any],
    baselines: Mapping[str, float],
    log: Path,
    path: Path,
) -> None:
    """Write one HTML file.

    Args:
        baselines: perplexities on the part of validation that the curve was measured on.
        log: log.jsonl of the run.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    valid = [(row["step"], row["valid_perplexity"]) for row in rows if "valid_perplexity" in row]
    unit = facts.unit
    svg = _figure(losses, valid, baselines, facts.state.best_step, labels(unit))
    title = f"Pretraining: {metrics['verdict'].split(':')[0]}"
    state, model = facts.state, facts.model
    subtitle = (
        f"{count_text(model['parameters'])} parameters, {count_text(state.tokens)} tokens in "
        f"{state.step:,} steps. " + ". ".join(facts.data)
    )
    caption = (
        f"The curve of perplexity and the baselines beside it: up to "
        f"{facts.options.valid_tokens:,} {unit} of validation; the title's figures: all "
        f"{facts.valid_residues:,}. Dashed upright line: the best step."
    )
    atomic_write_text(path, render_page(title, subtitle, svg, caption))


def _figure(
    losses: list[tuple[int, float]],
    valid: list[tuple[int, float]],
    baselines: Mapping[str, float],
    best: int,
    names: Mapping[str, str],
) -> str:
    with drawing():
        figure, (upper, lower) = new_figure(760, 460, nrows=2, sharex=True)
        upper.plot(*zip(*losses, strict=True), color=MODEL, linewidth=1.0)
        upper.set_ylabel("Training loss")
        lower.plot(*zip(*valid, strict=True), color=MODEL, marker="o", markersize=3.0)
        for (name, value), style in zip(baselines.items(), ("--", ":"), strict=False):
            lower.axhline(value, color=BASE, linestyle=style, label=names[name])
        for panel in (upper, lower):
            panel.axvline(best, color=ACCENT, linewidth=1.0, linestyle=(0, (4, 3)))
        lower.set_ylabel("Validation perplexity")
        lower.set_xlabel("Optimiser step")
        lower.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        lower.legend(loc="best")
        alt = f"Training loss and validation perplexity over {valid[-1][0]:,} steps."
        return to_svg(figure, alt)
