"""Sequences of a table: residues, mutations, wild types, and an account of every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from assay_tables import PARENT, RESIDUES, mutate, read, said, scan, scores, write
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide.assay import format_mutations, read_frame
from moltide.assay.residues import clean_sequences
from moltide.errors import DataError

MUTANTS = scan()
SEQUENCES = [mutate(PARENT, one) for one in MUTANTS]
N = len(MUTANTS)
Y = scores(N)


# ---- residues -------------------------------------------------------------------------------


def test_cleaning_counts_what_it_changes() -> None:
    clean = clean_sequences(
        ["MKT", "mkt", "M K\tT", "MK-T.", "MKT*", "MXT", "", " ", "MK*T", "M1T"]
    )
    assert clean.sequences[:6] == ["MKT", "MKT", "MKT", "MKT", "MKT", "MXT"]
    assert clean.empty == [6, 7]
    assert clean.stops == [8]
    assert clean.illegal == [(9, "1", 2)]
    counts = (clean.lower_case, clean.whitespace, clean.gaps, clean.terminal_stop, clean.ambiguous)
    assert counts == (1, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("text", "found"), [("MKTß", "ß"), ("\u041cKT", "\u041c"), ("MK@", "@"), ("MK5T", "5")]
)
def test_illegal_residues_are_located(tmp_path: Path, text: str, found: str) -> None:
    place = text.index(found) + 1
    sequences = [*SEQUENCES[:20], text]
    with pytest.raises(DataError) as error:
        read(tmp_path, {"sequence": sequences, "y": Y[:21]}, sequence="sequence")
    message = str(error.value)
    assert message.startswith(
        "t.csv: column 'sequence': characters that are no residues in 1 of 21"
    )
    assert f"(row 22: {found!r} at position {place})" in message
    table = read(
        tmp_path, {"sequence": sequences, "y": Y[:21]}, sequence="sequence", on_bad_row="set_aside"
    )
    assert table.summary.set_aside == {"illegal residue": [22]}


def test_many_illegal_rows_list_the_first_five(tmp_path: Path) -> None:
    sequences = [s + "1" if i % 10 == 0 else s for i, s in enumerate(SEQUENCES)]
    with pytest.raises(DataError, match=r"row 2: '1' at position 41; .*; and 71 more\)"):
        read(tmp_path, {"sequence": sequences, "y": Y}, sequence="sequence")


def test_mutations_in_place_of_sequences_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="these look like mutations"):
        read(tmp_path, {"sequence": MUTANTS, "y": Y}, sequence="sequence")


def test_stops(tmp_path: Path) -> None:
    sequences = [*SEQUENCES, PARENT[:9] + "*" + PARENT[10:], PARENT[:7] + "*" + PARENT[8:]]
    columns = {"sequence": sequences, "y": scores(N + 2)}
    table = read(tmp_path, columns)
    assert table.summary.set_aside == {"stop codon inside the sequence": [N + 2, N + 3]}
    table = read(tmp_path, columns, stops="truncate")
    assert table.sequences[-2:] == [PARENT[:9], PARENT[:7]]
    assert any("cut at their stop" in note for note in table.summary.notes)
    with pytest.raises(DataError, match=rf"inside: 2 \(rows {N + 2} and {N + 3}\)"):
        read(tmp_path, columns, stops="error")


# ---- mutations of a wild type ---------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 0, 24, 126, -3])
def test_mutations_in_any_numbering(tmp_path: Path, first: int) -> None:
    shifted = [f"{m[0]}{int(m[1:-1]) - 1 + first}{m[-1]}" for m in MUTANTS]
    table = read(tmp_path, {"mutant": shifted, "y": Y}, wildtype=PARENT)
    assert table.sequences == SEQUENCES
    assert table.numbering == first
    assert f"the first residue is number {first} (the only start" in said(table)
    assert table.mutations is not None
    assert [format_mutations(m, table.numbering) for m in table.mutations] == shifted


def test_wild_type_as_fasta(tmp_path: Path) -> None:
    fasta = write(tmp_path / "wt.fasta", f">parent\n{PARENT[:20].lower()}\n{PARENT[20:]}\n")
    table = read(tmp_path, {"mutant": MUTANTS, "y": Y}, wildtype=fasta)
    assert table.wildtype == PARENT
    assert "wild type: record 'parent' of wt.fasta, 40 residues" in said(table)
    with pytest.raises(FileNotFoundError, match=r"no\.fasta"):
        read(tmp_path, {"mutant": MUTANTS, "y": Y}, wildtype=str(tmp_path / "no.fasta"))
    write(fasta, ">a\nMKT\n>b\nMKV\n")
    with pytest.raises(DataError, match="one FASTA record, found 2"):
        read(tmp_path, {"mutant": MUTANTS, "y": Y}, wildtype=fasta)
    with pytest.raises(DataError, match="'1' at position 4 is no residue"):
        read(tmp_path, {"mutant": MUTANTS, "y": Y}, wildtype="MKT1")


def test_mutations_without_a_wild_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'mutant' holds mutations: give their wild type"):
        read(tmp_path, {"mutant": MUTANTS, "y": Y})


def test_wild_type_rows_synonymous_rows_and_stops(tmp_path: Path) -> None:
    extra = ["WT", "", f"{PARENT[4]}5{PARENT[4]}", f"{PARENT[6]}7*"]
    table = read(tmp_path, {"mutant": [*MUTANTS, *extra], "y": scores(N + 4)}, wildtype=PARENT)
    at = table.sequences.index(PARENT)
    assert table.rows[at] == [N + 2, N + 3, N + 4]
    assert table.n_replicates[at, 0] == 3
    assert table.summary.set_aside == {"stop codon inside the sequence": [N + 5]}
    notes = "\n".join(table.summary.notes)
    assert "synonymous rows, equal to the wild type: 1" in notes
    assert f"empty mutation cells, read as the wild type: 1 (row {N + 3})" in notes
    assert "rows that say wild type: 1" in notes


def test_a_contradiction_names_file_row_mutation_and_residue(tmp_path: Path) -> None:
    mutants = [*MUTANTS[:30], "A2C", *MUTANTS[31:], "K900A"]
    columns = {"mutant": mutants, "y": scores(N + 1)}
    with pytest.raises(DataError) as error:
        read(tmp_path, columns, wildtype=PARENT)
    message = str(error.value)
    assert "t.csv: column 'mutant': rows that are no mutations of the wild type: 2" in message
    assert "row 32: A2C: the wild type has K, not A, at position 2" in message
    assert f"row {N + 2}: K900A: the wild type has positions 1 to 40, not 900" in message
    assert f"{N - 1} of {N + 1} rows fit with the first residue numbered 1" in message
    table = read(tmp_path, columns, wildtype=PARENT, on_bad_row="set_aside")
    assert list(table.summary.set_aside.values()) == [[32, N + 2]]


def test_a_stated_numbering_is_held_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no mutations of the wild type"):
        read(tmp_path, {"mutant": MUTANTS, "y": Y}, wildtype=PARENT, numbering=0)
    table = read(tmp_path, {"mutant": MUTANTS, "y": Y}, wildtype=PARENT, numbering=1)
    assert "the first residue is number 1 (given)" in said(table)


def test_unreadable_mutations(tmp_path: Path) -> None:
    mutants = [*MUTANTS, "K2del"]
    with pytest.raises(DataError, match=rf"row {N + 2}: 'K2del' is no substitution"):
        read(tmp_path, {"mutant": mutants, "y": scores(N + 1)}, wildtype=PARENT)


# ---- wild types read off the table ----------------------------------------------------------


def test_the_consensus_of_a_scan_is_its_parent(tmp_path: Path) -> None:
    table = read(tmp_path, {"sequence": SEQUENCES, "y": Y})
    assert table.wildtype == PARENT
    assert table.mutations is not None
    assert [format_mutations(m) for m in table.mutations] == MUTANTS
    assert "wild type: inferred, the consensus" in said(table)
    assert f"{N} with 1 mutation" in said(table)


def test_a_randomised_site_tells_no_parent(tmp_path: Path) -> None:
    sequences = [PARENT[:9] + a + b + PARENT[11:] for a in RESIDUES for b in RESIDUES]
    table = read(tmp_path, {"sequence": sequences, "y": scores(400)})
    assert table.wildtype is None
    assert table.mutations is None
    assert "no residue is in half the rows at position 10, 11" in said(table)
    given_one = read(tmp_path, {"sequence": sequences, "y": scores(400)}, wildtype=PARENT)
    assert given_one.mutations is not None
    assert max(map(len, given_one.mutations)) == 2


def test_a_count_of_zero_mutations_marks_the_parent(tmp_path: Path) -> None:
    sequences = [PARENT[:9] + a + b + PARENT[11:] for a in RESIDUES for b in RESIDUES]
    counts = [sum(a != b for a, b in zip(PARENT, s, strict=True)) for s in sequences]
    table = read(tmp_path, {"sequence": sequences, "hamming": counts, "y": scores(400)})
    assert table.wildtype == PARENT


def test_a_family_has_no_wild_type(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    family = ["".join(rng.choice(list(RESIDUES), 40)) for _ in range(30)]
    table = read(tmp_path, {"sequence": family, "y": Y[:30]})
    assert table.wildtype is None
    assert "wild type" not in said(table)


def test_mutation_strings_correct_a_skewed_consensus(tmp_path: Path) -> None:
    """K2A in most rows makes the consensus carry A; the strings still say K."""
    mutants = [f"K2A:{m}" if int(m[1:-1]) > 2 else m for m in MUTANTS]
    sequences = [mutate(PARENT, *m.split(":")) for m in mutants]
    table = read(tmp_path, {"variant": mutants, "sequence": sequences, "y": Y})
    assert table.wildtype == PARENT
    assert table.mutations is not None
    assert [format_mutations(m) for m in table.mutations] == mutants


def test_strings_that_disagree_with_the_sequences(tmp_path: Path) -> None:
    wrong = [*MUTANTS[:5], MUTANTS[7], *MUTANTS[6:]]
    columns = {"variant": wrong, "sequence": SEQUENCES, "y": Y}
    table = read(tmp_path, columns)
    assert table.sequences == SEQUENCES
    assert "disagrees with the sequences in 1 of 760 cases (row 7:" in said(table)
    with pytest.raises(DataError, match="disagrees with the sequences in 1 of 760"):
        read(tmp_path, columns, sequence="sequence", mutations="variant")


def test_sequences_of_other_lengths(tmp_path: Path) -> None:
    columns = {"sequence": [*SEQUENCES, PARENT[:30]], "y": scores(N + 1)}
    table = read(tmp_path, columns, wildtype=PARENT)
    assert table.mutations is None
    assert table.substitutions is not None
    assert table.substitutions[-1] is None
    assert all(table.substitutions[:-1])
    assert f"longer or shorter than the wild type (40): 1 (row {N + 2})" in said(table)
    table = read(tmp_path, columns)
    assert table.wildtype == PARENT
    columns = {"sequence": [s[: 40 - i % 2] for i, s in enumerate(SEQUENCES)], "y": scores(N)}
    assert read(tmp_path, columns, wildtype=PARENT).substitutions is None


# ---- every row is accounted for -------------------------------------------------------------

cell_sequences = st.one_of(
    st.sampled_from([PARENT, PARENT.lower(), PARENT[:20] + "*" + PARENT[21:], "", "MK1T"]),
    st.builds(
        lambda place, letter: PARENT[:place] + letter + PARENT[place + 1 :] + "*",
        st.integers(0, 39),
        st.sampled_from(RESIDUES),
    ),
)
cell_values = st.one_of(
    st.floats(-100, 100).map(repr), st.sampled_from(["", "NA", ">3", "<1", "~2", "bad", "7"])
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(cell_sequences, cell_values, cell_values), min_size=1, max_size=25),
    st.sampled_from(["mean", "median", "keep"]),
    st.sampled_from(["report", "set_aside"]),
    st.sampled_from(["set_aside", "truncate"]),
)
def test_read_is_used_plus_set_aside(
    rows: list[tuple[str, str, str]], replicates: str, on_conflict: str, stops: str
) -> None:
    """Each row is used once or set aside for one reason; both lists together are all rows."""
    frame = pd.DataFrame(rows, columns=["sequence", "a", "b"])
    try:
        table = read_frame(
            frame,
            sequence="sequence",
            target="a,b",
            task="regression",
            replicates=replicates,
            on_conflict=on_conflict,
            stops=stops,
            on_bad_row="set_aside",
        )
    except DataError as error:
        words = ("no row", "1 row of data", "nothing to learn", "no measured")
        assert any(word in str(error) for word in words)  # noqa: PT017
        return
    summary = table.summary
    used = [row for rows_ in table.rows for row in rows_]
    aside = [row for rows_ in summary.set_aside.values() for row in rows_]
    assert sorted(used + aside) == list(range(2, len(rows) + 2))
    assert summary.rows_read == len(rows) == summary.rows_used + len(aside)
    assert summary.rows_used == len(used)
    if replicates != "keep":
        assert len(set(table.sequences)) == len(table)
    assert not np.isnan(table.targets).all(axis=1).any()
    assert ((table.n_replicates > 0) | np.isnan(table.targets)).all()
    for sequence, rows_ in zip(table.sequences, table.rows, strict=True):
        for row in rows_:
            text = rows[row - 2][0].upper()
            assert text.rstrip("*").split("*")[0] == sequence
