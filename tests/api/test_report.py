"""The report: one offline page, hostile words escaped, numbers where they belong."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from moltide.baselines import BaselineResult
from moltide.errors import ConfigError, DataError
from moltide.metrics import classification_metrics, regression_metrics
from moltide.report import (
    CurveSeries,
    LearningCurve,
    ReportData,
    TargetReport,
    TrainingCurve,
    facts_from_lines,
    measure_methods,
    noise_ceiling,
    render_report,
    write_heatmap,
    write_report,
)
from moltide.report.style import drawing, new_figure, plain, to_svg
from moltide.report.words import DASH, MINUS, flat, minus, number, score, sentence
from moltide.verdict import make_verdict, panel_verdict

HOSTILE = '<script>alert("x")</script> & $\\frac{1}{0$ \x07 "q" \'s\' --> ]]> 色'


class Page(HTMLParser):
    """Tags, ids, links and the text of a page; every opened element has to be closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.stack: list[str] = []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def count(self, tag):
        return sum(one == tag for one, _ in self.tags)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def regression_target(rng, n=120, name="fitness", **options):
    y = rng.normal(size=n)
    prediction = y + 0.5 * rng.normal(size=n)
    ridge = BaselineResult("ridge", "ridge on one-hot", y + 0.8 * rng.normal(size=n), 1.2, "note A")
    none = BaselineResult("zero_shot", "zero-shot score", None, 0.0, "no wild type was given")
    given = {
        "methods": measure_methods(y, prediction, [ridge, none], resamples=50, model_seconds=200),
        "verdict": make_verdict(y, prediction, [ridge, none], split="random", resamples=50),
        "rows": [str(i + 2) for i in range(n)],
    }
    names = [f"A{i + 1}G" for i in range(n)]
    return TargetReport(name, y, prediction, names, **(given | options))


def classification_target(rng, classes=3, n=150, name="class"):
    y = rng.integers(0, classes, n).astype(float)
    raw = np.exp(rng.normal(size=(n, classes)) + 2 * np.eye(classes)[y.astype(int)])
    prediction = raw / raw.sum(axis=1, keepdims=True)
    flat_one = BaselineResult(
        "mean", "class frequencies", np.full((n, classes), 1 / classes), 0, ""
    )
    options = {"task": "classification", "n_classes": classes, "resamples": 50}
    return TargetReport(
        name,
        y,
        prediction,
        [f"S{i}" for i in range(n)],
        measure_methods(y, prediction, [flat_one], **options),
        make_verdict(y, prediction, [flat_one], **options),
        task="classification",
        classes=[f"kind {i}" for i in range(classes)],
    )


def report(*targets, **options):
    verdict = panel_verdict({one.name: one.verdict for one in targets if one.verdict})
    return ReportData("Assay", verdict, list(targets), **options)


def full_report(rng):
    n = 120
    target = regression_target(
        rng,
        std=np.linspace(0.3, 0.7, n),
        low=np.full(n, -3.0),
        high=np.full(n, 3.0),
        positions=[(i % 30, (i + 3) % 30) for i in range(n)],
        wildtype="ACDEFGHIKL" * 3,
        numbering=24,
        noise_sd=0.3,
        n_replicates=np.full(n, 2),
        domain_notes=["unusual length"] * n,
        unit="kcal/mol",
        y_train=rng.normal(size=50),
        prediction_train=rng.normal(size=50),
        learning_curve=LearningCurve(
            "spearman",
            [
                CurveSeries("Model", [50, 200, 800], [[0.3, 0.35], [0.5], [0.6]], True),
                CurveSeries("Ridge", [50, 800], [[0.3], [0.55]]),
            ],
        ),
    )
    return report(
        target,
        source="assay.csv",
        summary=[("read", "120 rows"), ("", "target column 'fitness'")],
        split_method="position",
        split_reason="Because of a reason.",
        split_counts={"train": 800, "valid": 80, "test": 120, "none": 3},
        split_notes=["a note on the split"],
        training=TrainingCurve([1, 2, 3], [1.0, 0.6, 0.5], [2, 3], [0.4, 0.5], best_step=3),
        settings={"adapter": "lora", "nested": {"rank": 8, "on": True, "off": None}},
        provenance={"data": {"sha256": "ab" * 32}},
        created="21 November 2026",
        command="moltide finetune assay.csv --out run",
        notes=["a note to the reader"],
    )


def test_every_part_of_a_full_report_is_there(rng):
    data = full_report(rng)
    page = Page(render_report(data))
    for words in (
        data.verdict, "assay.csv", "21 November 2026", "a note to the reader", "120 rows",
        "target column 'fitness'", "By position.", "Because of a reason.", "A note on the split.",
        "Model and baselines", "Predicted against measured", "Residuals", "Learning curve",
        "Training", "Coverage of the predicted uncertainty", "Error by predicted SD",
        "Error by position", "The worst misses", "unusual length", "moltide finetune assay.csv",
        "nested.rank", "ab" * 32, "no wild type was given", "not available", "noise ceiling",
    ):  # fmt: skip
        assert minus(words) in page.text or words in page.text, words
    assert page.count("svg") == 8
    # The verdict comes before everything but the title.
    assert page.text.index(minus(data.verdict)) < page.text.index("What was read")


def test_the_page_needs_no_network_and_runs_no_foreign_script(rng):
    text = render_report(full_report(rng))
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "foreignobject")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, name, value[:60])
    outside = re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    assert "http://" not in outside
    assert "https://" not in outside
    assert "@import" not in text
    policies = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    ]


@pytest.mark.parametrize("words", [HOSTILE, "</style><script>x</script>", "{{ 7 * 7 }}", "$x", ""])
def test_words_from_the_user_stay_words(rng, words):
    one = regression_target(
        rng,
        name=words,
        unit=words,
        rows=[words] * 120,
        domain_notes=[words] * 120,
        positions=[(0,)] * 120,
        wildtype="A",
    )
    one.names = [words] * 120
    one.methods[1].label = words
    one.methods[1].note = words
    one.learning_curve = LearningCurve("spearman", [CurveSeries(words, [5, 9], [[0.1], [0.2]])])
    two = classification_target(rng, name=words)
    two.classes = [words, words, words]
    data = report(
        one, two, source=words, summary=[(words, words)], split_method=words, split_reason=words,
        split_counts={words or "part": 3}, split_notes=[words], settings={words: {words: words}},
        provenance={words: [words, 1.5]}, created=words, command=words, notes=[words],
    )  # fmt: skip
    data.title = data.verdict = words
    text = render_report(data)
    page = Page(text)
    assert page.count("script") == 1
    assert page.count("style") == 1
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)
    if words:
        assert html.escape(words.split()[0], quote=False) in html.unescape(
            text.replace("&lt;", "&amp;lt;").replace("&gt;", "&amp;gt;")
        )
        assert page.text.count(" ".join(minus(words).split())) > 10
    for svg in re.findall(r"<svg.*?</svg>", text, flags=re.S):
        root = ElementTree.fromstring(re.sub(r"[\x00-\x08]", "", svg))
        tags = {one.tag.rsplit("}", 1)[-1] for one in root.iter()}
        assert tags <= {
            "svg",
            "g",
            "path",
            "text",
            "tspan",
            "image",
            "use",
            "defs",
            "clipPath",
            "rect",
        }


def test_ids_are_unique_and_references_have_a_target(rng):
    text = render_report(report(regression_target(rng, 600), classification_target(rng)))
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert used <= set(ids)


def test_figures_are_named_for_those_who_do_not_see_them(rng):
    page = Page(render_report(full_report(rng)))
    pictures = [a for t, a in page.tags if t == "svg"]
    assert all(a["role"] == "img" and len(a["aria-label"]) > 25 for a in pictures)
    html_tag = next(a for t, a in page.tags if t == "html")
    assert html_tag["lang"] == "en"


def test_colours_follow_the_screen(rng):
    text = render_report(full_report(rng))
    assert "var(--ink)" in text
    body = text[text.index("<main>") :]
    assert "#1d2733" not in body.lower()
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def contrast(a, b):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_words_have_enough_contrast_in_both_themes(rng):
    text = render_report(full_report(rng))
    themes = re.findall(r":root \{(.*?)\}", text, flags=re.S)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", theme))
        for ground in ("paper", "card"):
            for words in ("ink", "muted", "model", "good", "bad", "level", "accent"):
                assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)


def test_the_same_data_give_the_same_page(rng):
    data = full_report(rng)
    assert render_report(data) == render_report(data)


def test_thousands_of_points_stay_small(rng):
    n = 20_000
    y = rng.normal(size=n)
    prediction = y + rng.normal(size=n)
    methods = measure_methods(y, prediction, [], resamples=5)
    target = TargetReport("y", y, prediction, ["x"] * n, methods)
    assert len(render_report(ReportData("t", "v", [target]))) < 2e6


def test_metrics_in_the_table_are_the_metrics(rng):
    target = regression_target(rng)
    expected = regression_metrics(target.y, target.prediction)
    row = target.methods[0]
    assert row.is_model
    assert {name: found[0] for name, found in row.metrics.items()} == pytest.approx(expected)
    assert all(found[1] <= found[0] <= found[2] for found in row.metrics.values())
    text = Page(render_report(report(target))).text
    for name in ("spearman", "rmse", "r2"):
        assert f"{expected[name]:.3f}" in text
    other = classification_target(rng)
    expected = classification_metrics(other.y, other.prediction, 3)
    found = {name: interval[0] for name, interval in other.methods[0].metrics.items()}
    assert found == pytest.approx(expected)


def test_the_worst_misses_are_the_worst(rng):
    target = regression_target(rng)
    target.y[7], target.prediction[7] = 1.0, 99.0
    target.y[9], target.prediction[9] = 2.0, -42.5
    text = render_report(report(target))
    table = text[text.index("misses") : text.index("A click on a heading sorts")]
    rows = re.findall(r"<tr>(<td.*?)</tr>", table, flags=re.S)
    assert len(rows) == 25
    assert "A8G" in rows[0]
    assert "98.0" in rows[0]
    assert ">9</td>" in rows[0].replace('title=""', "")  # the row in the table
    assert "A10G" in rows[1]
    errors = [abs(float(re.findall(r'data-value="([^"]+)"', row)[2])) for row in rows]
    assert errors == sorted(errors, reverse=True)


def test_misses_of_classes_are_the_confident_mistakes(rng):
    target = classification_target(rng)
    target.y[5], target.prediction[5] = 0.0, [0.001, 0.998, 0.001]
    text = render_report(report(target))
    table = text[text.index("misses") : text.index("A click on a heading sorts")]
    first = re.findall(r"<tr>(<td.*?)</tr>", table, flags=re.S)[0]
    assert "S5" in first
    assert "0.998" in first


def test_several_targets_have_a_panel_and_a_section_each(rng):
    one, two = regression_target(rng, name="Km"), regression_target(rng, name="Tm")
    text = render_report(report(one, two, training=TrainingCurve([1, 2], [2.0, 1.0])))
    page = Page(text)
    assert 'href="#target-1"' in text
    assert 'id="target-2"' in text
    top = Page(text[text.index('<section id="verdict"') : text.index('<section id="panel"')]).text
    panel = "The fine-tuned model beats the best baseline on"
    places = [top.index(line) for line in (panel, "Km", one.verdict.text, "Tm", two.verdict.text)]
    assert places == sorted(places)
    for target in (one, two):
        assert page.text.count(target.verdict.text) == 2
    assert page.text.count("The worst misses") == 2
    assert page.text.count("Optimiser step") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"y": np.full(120, np.nan)},
        {"y": np.ones(120)},
        {"prediction": np.zeros(120)},
        {"std": np.full(120, np.nan)},
        {"std": np.full(120, 0.3)},
        {"censor": np.ones(120, int)},
        {"censor": np.arange(120) % 3 - 1},
        {"noise_sd": 50.0},
        {"noise_sd": float("nan")},
        {"positions": [()] * 120, "wildtype": "ACD"},
        {"learning_curve": LearningCurve("spearman", [])},
        {"learning_curve": LearningCurve("r2", [CurveSeries("Model", [10], [[0.2]], True)])},
        {"rows": None, "verdict": None, "methods": []},
    ],
    ids=lambda change: "-".join(change) if isinstance(change, dict) else None,
)
def test_poor_data_still_make_a_report(rng, change):
    target = regression_target(rng)
    for name, value in change.items():
        setattr(target, name, value)
    Page(render_report(ReportData("t", "v", [target])))


def test_one_size_is_no_learning_curve(rng):
    target = regression_target(rng)
    target.learning_curve = LearningCurve("r2", [CurveSeries("Model", [1073], [[0.2]], True)])
    text = render_report(report(target))
    assert "rises at its right end" not in text
    assert "No learning curve: 1,073 training rows are its only size." in text


def test_one_spread_for_every_row_is_remarked_on(rng):
    target = regression_target(rng)
    remark = "The predicted SD is the same for every row"
    assert remark not in render_report(report(target))
    target.std = np.full(120, 0.194)
    assert remark in render_report(report(target))


def test_source_rows_are_numbers_unless_readings_were_merged(rng):
    target = regression_target(rng)
    assert '<th scope="col" class="number">Row in the table</th>' in render_report(report(target))
    target.rows = ["7; 12", *target.rows[1:]]
    assert '<th scope="col">Row in the table</th>' in render_report(report(target))


@pytest.mark.parametrize("n", [1, 2, 5, 25])
def test_few_test_rows_still_make_a_report(rng, n):
    Page(render_report(report(regression_target(rng, n), classification_target(rng, 2, n))))


@pytest.mark.parametrize("sites", [3, 200])
def test_positions_are_named_as_the_authors_number_them(rng, sites):
    target = regression_target(rng, 600, wildtype="W" * 250, numbering=24)
    target.positions = [(i % sites,) for i in range(600)]
    target.prediction = target.y + np.where(np.arange(600) % sites == 2, 9.0, 0.1)
    text = render_report(report(target))
    picture = text[text.index("Error by position") : text.index("The worst misses")]
    assert ">W26<" in picture


@pytest.mark.parametrize("classes", [2, 3, 12, 40])
def test_any_number_of_classes(rng, classes):
    Page(render_report(report(classification_target(rng, classes, 400))))


def test_probabilities_of_two_classes_may_come_as_one_column(rng):
    y, names = [0, 1, 1], ["a", "b", "c"]
    target = TargetReport("binds", y, [0.1, 0.8, 0.4], names, [], task="classification")
    np.testing.assert_allclose(target.prediction, [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert target.classes == ["0", "1"]


def test_lengths_that_differ_are_refused(rng):
    with pytest.raises(DataError, match="names has 2 entries for 3 test rows"):
        TargetReport("y", [1, 2, 3], [1, 2, 3], ["a", "b"], [])
    with pytest.raises(DataError, match="positions run from 0 to 5; allowed: 0 to 2"):
        TargetReport("y", [1, 2], [1, 2], ["a", "b"], [], positions=[(0,), (5,)], wildtype="ACD")


def test_the_file_appears_whole_or_not_at_all(rng, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    data = report(regression_target(rng))
    write_report(data, path)
    before = path.read_text("utf-8")
    assert before.startswith("<!doctype html>")
    data.targets[0].methods[0].metrics["spearman"] = "broken"
    with pytest.raises((TypeError, ValueError)):
        write_report(data, path)
    assert path.read_text("utf-8") == before
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(FileNotFoundError):
        write_report(report(regression_target(rng)), tmp_path / "missing" / "report.html")


def test_matplotlib_settings_of_the_user_are_neither_used_nor_changed(rng):
    import matplotlib

    data = report(regression_target(rng))
    expected = render_report(data)
    with matplotlib.rc_context({"font.size": 33, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert render_report(data) == expected
        assert dict(matplotlib.rcParams) == before


def test_a_figure_that_fails_leaves_the_settings_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError), drawing():
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


def test_svg_of_words_with_markup():
    with drawing():
        figure, axes = new_figure(200, 100)
        axes.set_title(plain(HOSTILE, 200))
        svg = to_svg(figure, HOSTILE)
    root = ElementTree.fromstring(svg.replace("\x07", ""))
    assert "alert" in "".join(root.itertext())
    assert not [one for one in root.iter() if one.tag.endswith("script")]


def test_noise_ceiling_of_a_simulated_assay(rng):
    truth = rng.normal(size=4000)
    sd = 0.6
    measured = truth + sd * rng.normal(size=4000)
    for metric in ("spearman", "pearson", "r2", "rmse", "mae"):
        found = noise_ceiling(measured, sd, metric=metric)
        assert found == pytest.approx(regression_metrics(measured, truth)[metric], abs=0.03), metric
    twice = truth + sd / np.sqrt(2) * rng.normal(size=4000)
    found = noise_ceiling(twice, sd, np.full(4000, 2), "pearson")
    assert found == pytest.approx(regression_metrics(twice, truth)["pearson"], abs=0.03)
    assert noise_ceiling(measured, None) is None
    assert noise_ceiling(measured, 10.0) is None
    assert noise_ceiling(measured, sd, metric="auroc") is None


@pytest.mark.parametrize("ending", ["html", "svg", "png"])
def test_heat_map_files(rng, tmp_path, ending):
    wildtype = "ACDEFGHIKLMNPQRSTVWY" * 4 + "ACD"
    path = tmp_path / f"scan.{ending}"
    scores = rng.normal(size=(83, 20))
    scores[4, 4] = np.nan
    write_heatmap(scores, wildtype, path, title=HOSTILE, subtitle=HOSTILE, numbering=24)
    content = path.read_bytes()
    assert len(content) > 5000
    if ending == "png":
        assert content.startswith(b"\x89PNG")
    else:
        text = content.decode()
        assert "<script>alert" not in text
        assert ">100<" in text.replace(" ", "").replace("\n", "")  # numbering starts at 24
    if ending == "html":
        Page(text)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_heat_map_refusals(rng, tmp_path):
    with pytest.raises(DataError, match=r"shape \(2, 20\), expected \(3, 20\)"):
        write_heatmap(np.zeros((2, 20)), "ACD", tmp_path / "scan.svg")
    with pytest.raises(ConfigError, match=r"expected one of \.html, \.svg, \.png"):
        write_heatmap(np.zeros((3, 20)), "ACD", tmp_path / "scan.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.123"),
        (-0.5, f"{MINUS}0.500"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (1234567.0, "1,234,567"),
        (1.234e9, "1.23e+09"),
        (0.00123, "0.00123"),
        (0.0, "0.000"),
        (-1e-15, "0.000"),
        (None, DASH),
        (float("nan"), DASH),
    ],
)
def test_numbers_in_words(value, text):
    assert number(value) == text


def test_scores_and_signs():
    assert score(-0.0001) == "0.000"
    assert score(-0.25) == f"{MINUS}0.250"
    assert (
        minus("from -1.5 to -2, A-2 one-hot [-0.1, 0.2]")
        == f"from {MINUS}1.5 to {MINUS}2, A-2 one-hot [{MINUS}0.1, 0.2]"
    )


def test_sentences():
    assert [sentence(one) for one in ("as asked for", "Why? ", "", "a b.")] == [
        "As asked for.",
        "Why?",
        "",
        "A b.",
    ]


def test_settings_in_words():
    table = {"a": {"b": 1e-4, "c": [1, None]}, "d": True, "e": {}, "f": "x"}
    assert list(flat(table)) == [
        ("a.b", "0.0001"), ("a.c", f"1, {DASH}"), ("d", "yes"), ("f", "x"),
    ]  # fmt: skip
    assert facts_from_lines(["read       12 rows", "           more"], 10) == [
        ("read", "12 rows"),
        ("", "more"),
    ]
