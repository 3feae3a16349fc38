"""Zero-shot scores against the formulas written out one mutation at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import moltide as mt
from moltide.assay.mutations import parse_mutations
from moltide.encoder import Encoder
from moltide.errors import ConfigError, DataError
from moltide.scoring import METHODS, pseudo_log_likelihood, score_variants
from moltide.sequences import RESIDUES

TINY = Path(__file__).parent.parent / "data" / "esm2_tiny_random"
WILD = "MKTAYIAKQRX"
VARIANTS = ["K2A", "WT", "K2A:Y5W", "M1C", "R10P:K2A:T3G", "Y5W", "I6="]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return mt.load(TINY)


def log_softmax(row: np.ndarray) -> np.ndarray:
    wide = row.astype(np.float64)
    return wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())


def at(encoder: Encoder, text: str, position: int) -> np.ndarray:
    """Log probabilities at a 0-based residue of a text that may hold <mask>."""
    return log_softmax(encoder.logits([text])[0][position + 1])


def masked(residues: str, *positions: int) -> str:
    return "".join("<mask>" if i in positions else r for i, r in enumerate(residues))


def spelled_out(encoder: Encoder, variant: str, method: str, joint: bool = False) -> float:
    mutations = parse_mutations(variant, WILD)
    mutant = list(WILD)
    for mutation in mutations:
        mutant[mutation.position] = mutation.mut
    if method == "pseudo":
        return sum(
            sign * at(encoder, masked("".join(text), i), i)[encoder.tokenizer.id_of(text[i])]
            for sign, text in ((1, mutant), (-1, WILD))
            for i in range(len(WILD))
        )
    total = 0.0
    everywhere = [m.position for m in mutations]
    for wt, position, mut in mutations:
        hidden = [] if method == "wildtype" else everywhere if joint else [position]
        row = at(encoder, masked(WILD, *hidden), position)
        total += row[encoder.tokenizer.id_of(mut)] - row[encoder.tokenizer.id_of(wt)]
    return total


@pytest.mark.parametrize("method", METHODS)
def test_formula(encoder: Encoder, method: str) -> None:
    got = encoder.score_variants(WILD, VARIANTS, method)
    want = [spelled_out(encoder, variant, method) for variant in VARIANTS]
    assert got.dtype == np.float32
    assert np.allclose(got, want, rtol=1e-5, atol=1e-5)
    assert got[1] == got[6] == 0
    assert np.ptp(got) > 0.1


def test_joint_masks(encoder: Encoder) -> None:
    got = score_variants(encoder, WILD, VARIANTS, joint=True)
    want = [spelled_out(encoder, variant, "masked", joint=True) for variant in VARIANTS]
    assert np.allclose(got, want, rtol=1e-5, atol=1e-5)
    assert not np.allclose(got, encoder.score_variants(WILD, VARIANTS))


def test_published_name_of_the_default(encoder: Encoder) -> None:
    assert np.array_equal(
        encoder.score_variants(WILD, VARIANTS), encoder.score_variants(WILD, VARIANTS, "masked")
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch_tokens", [1, 30, 8192])
def test_size_of_a_pass_changes_no_bit(encoder: Encoder, method: str, batch_tokens: int) -> None:
    whole = encoder.score_variants(WILD, VARIANTS, method)
    parts = encoder.score_variants(WILD, VARIANTS[::-1], method, batch_tokens=batch_tokens)
    assert np.array_equal(parts[::-1], whole)


@pytest.mark.parametrize("method", METHODS)
def test_scan_is_every_single_variant(encoder: Encoder, method: str) -> None:
    found = encoder.scan(WILD, method, offset=24)
    assert found.scores.shape == (len(WILD), 20)
    assert found.scores.dtype == np.float32
    names, scores = found.to_long()
    assert len(names) == 19 * (len(WILD) - 1)
    assert np.isnan(found.scores[-1]).all()  # X is none of the 20
    assert np.isfinite(found.scores[:-1]).all()
    assert np.allclose(encoder.score_variants(WILD, names, method, offset=24), scores, atol=1e-6)
    for i, residue in enumerate(WILD[:-1]):
        assert found.scores[i, RESIDUES.index(residue)] == 0
    frame = found.to_frame()
    assert frame.loc["K25", "A"] == scores[names.index("K25A")]
    assert list(frame.columns) == list(RESIDUES)


def test_a_scan_needs_a_residue(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="nothing to scan"):
        encoder.scan("XXB")


def test_parsed_mutations_and_columns(encoder: Encoder) -> None:
    pandas = pytest.importorskip("pandas")
    want = encoder.score_variants(WILD, VARIANTS)
    parsed = [parse_mutations(variant, WILD) for variant in VARIANTS]
    assert np.array_equal(encoder.score_variants(WILD, parsed), want)
    assert np.array_equal(encoder.score_variants(WILD, pandas.Series(VARIANTS)), want)
    assert encoder.score_variants(WILD, []).shape == (0,)
    assert encoder.score_variants(WILD, ["WT"], joint=True).tolist() == [0.0]


def test_numbering(encoder: Encoder) -> None:
    assert np.array_equal(
        encoder.score_variants(WILD, ["K1A"], offset=0), encoder.score_variants(WILD, ["K2A"])
    )


def test_adapter_changes_scores(encoder: Encoder) -> None:
    adapted = mt.load(TINY)
    adapted.add_adapter("a", rank=2, seed=1)
    for name, shape in adapted.model.parameters():
        if name.endswith("lora_b"):
            adapted.model.set_parameter(name, np.full(shape, 0.1, np.float32))
    plain = encoder.score_variants(WILD, VARIANTS)
    assert np.array_equal(adapted.score_variants(WILD, VARIANTS), plain)
    with_adapter = adapted.score_variants(WILD, VARIANTS, adapter="a")
    assert not np.allclose(with_adapter, plain)
    adapted.merge_adapter("a")
    assert np.allclose(adapted.score_variants(WILD, VARIANTS), with_adapter, atol=1e-4)


def test_pseudo_log_likelihood(encoder: Encoder) -> None:
    texts = ["MKTAY", "A", "GGX"]
    got = pseudo_log_likelihood(encoder, texts)
    want = [
        sum(
            at(encoder, masked(text, i), i)[encoder.tokenizer.id_of(residue)]
            for i, residue in enumerate(text)
        )
        for text in texts
    ]
    assert np.allclose(got, want, rtol=1e-6)
    with pytest.raises(DataError, match="sequence 1 has 'k' at position 2"):
        pseudo_log_likelihood(encoder, ["MK", "Mk"])


def test_stops_have_no_score(encoder: Encoder) -> None:
    for method in METHODS:
        with pytest.warns(UserWarning, match="2 of 3 variants .* NaN"):
            scores = encoder.score_variants(WILD, ["K2*", "K2A", "Y5W:K2*"], method)
        assert np.isnan(scores).tolist() == [True, False, True]


def test_progress(encoder: Encoder) -> None:
    calls: list[tuple[int, int | None]] = []
    encoder.score_variants(
        WILD, VARIANTS, batch_tokens=30, progress=lambda n, total: calls.append((n, total))
    )
    assert calls[-1] == (5, 5)  # distinct positions


@pytest.mark.parametrize(
    ("wildtype", "variants", "message"),
    [
        (WILD, ["K2A", "A2G"], r"variant 1: A2G: the wild type has K, not A, at position 2"),
        (WILD, ["K99A"], r"variant 0: K99A: the wild type has positions 1 to 11, not 99"),
        (WILD, ["nonsense"], r"variant 0: 'nonsense' is no mutation"),
        ("MKt", ["K2A"], r"the wild type has 't' at position 3; allowed are"),
        ("MK T", ["K2A"], r"the wild type has ' ' at position 3"),
        ("", ["K2A"], r"sequence 0 is empty"),
        (WILD, "K2A", r"put it in a list"),
    ],
)
def test_data_refused(encoder: Encoder, wildtype: str, variants: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encoder.score_variants(wildtype, variants)


def test_options_refused(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="method is 'best'; allowed: masked, wildtype, pseudo"):
        encoder.score_variants(WILD, VARIANTS, "best")
    with pytest.raises(ConfigError, match="method is 'best'"):
        encoder.scan(WILD, "best")
    with pytest.raises(ConfigError, match="joint=True goes with method='masked'"):
        score_variants(encoder, WILD, VARIANTS, "wildtype", joint=True)
    with pytest.raises(ConfigError, match="no adapter 'x'"):
        encoder.score_variants(WILD, VARIANTS, adapter="x")
