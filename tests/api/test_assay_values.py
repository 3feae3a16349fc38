"""Measured values: bounds, missing cells, replicates, contradictions, classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from assay_tables import PARENT, mutate, read, said, scan, scores

from moltide.assay.labels import order_classes
from moltide.assay.replicates import best_correlation, merge_readings
from moltide.assay.values import parse_numbers
from moltide.errors import ConfigError, DataError

SEQUENCES = [mutate(PARENT, one) for one in scan(positions=range(4))]
N = len(SEQUENCES)
Y = scores(N)


def with_cells(cells: dict[int, object], values: list[float] = Y) -> list[object]:
    return [cells.get(i, value) for i, value in enumerate(values)]


# ---- numbers and bounds ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "censor"),
    [
        ("3", 3, 0), (" 3.5 ", 3.5, 0), ("-1e-3", -0.001, 0), (".5", 0.5, 0), ("~4", 4, 0),
        (">10", 10, 1), ("> 10", 10, 1), (">=10", 10, 1), ("≥10", 10, 1), (">>10", 10, 1),
        ("<0.5", 0.5, -1), ("<=0.5", 0.5, -1), ("≤0.5", 0.5, -1), ("=7", 7, 0), (">-2", -2, 1),
    ],
)  # fmt: skip
def test_numbers_and_bounds(text: str, value: float, censor: int) -> None:
    numbers = parse_numbers(["1", text])
    assert numbers.values[1] == value
    assert numbers.censor[1] == censor
    assert not numbers.bad


@pytest.mark.parametrize("text", ["", "NA", "n/a", "NaN", "null", "n.d.", "-", "#DIV/0!", "None"])
def test_words_for_missing(text: str) -> None:
    numbers = parse_numbers(["1", text])
    assert np.isnan(numbers.values[1])
    assert not numbers.bad
    assert sum(numbers.missing_words.values()) == 1


@pytest.mark.parametrize("text", ["inactive", "10 nM", "1/2", ">", "A40P", "1,234.5", "0" * 60])
def test_text_that_is_no_number(text: str) -> None:
    assert parse_numbers(["1", text]).bad == [1]


def test_decimal_commas_only_where_they_can_be_nothing_else() -> None:
    numbers = parse_numbers(["1,25", "3", "<0,5", "NA"])
    assert numbers.decimal_comma
    np.testing.assert_array_equal(numbers.values, [1.25, 3, 0.5, np.nan])
    assert parse_numbers(["1,25", "2.5"]).bad == [0]
    assert parse_numbers(["1,250", "12,000"]).bad == [0, 1]


def test_censored_cells(tmp_path: Path) -> None:
    table = read(
        tmp_path, {"sequence": SEQUENCES, "ic50": with_cells({0: ">10", 5: "<0.5", 9: "~2"})}
    )
    assert table.censor[[0, 5, 9], 0].tolist() == [1, -1, 0]
    assert table.targets[[0, 5, 9], 0].tolist() == [10, 0.5, 2]
    assert "censored: 1 above ('>'), 1 below ('<')" in said(table)
    assert "approximate ('~'), taken as exact: 1 reading\n" in said(table)


def test_relation_columns(tmp_path: Path) -> None:
    relation = [">" if i % 7 == 0 else "=" for i in range(N)]
    table = read(tmp_path, {"sequence": SEQUENCES, "relation": relation, "ic50": Y})
    np.testing.assert_array_equal(table.censor[:, 0], [i % 7 == 0 for i in range(N)])
    mostly_empty = [">" if i % 7 == 0 else "" for i in range(N)]
    other = read(tmp_path, {"sequence": SEQUENCES, "op": mostly_empty, "ic50": Y})
    np.testing.assert_array_equal(other.censor, table.censor)
    assert "relation column of 'ic50': 'op'" in said(other)


def test_each_target_finds_its_own_relation(tmp_path: Path) -> None:
    columns = {
        "sequence": SEQUENCES, "a": Y, "b": Y[::-1],
        "a_relation": [">"] * N, "b_relation": ["<"] * (N - 1) + ["="],
    }  # fmt: skip
    table = read(tmp_path, columns, target="a,b")
    assert table.censor[0].tolist() == [1, -1]
    assert table.censor[-1].tolist() == [1, 0]


def test_a_relation_column_with_other_words_is_refused(tmp_path: Path) -> None:
    columns = {"sequence": SEQUENCES, "op": with_cells({3: "about"}, ["="] * N), "y": Y}  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"none of = < > .*: 1 \(row 5: 'about'\)"):
        read(tmp_path, columns, relation="op", target="y")


def test_missing_values_are_counted_with_their_words(tmp_path: Path) -> None:
    columns = {
        "sequence": SEQUENCES,
        "a": with_cells({1: "NA", 2: ""}),
        "b": with_cells({1: "n.d."}),
    }
    table = read(tmp_path, columns, target="a,b")
    assert len(table) == N - 1
    assert table.summary.set_aside == {"no measured target": [3]}
    assert np.isnan(table.targets[1, 0])
    assert not np.isnan(table.targets[1, 1])
    assert table.summary.targets[0].missing == 1
    assert "read as missing: 'NA' 1" in said(table)


def test_text_in_a_target_is_refused_or_set_aside(tmp_path: Path) -> None:
    columns = {"sequence": SEQUENCES, "y": with_cells({4: "inactive", 6: "dead"})}
    with pytest.raises(DataError, match=r"no numbers: 2 \(row 6: 'inactive'; row 8: 'dead'\)"):
        read(tmp_path, columns)
    table = read(tmp_path, columns, on_bad_row="set_aside")
    assert table.summary.set_aside == {"target is no number": [6, 8]}


@pytest.mark.parametrize("text", ["inf", "-Infinity", "1e999"])
def test_infinities_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"infinite values: 1 \(row 4: '.*'\)"):
        read(tmp_path, {"sequence": SEQUENCES, "y": with_cells({2: text})})
    columns = {"sequence": SEQUENCES, "y": with_cells({2: text})}
    table = read(tmp_path, columns, on_bad_row="set_aside")
    assert table.summary.set_aside == {"target is infinite": [4]}


def test_bounds_stay_out_of_the_range_of_values(tmp_path: Path) -> None:
    columns = {"sequence": SEQUENCES[:4], "y": [">10", "1", "2", "3"]}
    table = read(tmp_path, columns, target="y")
    assert "4 measured (3 exact and 1 bound); exact values 1 to 3, median 2" in said(table)


def test_an_identical_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"target 'y' is 2\.5 for every sequence in use"):
        read(tmp_path, {"sequence": SEQUENCES, "y": [2.5] * N}, target="y")
    with pytest.raises(DataError, match=r"no measured value|no row can be used"):
        read(tmp_path, {"sequence": SEQUENCES, "y": ["NA"] * N}, target="y")


# ---- replicates -----------------------------------------------------------------------------


def test_repeats_are_merged_and_their_noise_pooled(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=N)
    repeats = rng.integers(1, 5, size=N)
    rows = [
        (SEQUENCES[i], truth[i] + 0.2 * rng.normal()) for i in range(N) for _ in range(repeats[i])
    ]
    order = rng.permutation(len(rows))
    rows = [rows[i] for i in order]
    columns = {"sequence": [s for s, _ in rows], "y": [repr(float(y)) for _, y in rows]}
    table = read(tmp_path, columns)
    grouped: dict[str, list[float]] = {}
    for sequence, value in rows:
        grouped.setdefault(sequence, []).append(float(value))
    assert table.sequences == list(grouped)
    np.testing.assert_allclose(table.targets[:, 0], [np.mean(v) for v in grouped.values()])
    assert table.n_replicates[:, 0].tolist() == [len(v) for v in grouped.values()]
    repeated = [v for v in grouped.values() if len(v) > 1]
    squares = sum(np.var(v, ddof=1) * (len(v) - 1) for v in repeated)
    pooled = np.sqrt(squares / sum(len(v) - 1 for v in repeated))
    assert table.replicate_sd[0] == pytest.approx(pooled)
    where = {s: [i + 2 for i, (t, _) in enumerate(rows) if t == s] for s in grouped}
    assert table.rows == list(where.values())
    median = read(tmp_path, columns, replicates="median")
    np.testing.assert_allclose(median.targets[:, 0], [np.median(v) for v in grouped.values()])
    kept = read(tmp_path, columns, replicates="keep")
    assert len(kept) == len(rows)
    assert kept.replicate_sd == table.replicate_sd


def test_the_noise_ceiling_is_what_a_perfect_model_reaches() -> None:
    """Simulated: the true values correlate with noisy means as `best_correlation` says."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=20000)
    count = rng.integers(1, 4, size=len(truth))
    noisy = truth + rng.normal(size=len(truth)) * 0.8 / np.sqrt(count)
    ceiling = best_correlation(noisy, count, 0.8)
    assert ceiling == pytest.approx(np.corrcoef(truth, noisy)[0, 1], abs=0.01)


def test_few_repeats_claim_no_ceiling(tmp_path: Path) -> None:
    table = read(tmp_path, {"sequence": [*SEQUENCES, SEQUENCES[0]], "y": [*Y, Y[0] + 0.1]})
    assert table.summary.targets[0].replicate_sd == pytest.approx(0.1 / np.sqrt(2))
    assert table.summary.targets[0].best_correlation is None


def test_exact_copies_of_a_row_are_no_replicates(tmp_path: Path) -> None:
    plates = ["a"] * N + ["a", "b"]
    columns = {
        "sequence": [*SEQUENCES, *SEQUENCES[:2]], "y": [*Y, Y[0], Y[1] + 0.2], "plate": plates,
    }  # fmt: skip
    table = read(tmp_path, columns, target="y")
    assert table.replicate_sd[0] == pytest.approx(0.2 / np.sqrt(2))
    assert table.summary.targets[0].replicate_sequences == 1
    assert table.n_replicates[:2, 0].tolist() == [1, 2]
    assert f"in every field, no evidence of noise: 1 (row {N + 2})" in said(table)
    alone = {name: cells[: N + 1] for name, cells in columns.items()}
    alone["part"] = ["train", "test"] * (N // 2) + ["test"]
    assert read(tmp_path, alone, target="y").replicate_sd == [None]


def test_columns_of_replicates(tmp_path: Path) -> None:
    second = [y + 0.5 for y in Y]
    columns = {"sequence": SEQUENCES, "rep_1": Y, "rep_2": with_cells({0: ""}, second)}
    for target in ("y=rep_1+rep_2", {"y": ["rep_1", "rep_2"]}):
        table = read(tmp_path, columns, target=target)
        assert table.target_names == ["y"]
        assert table.n_replicates[:2, 0].tolist() == [1, 2]
        np.testing.assert_allclose(table.targets[1:, 0], np.array(Y[1:]) + 0.25)
        assert table.replicate_sd[0] == pytest.approx(0.5 / np.sqrt(2))


def test_bounds_merge_to_the_tightest() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    values = np.array([10, 20, 1, 2, 5, 8, 5, 3, 2, 6], dtype=float)
    censor = np.array([1, 1, -1, -1, 0, 1, 0, 1, 1, -1], dtype=np.int8)
    merged = merge_readings(groups, 5, values, censor)
    # Above 20; below 1; 5 against ">8" contradicts; 5 agrees with ">3"; between 2 and 6.
    assert merged.values.tolist() == [20, 1, 5, 5, 4]
    assert merged.censor.tolist() == [1, -1, 0, 0, 0]
    assert merged.bound_conflicts == [2]


def test_contradicting_readings_are_listed_left_out_or_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).normal(size=N) * 0.01
    second = [y + e for y, e in zip(Y, noise, strict=True)]
    second[10] += 3
    columns = {"sequence": SEQUENCES * 2, "y": [*Y, *second]}
    table = read(tmp_path, columns)
    assert table.summary.targets[0].conflicts == [[12, 12 + N]]
    assert len(table) == N
    assert f"contradicting readings: 1 (rows 12 and {12 + N})" in said(table)
    table = read(tmp_path, columns, on_conflict="set_aside")
    assert table.summary.set_aside == {"contradicting readings": [12, 12 + N]}
    assert SEQUENCES[10] not in table.sequences
    with pytest.raises(DataError, match=rf"contradict each other: 1 \(rows 12 and {12 + N}\)"):
        read(tmp_path, columns, on_conflict="error")


def test_one_contradiction_among_exact_copies_is_found(tmp_path: Path) -> None:
    second = [*Y[:10], Y[10] + 10, *Y[11:]]
    table = read(tmp_path, {"sequence": SEQUENCES * 2, "y": [*Y, *second]})
    assert table.summary.targets[0].conflicts == [[12, 12 + N]]


# ---- classes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"),
    [("0", "1"), ("no", "yes"), ("insoluble", "soluble"), ("negative", "positive"), ("-1", "1"),
     ("False", "True"), ("inactive", "active"), ("not binder", "binder"), ("a", "b")],
)  # fmt: skip
def test_two_classes(tmp_path: Path, low: str, high: str) -> None:
    labels = [high if i % 3 == 0 else low for i in range(N)]
    table = read(tmp_path, {"sequence": SEQUENCES, "label": labels})
    assert table.task == "classification"
    assert table.classes == [low, high]
    np.testing.assert_array_equal(table.targets[:, 0], [i % 3 == 0 for i in range(N)])
    assert table.summary.targets[0].class_counts == {
        low: N - len(range(0, N, 3)),
        high: len(range(0, N, 3)),
    }


def test_many_classes_and_case(tmp_path: Path) -> None:
    labels = [("Cytoplasm", "membrane", "Nucleus")[i % 3] for i in range(N)]
    labels[0] = "cytoplasm"
    table = read(tmp_path, {"sequence": SEQUENCES, "localization": labels})
    assert table.classes == ["Nucleus", "cytoplasm", "membrane"]
    assert table.targets[:4, 0].tolist() == [1, 2, 0, 1]


def test_number_classes_sort_as_numbers() -> None:
    assert order_classes(["10", "9", "1"]) == ["1", "9", "10"]
    assert order_classes(["high", "low"]) == ["low", "high"]


def test_few_integers_are_regression_unless_asked(tmp_path: Path) -> None:
    grades = [i % 4 for i in range(N)]
    table = read(tmp_path, {"sequence": SEQUENCES, "grade": grades})
    assert table.task == "regression"
    assert "if these are classes, say task='classification'" in said(table)
    assert read(
        tmp_path, {"sequence": SEQUENCES, "grade": grades}, task="classification"
    ).classes == list("0123")


def test_repeats_vote_and_ties_have_no_label(tmp_path: Path) -> None:
    sequences = [*SEQUENCES, SEQUENCES[0], SEQUENCES[0], SEQUENCES[1]]
    labels = [*(["yes", "no"] * (N // 2)), "no", "yes", "yes"]
    table = read(tmp_path, {"sequence": sequences, "active": labels})
    summary = table.summary
    assert summary.targets[0].conflicts == [[2, N + 2, N + 3], [3, N + 4]]
    assert summary.set_aside == {"contradicting readings": [3, N + 4]}
    assert table.targets[0, 0] == 1
    assert len(table) == N - 1


def test_several_binary_targets_share_their_classes(tmp_path: Path) -> None:
    a, b = [i % 2 for i in range(N)], with_cells({0: ""}, [int(i % 3 == 0) for i in range(N)])  # type: ignore[list-item]
    table = read(tmp_path, {"sequence": SEQUENCES, "a": a, "b": b}, target="a,b")
    assert table.task == "classification"
    assert table.targets.shape == (N, 2)
    assert np.isnan(table.targets[0, 1])
    assert (table.classes, table.target_classes) == (["0", "1"], [])


def test_labels_that_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="these are no classes"):
        read(tmp_path, {"sequence": SEQUENCES, "y": Y}, task="classification")
    with pytest.raises(DataError, match="only 'yes': two classes are needed"):
        read(tmp_path, {"sequence": SEQUENCES, "y": ["yes"] * N}, target="y", task="classification")
    with pytest.raises(DataError, match="no numbers: 76"):
        read(
            tmp_path,
            {"sequence": SEQUENCES, "y": ["yes", "no"] * (N // 2)},
            target="y",
            task="regression",
        )


def test_targets_of_different_kinds(tmp_path: Path) -> None:
    columns = {"sequence": SEQUENCES, "a": Y, "b": ["x", "y"] * (N // 2)}
    table = read(tmp_path, columns, target="a,b")
    assert (table.task, table.target_classes) == ("mixed", [None, ["x", "y"]])
    with pytest.raises(DataError, match="no numbers: 76"):
        read(tmp_path, columns, target="a,b", task="regression")


# ---- options and the summary ----------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [{"task": "ranking"}, {"replicates": "max"}, {"on_conflict": "x"}, {"stops": "x"},
     {"on_bad_row": "x"}, {"numbering": "one"}],
)  # fmt: skip
def test_options_say_what_is_allowed(tmp_path: Path, option: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(option))} is .*; allowed: "):
        read(tmp_path, {"sequence": SEQUENCES, "y": Y}, **option)


def test_the_summary_is_json(tmp_path: Path) -> None:
    table = read(tmp_path, {"sequence": SEQUENCES, "y": with_cells({0: ">1", 3: ""})})
    back = json.loads(json.dumps(table.summary.to_dict()))
    assert back["rows_read"] == N
    assert back["set_aside"] == {"no measured target": [5]}
    assert back["targets"][0]["censored_above"] == 1


def test_subset(tmp_path: Path) -> None:
    parts = ["train", "test"] * (N // 2)
    table = read(tmp_path, {"sequence": SEQUENCES, "y": Y, "split": parts}, wildtype=PARENT)
    some = table.subset([5, 2])
    assert some.sequences == [SEQUENCES[5], SEQUENCES[2]]
    assert some.targets[:, 0].tolist() == [Y[5], Y[2]]
    assert some.rows == [[7], [4]]
    assert some.split is not None
    assert some.split.tolist() == ["test", "train"]
    assert some.mutations is not None
    assert table.mutations is not None
    assert some.mutations[0] == table.mutations[5]
    assert len(table.subset(np.array(Y) > 0)) == sum(y > 0 for y in Y)
