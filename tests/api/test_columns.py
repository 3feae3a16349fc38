"""Columns found by content and name: what is taken, what is said, what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from assay_tables import PARENT, mutate, read, said, scan, scores, write

from moltide.assay import read_assay
from moltide.errors import DataError

MUTANTS = scan(positions=range(6))
SEQUENCES = [mutate(PARENT, one) for one in MUTANTS]
Y = scores(len(MUTANTS))
N = len(MUTANTS)


def test_sequence_and_only_numeric_column_are_taken_and_said(tmp_path: Path) -> None:
    table = read(tmp_path, {"protein": SEQUENCES, "kd": Y})
    assert table.sequences == SEQUENCES
    assert table.targets[:, 0].tolist() == Y
    assert f"sequence column: 'protein' ({N} of {N} values are residues)" in said(table)
    assert f"target: 'kd' ({N} of {N} values are numbers)" in said(table)


def test_a_known_name_decides_between_two_columns_of_residues(tmp_path: Path) -> None:
    linker = [one[::-1] for one in SEQUENCES]
    table = read(tmp_path, {"linker": linker, "sequence": SEQUENCES, "score": Y})
    assert table.sequences == SEQUENCES
    assert "also residues: 'linker'" in said(table)


def test_two_unnamed_columns_of_residues_are_asked_about(tmp_path: Path) -> None:
    columns = {"upper": SEQUENCES, "lower": [one[::-1] for one in SEQUENCES], "score": Y}
    with pytest.raises(DataError, match=r"several .* sequence column: 'upper', 'lower'; name one"):
        read(tmp_path, columns)
    assert read(tmp_path, columns, sequence="lower").sequences[0] == SEQUENCES[0][::-1]


@pytest.mark.parametrize("name", ["peptide", "Sequence", "seq", "protein", "aa_seq"])
@pytest.mark.parametrize("length", [2, 3, 6])
def test_a_name_that_says_sequence_is_believed_of_short_peptides(
    tmp_path: Path, name: str, length: int
) -> None:
    peptides = [one[i % 30 : i % 30 + length] for i, one in enumerate(SEQUENCES)]
    names = [f"p{i}" for i in range(N)]
    table = read(tmp_path, {"name": names, name: peptides, "score": Y}, replicates="keep")
    assert set(table.sequences) == set(peptides)
    assert f"sequence column: '{name}' (by its name)" in said(table)


def test_a_few_names_or_words_are_no_peptides_whatever_their_column_is_called(
    tmp_path: Path,
) -> None:
    for words in (["KRAS", "PTEN"], ["linear", "cyclic"], ["TP53", "BRCA1", "KRAS"]):
        column = (words * N)[:N]
        with pytest.raises(DataError, match="no column of sequences or mutations found"):
            read(tmp_path, {"protein": column, "score": Y})
        assert read(tmp_path, {"protein": column, "s": SEQUENCES, "y": Y}).sequences == SEQUENCES


def test_words_spelt_with_residue_letters_are_no_sequences(tmp_path: Path) -> None:
    words = ["insoluble", "Escherichia", "train"] * N
    upper = ["INACTIVE", "SPLENDID"] * N
    columns = {"state": words[:N], "flag": upper[:N], "s": SEQUENCES, "score": Y}
    assert read(tmp_path, columns).sequences == SEQUENCES


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("variant_id", [f"{3 * i % 97}" for i in range(N)], "numbers the rows"),
        ("Unnamed: 0", range(N), "numbers the rows"),
        ("k", range(1, N + 1), "numbers the rows"),
        ("num_mutations", [1, 2] * (N // 2), "counts mutations"),
        ("position", [i // 19 for i in range(N)], "is a position"),
        ("seq_len", [40, 41] * (N // 2), "is a length"),
        ("score_sd", Y, "is a measure of noise by its name"),
        ("read_count", Y, "counts reads by its name"),
        ("esm2_t33_llr", Y, "is another model's prediction by its name"),
        ("Tranception_L", Y, "is another model's prediction by its name"),
        ("predicted_ddG", Y, "is another model's prediction by its name"),
        ("batch", [1, 2, 3] * (N // 3), "orders or groups the rows by its name"),
        ("constant", [7.5] * N, "never varies: 7.5 in every row"),
    ],
)
def test_helper_columns_are_not_taken_as_target(
    tmp_path: Path, name: str, values: object, why: str
) -> None:
    table = read(tmp_path, {name: values, "sequence": SEQUENCES, "activity": Y[::-1]})
    assert table.target_names == ["activity"]
    assert f"numeric but not taken as target: {name!r} ({why})" in said(table)


def test_a_helper_can_still_be_named(tmp_path: Path) -> None:
    table = read(tmp_path, {"esm_llr": Y, "sequence": SEQUENCES}, target="esm_llr")
    assert table.target_names == ["esm_llr"]


def test_a_count_of_mutations_is_recognised_by_its_values(tmp_path: Path) -> None:
    doubles = [f"{a}:{b}" for a, b in zip(MUTANTS[:19], MUTANTS[19:38], strict=True)]
    mutants = [*MUTANTS, *doubles]
    sequences = [mutate(PARENT, *one.split(":")) for one in mutants]
    order = [1] * N + [2] * 19
    columns = {"mutant": mutants, "x": order, "sequence": sequences, "y": scores(N + 19)}
    assert "'x' (counts mutations)" in said(read(tmp_path, columns))


def test_a_thresholded_copy_is_recognised_by_its_values(tmp_path: Path) -> None:
    cut = [int(value > 0) for value in Y]
    columns = {"mutated_sequence": SEQUENCES, "DMS_score": Y, "DMS_score_bin": cut}
    table = read(tmp_path, columns)
    assert table.target_names == ["DMS_score"]
    assert "'DMS_score_bin' (is 'DMS_score' cut into two)" in said(table)
    shuffled = cut[::-1]
    assert shuffled != cut
    with pytest.raises(DataError, match=r"could be the target: 'DMS_score', 'DMS_score_bin'"):
        read(tmp_path, columns | {"DMS_score_bin": shuffled})


def test_several_numeric_columns_are_asked_about(tmp_path: Path) -> None:
    columns = {"sequence": SEQUENCES, "kd": Y, "tm": Y[::-1], "esm1v": Y}
    with pytest.raises(DataError, match=r"'kd', 'tm'; name one or more .*target='A,B'") as error:
        read(tmp_path, columns)
    assert "Not considered: 'esm1v'" in str(error.value)
    assert read(tmp_path, columns, target="tm,kd").target_names == ["tm", "kd"]
    assert read(tmp_path, columns, target=["kd"]).target_names == ["kd"]


def test_a_column_name_with_a_comma_is_one_target(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        'sequence,"rate, 1/s",b\n'
        + "".join(f"{s},{y},{-y}\n" for s, y in zip(SEQUENCES, Y, strict=True)),
    )
    assert read_assay(path, target="rate, 1/s").target_names == ["rate, 1/s"]


def test_a_missing_column_names_the_closest(tmp_path: Path) -> None:
    columns = {"sequence": SEQUENCES, "fitness": Y}
    with pytest.raises(DataError, match=r"t\.csv: no column 'fitnes'.*did you mean 'fitness'\?"):
        read(tmp_path, columns, target="fitnes")
    with pytest.raises(DataError, match=r"did you mean 'fitness'\?"):
        read(tmp_path, columns, target="Fitness")
    for option in ("sequence", "split", "time", "relation", "mutations"):
        with pytest.raises(DataError, match=r"no column 'zzz'.*Columns: sequence, fitness"):
            read(tmp_path, columns, **{option: "zzz"})
    with pytest.raises(
        DataError, match=r"no such method \(auto, random, .*time, scaffold, .*butina\)"
    ):
        read(tmp_path, columns, split="zzz")


def test_no_numeric_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no numeric target column found"):
        read(tmp_path, {"sequence": SEQUENCES, "organism": ["E. coli"] * N})
    two = ["E. coli", "yeast"] * (N // 2)
    with pytest.raises(DataError, match="class labels may be in 'organism'; name it with target"):
        read(tmp_path, {"sequence": SEQUENCES, "organism": two})
    table = read(tmp_path, {"sequence": SEQUENCES, "organism": two, "id": range(N), "active": two})
    assert table.target_names == ["active"]
    with pytest.raises(DataError, match=r"no numeric target .*'id' \(numbers the rows\)"):
        read(tmp_path, {"sequence": SEQUENCES, "id": range(N)})


def test_no_sequence_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column of sequences or mutations"):
        read(tmp_path, {"name": ["x"] * N, "score": Y})
    dna = ["ACGTACGTACGTACGTACGTACGT"[i % 5 :] + "ACGT" for i in range(N)]
    with pytest.raises(DataError, match="'gene' holds nucleotides"):
        read(tmp_path, {"gene": dna, "score": Y}, kind="protein")


def test_per_residue_labels_are_named_as_such(tmp_path: Path) -> None:
    structure = ["HHHHCCCEEEE" * 3] * N
    with pytest.raises(DataError, match="'ss3' holds one letter a residue"):
        read(tmp_path, {"sequence": SEQUENCES, "ss3": structure})


def test_split_columns_are_known_by_their_values(tmp_path: Path) -> None:
    parts = ["Training", "val", "TEST"] * (N // 3)
    table = read(tmp_path, {"sequence": SEQUENCES, "y": Y, "phase": parts})
    assert table.split_name == "phase"
    assert table.split is not None
    assert table.split[:3].tolist() == ["train", "valid", "test"]
    assert "split column: 'phase'" in said(table)


def test_several_split_columns_wait_for_a_name(tmp_path: Path) -> None:
    parts = ["train", "test"] * (N // 2)
    columns = {"sequence": SEQUENCES, "y": Y, "a": parts, "b": parts[::-1]}
    table = read(tmp_path, columns)
    assert table.split is None
    assert sorted(table.split_columns) == ["a", "b"]
    assert read(tmp_path, columns, split="b").split_name == "b"
    assert read(tmp_path, columns, split="random").split is None


def test_any_named_column_can_group(tmp_path: Path) -> None:
    family = [f"f{i % 7}" for i in range(N)]
    table = read(tmp_path, {"sequence": SEQUENCES, "y": Y, "family": family}, split="family")
    assert table.split is None
    assert table.groups is not None
    assert table.groups.tolist() == family
    with pytest.raises(DataError, match=r"'family' is no split: .* nor three groups"):
        read(
            tmp_path,
            {"sequence": SEQUENCES, "y": Y, "family": ["a", "b"] * (N // 2)},
            split="family",
        )


def test_a_constant_column_of_residues_beside_mutations_is_the_wild_type(tmp_path: Path) -> None:
    table = read(tmp_path, {"mutant": MUTANTS, "target_seq": [PARENT] * N, "score": Y})
    assert table.wildtype == PARENT
    assert table.sequences == SEQUENCES
    assert "wild type: column 'target_seq'" in said(table)
