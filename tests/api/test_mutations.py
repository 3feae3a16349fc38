"""Mutation strings: what is understood, what is refused, and whose numbering they use."""

from __future__ import annotations

import pytest
from assay_tables import PARENT, RESIDUES, mutate, scan
from hypothesis import given
from hypothesis import strategies as st

from moltide.assay import (
    Mutation,
    apply_mutations,
    diff,
    format_mutations,
    parse_mutations,
)
from moltide.assay.mutations import Change, read_changes
from moltide.assay.numbering import best_offset, choose_offset, consistent_offsets
from moltide.errors import DataError

K2A = Mutation("K", 1, "A")
Y5P = Mutation("Y", 4, "P")
sequences = st.text(RESIDUES, min_size=1, max_size=60)


@pytest.mark.parametrize(
    "text",
    [
        "K2A/Y5P", "K2A:Y5P", "K2A,Y5P", "K2A Y5P", "K2A;Y5P", "K2A_Y5P", "K2A+Y5P", "K2A-Y5P",
        " k2a , y5p ", "Y5P:K2A", "p.[Lys2Ala;Tyr5Pro]", "p.Lys2Ala;p.Tyr5Pro", "K2A:M1M:Y5P",
    ],
)  # fmt: skip
def test_spellings_of_a_double_mutant(text: str) -> None:
    assert parse_mutations(text, PARENT) == (K2A, Y5P)


@pytest.mark.parametrize("text", ["WT", "wt", "_wt", "wild type", "", "p.=", "M1M", "p.Met1="])
def test_spellings_of_the_wild_type(text: str) -> None:
    assert parse_mutations(text, PARENT) == ()


@pytest.mark.parametrize(
    ("text", "offset"), [("K2A", 1), ("K1A", 0), ("K25A", 24), ("K-3A", -4), ("p.Lys127Ala", 126)]
)
def test_offset_is_the_number_of_the_first_residue(text: str, offset: int) -> None:
    assert parse_mutations(text, PARENT, offset) == (K2A,)


@pytest.mark.parametrize("text", ["W71*", "p.Trp71Ter", "p.Trp71*"])
def test_stop(text: str) -> None:
    assert read_changes(text) == (Change("W", 71, "*"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A2P", r"A2P: the wild type has K, not A, at position 2"),
        ("K41A", r"K41A: the wild type has positions 1 to 40, not 41"),
        ("M0A", r"positions 1 to 40, not 0"),
        ("K2A:K2G", r"changes position 2 twice"),
        ("K2del", r"'K2del' is no substitution"),
        ("p.Lys2fs", r"is no substitution"),
        ("p.Lys2del", r"is no substitution"),
        ("K2_Y5insA", r"is no substitution"),
        ("hello", r"'hello' is no mutation"),
        ("p.Xyz2Ala", r"'XYZ' is no residue"),
        ("2", r"is no mutation"),
    ],
)
def test_refusals_say_what_and_where(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_mutations(text, PARENT)


def test_apply_and_diff_refuse_what_does_not_fit() -> None:
    with pytest.raises(DataError, match="wild type has M, not A, at position 0"):
        apply_mutations(PARENT, [Mutation("A", 0, "C")])
    with pytest.raises(DataError, match=r"position 40 \(0-based\) is outside 40 residues"):
        apply_mutations(PARENT, [Mutation("A", 40, "C")])
    with pytest.raises(DataError, match="wild type 40, sequence 39"):
        diff(PARENT, PARENT[1:])


@given(st.data(), sequences, st.integers(-200, 2000))
def test_round_trip(data: st.DataObject, parent: str, offset: int) -> None:
    """Any sequence of the same length: diff -> text -> parse -> apply gives it back."""
    same_length = st.text(RESIDUES, min_size=len(parent), max_size=len(parent))
    sequence = data.draw(same_length)
    mutations = diff(parent, sequence)
    separator = data.draw(st.sampled_from(["/", ":", ",", " ", ";", "+"]))
    text = format_mutations(mutations, offset, separator)
    assert parse_mutations(text, parent, offset) == mutations
    assert apply_mutations(parent, mutations) == sequence
    assert len(mutations) == sum(a != b for a, b in zip(parent, sequence, strict=True))


@given(st.data(), st.text(RESIDUES, min_size=2, max_size=40), st.integers(-50, 500))
def test_the_true_numbering_is_always_among_the_consistent_ones(
    data: st.DataObject, parent: str, offset: int
) -> None:
    places = data.draw(st.lists(st.integers(0, len(parent) - 1), min_size=1, max_size=20))
    changes = [Change(parent[p], p + offset, "A") for p in places]
    found = consistent_offsets(changes, parent)
    assert offset in found
    # Checked against the definition, offset by offset.
    numbers = [c.number for c in changes]
    for guess in range(min(numbers) - len(parent), max(numbers) + 1):
        fits = all(
            0 <= c.number - guess < len(parent) and parent[c.number - guess] == c.wt
            for c in changes
        )
        assert (guess in found) == fits


@given(st.integers(-50, 500))
def test_a_full_scan_has_one_numbering(offset: int) -> None:
    changes = [Change(aa, p + offset, "A") for p, aa in enumerate(PARENT)]
    chosen, said = choose_offset(changes, PARENT)
    assert chosen == offset
    assert "the only start" in said


def test_several_numberings_prefer_the_usual_one_and_say_so() -> None:
    chosen, said = choose_offset([Change("A", 2, "C")], "AAAAA")
    assert chosen == 1
    assert "-2, -1, 0, 2 would fit as well" in said
    chosen, said = choose_offset([Change("A", 20, "C")], "AAAAA")
    assert chosen is None
    assert "numbered 16, 17, 18, 19, 20" in said


def test_best_offset_follows_the_majority() -> None:
    changes = [Change(aa, p + 24, "A") for p, aa in enumerate(PARENT)]
    changes[3] = Change("W", 27, "A")
    assert choose_offset(changes, PARENT)[0] is None
    assert best_offset(changes, PARENT) == 24


def test_scan_agrees_with_an_independent_writer() -> None:
    for text in scan(positions=[0, 7, 39]):
        assert apply_mutations(PARENT, parse_mutations(text, PARENT)) == mutate(PARENT, text)
