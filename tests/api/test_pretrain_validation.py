"""Validation of pretraining: hidden residues, perplexity, and the baselines against brute force."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pretraining_files import PROTEINS, corpus_of, proteins
from tiny_runs import RESIDUES, tiny_encoder

from moltide.pretraining.neighbours import contexts, fit_neighbours
from moltide.pretraining.windows import HiddenWindows, hide, perplexity


def windows_of(
    folder: Path, texts: list[str], longest: int = 50, rate: float = 0.15
) -> HiddenWindows:
    corpus = corpus_of(folder, texts)
    return hide(corpus, np.arange(len(corpus), dtype=np.int64), longest, rate, 1)


def test_hidden_residues_are_always_the_same_standard_ones(tmp_path: Path) -> None:
    texts = [*proteins(200), "X" * 60]
    windows = windows_of(tmp_path, texts)
    again = hide(windows.corpus, np.arange(201), 50, 0.15, 1)
    np.testing.assert_array_equal(windows.hidden, again.hidden)
    assert windows.lengths.sum() == sum(map(len, texts))
    assert windows.lengths.max() == 50
    standard = sum(map(len, texts[:-1]))
    assert windows.count / standard == pytest.approx(0.15, abs=0.01)
    assert not windows.hidden[-60:].any()


def test_a_sample_is_a_part_with_the_same_hidden_residues(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, proteins(50))
    sample = windows.sample(500, 1)
    assert 400 < sample.lengths.sum() <= 500
    places = {begin: i for i, begin in enumerate(windows.begins.tolist())}
    starts, own = windows.starts(), sample.starts()
    for i, begin in enumerate(sample.begins.tolist()):
        at = places[begin]
        np.testing.assert_array_equal(
            sample.hidden[own[i] : own[i + 1]], windows.hidden[starts[at] : starts[at + 1]]
        )
    assert windows.sample(10**9, 1).count == windows.count


def test_perplexity_is_that_of_the_logits(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    windows = windows_of(tmp_path, proteins(12))
    tokenizer = encoder.tokenizer
    losses = []
    for i, start in enumerate(windows.starts()[:-1].tolist()):
        text = bytes(windows.letters(i)).decode()
        hidden = windows.hidden[start : start + len(text)]
        shown = "".join("<mask>" if h else c for c, h in zip(text, hidden, strict=True))
        logits = encoder.logits([shown])[0][1:-1].astype(np.float64)
        for place in np.flatnonzero(hidden):
            row = logits[place]
            losses.append(np.log(np.exp(row).sum()) - row[tokenizer.id_of(text[place])])
    expected = math.exp(np.mean(losses))
    assert perplexity(encoder, windows) == pytest.approx(expected, rel=1e-6)
    assert perplexity(encoder, windows, 60) == perplexity(encoder, windows)


def test_a_pass_holds_as_many_windows_as_fit_and_one_at_least(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, ["A" * n for n in (20, 20, 20, 45, 1, 27, 19, 19)])
    passes: list[list[int]] = []

    def logits(tokens: np.ndarray, offsets: np.ndarray, adapter: None) -> np.ndarray:
        passes.append(np.diff(offsets).tolist())
        return np.zeros((len(tokens), 33), np.float32)

    stand_in = SimpleNamespace(
        tokenizer=tiny_encoder().tokenizer, model=SimpleNamespace(logits=logits)
    )
    assert perplexity(stand_in, windows, 44) == pytest.approx(33)
    assert passes == [[22, 22], [22], [47], [3, 29], [21, 21]]


def test_a_model_that_knows_nothing_has_as_many_choices_as_tokens(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    windows = windows_of(tmp_path, proteins(12))
    for name, shape in encoder.model.parameters():
        encoder.model.set_parameter(name, np.zeros(shape, np.float32))
    assert perplexity(encoder, windows) == pytest.approx(33, rel=1e-6)
    bias = np.full(33, -40, np.float32)
    bias[[encoder.tokenizer.id_of(letter) for letter in RESIDUES]] = 0
    encoder.model.set_parameter("lm_head.bias", bias)
    assert perplexity(encoder, windows) == pytest.approx(20, rel=1e-6)


# ---- the k-mer model --------------------------------------------------------------------------


def seen_around(text: str, hidden: np.ndarray, place: int) -> tuple[str, ...]:
    """Two neighbours before and two behind: a residue, "?" hidden, "-" none."""

    def symbol(at: int) -> str:
        if not 0 <= at < len(text) or text[at] not in RESIDUES:
            return "-"
        return "?" if hidden[at] else text[at]

    return tuple(symbol(place + shift) for shift in (-2, -1, 1, 2))


def test_contexts_tell_neighbours_apart() -> None:
    text = "MKTXAYIAKM"
    hidden = np.array([c in "TI" for c in text])
    codes = PROTEINS.codes[np.frombuffer(text.encode(), dtype=np.uint8)]
    coded = contexts(codes, hidden)
    seen = [seen_around(text, hidden, place) for place in range(len(text))]
    for i, j in itertools.combinations(range(len(text)), 2):
        assert (coded[i] == coded[j]) == (seen[i] == seen[j])


def test_the_kmer_model_is_what_its_formulas_say(tmp_path: Path) -> None:
    # Few residues, so that contexts of four occur more than once; an X within.
    rng = np.random.default_rng(3)
    texts = ["".join(rng.choice(list("ACDX"), 40, p=[0.4, 0.3, 0.25, 0.05])) for _ in range(30)]
    corpus = corpus_of(tmp_path, texts)
    rate, seed = 0.15, 7
    model = fit_neighbours(corpus, np.arange(30), rate, seed)

    # Hidden residues are drawn along records with two places between them.
    draws = np.random.Generator(np.random.Philox(key=[seed, 2])).random(30 * 42)
    far: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    near: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    single: Counter[str] = Counter()
    for i, text in enumerate(texts):
        hidden = draws[42 * i : 42 * i + 40] < rate
        for place, letter in enumerate(text):
            if letter in RESIDUES:
                around = seen_around(text, hidden, place)
                far[around][letter] += 1
                near[around[1:3]][letter] += 1
                single[letter] += 1
    k1, k2 = model.strengths

    def p0(x: str) -> float:
        return (single[x] + 1) / (single.total() + 20)

    def p1(x: str, around: tuple[str, ...]) -> float:
        counts = near[around[1:3]]
        return (counts[x] + k1 * p0(x)) / (counts.total() + k1)

    def p2(x: str, around: tuple[str, ...]) -> float:
        return (far[around][x] + k2 * p1(x, around)) / (far[around].total() + k2)

    valid = ["".join(rng.choice(list("ACDEX"), 30)) for _ in range(10)]
    (tmp_path / "valid").mkdir()
    windows = windows_of(tmp_path / "valid", valid, rate=0.3)
    expected: dict[str, list[float]] = {"unigram": [], "kmer": []}
    for text, start in zip(valid, windows.starts(), strict=False):
        hidden = windows.hidden[start : start + 30]
        for place in np.flatnonzero(hidden):
            expected["unigram"].append(math.log(p0(text[place])))
            expected["kmer"].append(math.log(p2(text[place], seen_around(text, hidden, place))))
    found = model.perplexities(windows)
    for name, logs in expected.items():
        assert found[name] == pytest.approx(math.exp(-np.mean(logs)), rel=1e-9), name

    # The strengths are the best of the grid, each counted residue left out once.
    def left_out(k: float) -> float:
        total = 0.0
        for around, counts in far.items():
            for x, n in counts.items():
                total += n * math.log((n - 1 + k * p1(x, around)) / (counts.total() - 1 + k))
        return total

    assert k2 == max(4.0 ** np.arange(12), key=left_out)


def test_the_kmer_model_finds_what_neighbours_tell(tmp_path: Path) -> None:
    # Each residue repeats the one two places before: known unless that one is hidden or absent.
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ACDEFG"), 2)) * 30 for _ in range(400)]
    corpus = corpus_of(tmp_path, texts)
    model = fit_neighbours(corpus, np.arange(300), 0.15, 1)
    windows = hide(corpus, np.arange(300, 400), 60, 0.15, 1)
    found = model.perplexities(windows)
    assert found["unigram"] > 5.9
    assert found["kmer"] < 1.3
    noise = [*proteins(300, low=60, high=61)]
    (tmp_path / "noise").mkdir()
    corpus = corpus_of(tmp_path / "noise", noise)
    model = fit_neighbours(corpus, np.arange(250), 0.15, 1)
    found = model.perplexities(hide(corpus, np.arange(250, 300), 60, 0.15, 1))
    assert found["kmer"] == pytest.approx(found["unigram"], rel=0.02)
