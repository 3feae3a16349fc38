"""From `ReportData` to one offline HTML file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from importlib import resources
from typing import Any

from moltide.atomic import atomic_write_text
from moltide.report.data import ReportData
from moltide.report.sections import target_section
from moltide.report.style import Picture
from moltide.report.words import flat, minus, number, sentence


def write_report(data: ReportData, path: str | os.PathLike[str]) -> None:
    """Write `data` as one HTML file, whole or not at all.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    atomic_write_text(path, render_report(data))


def render_report(data: ReportData) -> str:
    """The report as HTML. The same data give the same text."""
    from moltide.report.molecules import molecules_section
    from moltide.report.panel import panel_section
    from moltide.report.training import training_curve

    dpi = 150 if len(data.targets) <= 3 else 100 if len(data.targets) <= 8 else 75
    sections = [target_section(target, i, dpi) for i, target in enumerate(data.targets)]
    training = training_curve(data.training, dpi)
    # With a single target the training curve stands beside the learning curve.
    if training is not None and len(sections) == 1:
        sections[0]["curves"].append(training)
        training = None
    molecules = None if data.molecules is None else molecules_section(data.molecules)
    panel = None if data.panel is None else panel_section(data.panel, sections, dpi)
    verdicts = [target.verdict for target in data.targets if target.verdict is not None]
    notes = [verdicts[0].note] if len(data.targets) == 1 and verdicts and verdicts[0].note else []
    environment = _environment()
    text: str = environment.get_template("report.html.j2").render(
        data=data,
        tone=_tone([verdict.better for verdict in verdicts]),
        verdict_notes=notes,
        targets=[_safe(section) for section in sections],
        training=_safe(training),
        panel=_safe(panel),
        molecules=_safe(molecules),
        parts=_parts(data.split_counts),
        tables=[
            (heading, list(flat(table)))
            for heading, table in (("Settings", data.settings), ("Provenance", data.provenance))
            if table
        ],
        **_furniture(),
    )
    return text


def render_template(name: str, **values: Any) -> str:
    """A page of one of the templates; `Picture`s in `values` keep their SVG."""
    safe = {key: _safe(value) for key, value in values.items()}
    text: str = _environment().get_template(name).render(**safe, **_furniture())
    return text


def render_page(title: str, subtitle: str, svg: str, caption: str) -> str:
    """A page with one wide figure."""
    from markupsafe import Markup

    template = _environment().get_template("page.html.j2")
    text: str = template.render(
        title=title, subtitle=subtitle, svg=Markup(svg), caption=caption, **_furniture()
    )
    return text


def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words: dict[str, Any] = {"num": number, "minus": minus, "sentence": sentence}
    environment.filters.update(words, count=lambda n: f"{n:,}")
    return environment


def _resource(name: str) -> str:
    return resources.files("moltide.report").joinpath(f"templates/{name}").read_text("utf-8")


def _furniture() -> dict[str, Any]:
    from markupsafe import Markup

    import moltide

    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "style": Markup(_resource("report.css")),
        "script": Markup(script),
        "script_hash": Markup(f"sha256-{digest}"),
        "version": moltide.__version__,
    }


def _safe(value: Any) -> Any:
    """SVG elements, which this package has made and escaped itself, marked as such."""
    from markupsafe import Markup

    if isinstance(value, Picture):
        return Picture(Markup(value.svg), value.caption, value.title)
    if isinstance(value, list):
        return [_safe(one) for one in value]
    if isinstance(value, dict):
        return {key: _safe(one) for key, one in value.items()}
    return value


def _tone(better: list[bool | None]) -> str:
    if better and all(one is True for one in better):
        return "good"
    return "bad" if better and all(one is False for one in better) else "level"


def _parts(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    total = sum(counts.values())
    return [
        {
            "name": "no part" if name == "none" else name,
            "kind": name if name in ("train", "valid", "test") else "none",
            "count": count,
            "share": f"{count / total:.0%}" if count / total > 0.005 else "< 1%",
        }
        for name, count in counts.items()
        if count
    ]
