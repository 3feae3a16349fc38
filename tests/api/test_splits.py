"""Splits: relatives never straddle, every part is there, and the default fits the table."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from assay_tables import PARENT, RESIDUES, mutate, scan, scores
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide.assay import AssayTable, read_frame
from moltide.errors import ConfigError, DataError
from moltide.finetune.table import zero_shot
from moltide.splits import Split, make_split

MUTANTS = scan()
N = len(MUTANTS)
PARTS = ("train", "valid", "test")


def table_of(columns: dict[str, Any], **options: Any) -> AssayTable:
    return read_frame(pd.DataFrame(columns), **options)


def scan_table(**options: Any) -> AssayTable:
    return table_of({"mutant": MUTANTS, "y": scores(N)}, wildtype=PARENT, **options)


def multi_table(n: int = 600, most: int = 6, seed: int = 0) -> AssayTable:
    """Variants with 1 to `most` substitutions, in even numbers."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        places = rng.choice(len(PARENT), 1 + i % most, replace=False)
        others = [[a for a in RESIDUES if a != PARENT[p]][rng.integers(19)] for p in places]
        rows.append(":".join(f"{PARENT[p]}{p + 1}{a}" for p, a in zip(places, others, strict=True)))
    rows = sorted(set(rows))
    return table_of({"mutant": rows, "y": scores(len(rows))}, wildtype=PARENT)


def family_table(
    parents: int = 40, children: int = 12, seed: int = 0, length: int = 60
) -> AssayTable:
    rng = np.random.default_rng(seed)
    sequences, family = [], []
    for parent in range(parents):
        root = rng.choice(list(RESIDUES), length + rng.integers(-5, 6))
        for _ in range(children):
            child = root.copy()
            places = rng.choice(len(root), 4, replace=False)
            child[places] = rng.choice(list(RESIDUES), 4)
            sequences.append("".join(child))
            family.append(f"f{parent}")
    columns = {"sequence": sequences, "y": scores(len(sequences)), "family": family}
    return table_of(columns, sequence="sequence", target="y")


def check_whole(split: Split, n: int) -> None:
    assert len(split.labels) == n
    assert set(split.labels) == set(PARTS)
    index = np.concatenate([split.index(part) for part in PARTS])
    assert sorted(index.tolist()) == list(range(n))
    assert sum(split.counts().values()) == n
    assert split.reason


# ---- the default ----------------------------------------------------------------------------


def test_a_scan_of_single_mutants_is_split_by_position() -> None:
    split = make_split(scan_table())
    assert split.method == "position"
    assert "single substitutions of one wild type" in split.reason


def test_varied_numbers_of_mutations_are_split_by_number() -> None:
    split = make_split(multi_table())
    assert split.method == "mutations"
    assert "further from the wild type" in split.reason


def test_a_sequence_of_another_length_leaves_the_zero_shot_scores_of_variants() -> None:
    class Encoder:
        config: ClassVar = {"lm_head": True}

        def score_variants(self, parent: str, changes: list[Any]) -> list[float]:
            return [float(one[0].position) for one in changes]

    sequences = [*(mutate(PARENT, one) for one in MUTANTS), PARENT[:-1]]
    table = table_of({"sequence": sequences, "y": scores(N + 1)}, wildtype=PARENT)
    score = zero_shot(table, Encoder())  # type: ignore[arg-type]
    assert score([sequences[40], PARENT[:-1], sequences[60]]).tolist() == [2, 2, 3]


@pytest.mark.parametrize("wildtype", [PARENT, None])
def test_a_few_sequences_of_another_length_leave_the_split_as_it_is(
    wildtype: str | None,
) -> None:
    sequences = [mutate(PARENT, one) for one in MUTANTS] + [PARENT[:-1], PARENT + "A"]
    table = table_of({"sequence": sequences, "y": scores(N + 2)}, wildtype=wildtype)
    split = make_split(table)
    assert split.method == "position"
    assert split.labels[-2:].tolist() == ["", ""]
    assert any("not used: 2" in note for note in split.notes)


def test_a_family_is_split_by_cluster() -> None:
    split = make_split(family_table())
    assert split.method == "cluster"
    assert "relatives" in split.reason


def test_double_mutants_are_split_by_position() -> None:
    rng = np.random.default_rng(0)
    pairs = {tuple(sorted(rng.choice(N, 2, replace=False))) for _ in range(1500)}
    rows = [
        f"{MUTANTS[a]}:{MUTANTS[b]}"
        for a, b in sorted(pairs)
        if MUTANTS[a][1:-1] != MUTANTS[b][1:-1]
    ]
    table = table_of({"mutant": rows, "y": scores(len(rows))}, wildtype=PARENT)
    assert make_split(table).method == "position"


def test_a_library_over_few_sites_is_split_at_random_with_a_warning() -> None:
    sequences = [PARENT[:9] + a + b + PARENT[11:] for a in RESIDUES for b in RESIDUES]
    for wildtype in (None, PARENT):
        table = table_of({"sequence": sequences, "y": scores(400)}, wildtype=wildtype)
        split = make_split(table)
        assert split.method == "random"
        assert "expect less" in split.reason
        assert any("not possible" in note for note in split.notes)


def test_a_split_column_wins() -> None:
    parts = [("train", "train", "valid", "test")[i % 4] for i in range(N)]
    table = table_of({"mutant": MUTANTS, "y": scores(N), "set": parts}, wildtype=PARENT)
    split = make_split(table)
    assert split.method == "column"
    assert split.labels.tolist() == parts
    assert "'set'" in split.reason


def test_a_named_time_wins_over_what_the_sequences_say() -> None:
    table = table_of(
        {"mutant": MUTANTS, "y": scores(N), "round": [i % 9 for i in range(N)]},
        wildtype=PARENT,
        target="y",
        time="round",
    )
    assert make_split(table).method == "time"


def test_several_split_columns_must_be_told_apart() -> None:
    a = ["train", "test"] * (N // 2)
    table = table_of({"mutant": MUTANTS, "y": scores(N), "a": a, "b": a[::-1]}, wildtype=PARENT)
    with pytest.raises(DataError, match=r"split columns: 'a', 'b'; name one \(split\), or"):
        make_split(table)
    assert make_split(table, "b").labels[1] != "test"
    assert make_split(table, "position").method == "position"
    with pytest.raises(ConfigError, match=r"split 'c': expected auto, .*\(found: 'a', 'b'\)"):
        make_split(table, "c")


# ---- what each method promises ----------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["scan", "multi"]))
def test_test_positions_are_never_mutated_elsewhere(seed: int, kind: str) -> None:
    table = scan_table() if kind == "scan" else multi_table(400, 2)
    assert table.mutations is not None
    split = make_split(table, "position", seed)
    check_whole(split, len(table))
    touched = {
        part: {m.position for i in split.index(part) for m in table.mutations[i]} for part in PARTS
    }
    assert touched["train"]
    if kind == "scan":
        assert not touched["test"] & (touched["train"] | touched["valid"])
        assert not touched["valid"] & touched["train"]
    else:
        # A double mutant brings its other position along: what counts is what training has seen.
        for i in split.index("test"):
            assert {m.position for m in table.mutations[i]} - touched["train"]
        for i in split.index("valid"):
            assert {m.position for m in table.mutations[i]} - touched["train"]
    shares = [len(split.index(part)) / len(table) for part in PARTS]
    assert shares[0] > 0.6
    assert 0.05 < shares[1] < 0.2
    assert 0.05 < shares[2] < 0.2


def test_held_out_positions_are_contiguous_and_named_in_the_authors_numbering() -> None:
    shifted = [f"{m[0]}{int(m[1:-1]) + 99}{m[-1]}" for m in MUTANTS]
    table = table_of({"mutant": shifted, "y": scores(N)}, wildtype=PARENT)
    split = make_split(table, "position", seed=3)
    assert table.mutations is not None
    held = sorted({m.position for i in split.index("test") for m in table.mutations[i]})
    note = next(n for n in split.notes if n.startswith("test positions"))
    named = []
    for run in note.removeprefix("test positions: ").split(", "):
        first, _, last = run.partition("-")
        named += list(range(int(first), int(last or first) + 1))
    assert named == [p + 100 for p in held]
    assert max(np.diff(held), default=1) == 1 or len(held) > 2


def test_the_wild_type_is_trained_on() -> None:
    table = table_of({"mutant": ["WT", *MUTANTS], "y": scores(N + 1)}, wildtype=PARENT)
    for seed in range(5):
        assert make_split(table, "position", seed).labels[0] == "train"
        assert make_split(multi_table(), "mutations", seed)


def test_fewer_mutations_train_and_more_test() -> None:
    table = multi_table()
    split = make_split(table, "mutations")
    check_whole(split, len(table))
    assert table.mutations is not None
    counts = np.array([len(m) for m in table.mutations])
    assert counts[split.index("train")].max() <= counts[split.index("valid")].max()
    assert counts[split.index("valid")].max() < counts[split.index("test")].min()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_families_never_straddle(seed: int) -> None:
    table = family_table(seed=seed % 1000)
    family = np.arange(len(table)) // 12
    split = make_split(table, "cluster", seed)
    check_whole(split, len(table))
    for one in np.unique(family):
        assert len(set(split.labels[family == one])) == 1
    assert abs(len(split.index("test")) / len(table) - 0.1) < 0.05


def test_named_groups_stay_together() -> None:
    frame = {"mutant": MUTANTS, "y": scores(N), "plate": [f"p{i % 13}" for i in range(N)]}
    table = table_of(frame, wildtype=PARENT, split="plate")
    for split in (make_split(table), make_split(table, "plate", seed=1)):
        assert split.method == "groups"
        assert re.search(r"in train 1\d, valid \d, test \d$", split.notes[0])
        check_whole(split, N)
        for plate in range(13):
            assert len(set(split.labels[plate::13])) == 1


@pytest.mark.parametrize("dates", [False, True])
def test_time_trains_on_the_past(dates: bool) -> None:
    days = np.random.default_rng(0).integers(0, 28, N)
    when = [f"2026-02-{d + 1:02d}" for d in days] if dates else days.tolist()
    table = table_of(
        {"mutant": MUTANTS, "y": scores(N), "measured": when},
        wildtype=PARENT, target="y", time="measured",
    )  # fmt: skip
    split = make_split(table, "time")
    check_whole(split, N)
    assert days[split.index("train")].max() < days[split.index("valid")].min()
    assert days[split.index("valid")].max() < days[split.index("test")].min()
    assert 0.7 < len(split.index("train")) / N < 0.9


def test_one_order_of_day_and_month_holds_for_a_whole_column() -> None:
    days = ["12/01/2024", "13/02/2024", "01/03/2024"]
    columns = {"mutant": MUTANTS, "y": scores(N), "t": [days[i % 3] for i in range(N)]}

    def read(change: tuple[str, str]) -> AssayTable:
        dates = [one.replace(*change) for one in columns["t"]]
        return table_of({**columns, "t": dates}, wildtype=PARENT, target="y", time="t")

    table = read(("", ""))
    assert any("read as day/month (row 3: '13/02/2024')" in one for one in table.summary.said)
    split = make_split(table)
    assert split.labels[:3].tolist() == ["train", "valid", "test"]
    note = "train up to 2024-01-12, valid 2024-02-13, test from 2024-03-01"
    assert note in split.notes
    with pytest.raises(
        DataError, match=r"no cell tells .*\(row 2: '12/01/2024'; .*\); write YYYY-MM-DD"
    ):
        read(("13/02", "10/02"))
    with pytest.raises(DataError, match="some dates put the day first and some the month"):
        read(("12/01", "01/15"))


def test_sequences_without_a_time_are_not_used() -> None:
    when = ["" if i % 10 == 0 else i for i in range(N)]
    table = table_of(
        {"mutant": MUTANTS, "y": scores(N), "t": when}, wildtype=PARENT, target="y", time="t"
    )
    split = make_split(table)
    assert (split.labels == "").sum() == N // 10
    assert split.counts()["none"] == N // 10
    assert any("without a time" in note for note in split.notes)


def test_random_shares_and_strata() -> None:
    labels = [int(i % 20 == 0) for i in range(N)]
    table = table_of({"mutant": MUTANTS, "active": labels}, wildtype=PARENT)
    split = make_split(table, "random", seed=4)
    check_whole(split, N)
    assert split.counts() == {"train": 608, "valid": 76, "test": 76}
    for part in PARTS:
        share = table.targets[split.index(part), 0].mean()
        assert share == pytest.approx(0.05, abs=0.011)


def test_grouped_splits_seek_parts_with_every_class() -> None:
    table = family_table()
    rare = np.zeros(len(table))
    rare[: 12 * 4] = 1
    frame = pd.DataFrame({"sequence": table.sequences, "active": rare.astype(int)})
    for seed in range(8):
        split = make_split(read_frame(frame), "cluster", seed)
        assert not any("single class" in note for note in split.notes)


# ---- repeats, columns and small tables --------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from(["random", "position", "mutations", "cluster", "t", "c", "auto"]),
)
def test_kept_repeats_never_straddle(seed: int, how: str) -> None:
    rng = np.random.default_rng(seed)
    base = family_table(20, 6, seed) if how == "cluster" else multi_table(200, 4, seed)
    pick = rng.integers(0, len(base), 300)
    frame = pd.DataFrame(
        {
            "sequence": [base.sequences[i] for i in pick],
            "y": rng.normal(size=300),
            "t": rng.permutation(300),
            "c": rng.choice(["train", "train", "valid", "test"], 300),
        }
    )
    wildtype = base.wildtype
    table = read_frame(frame, target="y", replicates="keep", wildtype=wildtype, time="t", split="c")
    split = make_split(table, "time" if how == "t" else how, seed)
    assert len(split.labels) == 300
    parts: dict[str, set[str]] = {}
    for sequence, label in zip(table.sequences, split.labels, strict=True):
        parts.setdefault(sequence, set()).add(str(label))
    assert all(len(found) == 1 for found in parts.values())


def test_merged_repeats_of_two_parts_go_to_test() -> None:
    frame = {
        "mutant": [*MUTANTS, MUTANTS[0], MUTANTS[3]],
        "y": scores(N + 2),
        "split": [*("train", "valid", "test", "train") * (N // 4), "test", "valid"],
    }
    table = table_of(frame, wildtype=PARENT)
    assert table.split is not None
    assert table.split[0] == "test"
    assert table.split[3] == "valid"
    assert any("in more than one part: 2" in note for note in table.summary.notes)


def test_a_column_without_valid_or_test_is_completed() -> None:
    frame = {
        "mutant": MUTANTS,
        "y": scores(N),
        "split": ["train", "train", "train", "test"] * (N // 4),
    }
    split = make_split(table_of(frame, wildtype=PARENT), seed=2)
    check_whole(split, N)
    assert np.flatnonzero(split.labels == "test").tolist() == list(range(3, N, 4))
    assert any("drawn at random from its train part" in note for note in split.notes)
    frame["split"] = ["train", "train", "train", "val"] * (N // 4)
    split = make_split(table_of(frame, wildtype=PARENT), seed=2)
    assert np.flatnonzero(split.labels == "test").tolist() == list(range(3, N, 4))
    assert any("no test part" in note for note in split.notes)


def test_rows_without_a_part_are_left_out_of_the_split() -> None:
    frame = {"mutant": MUTANTS, "y": scores(N), "split": ["train", "valid", "", "test"] * (N // 4)}
    split = make_split(table_of(frame, wildtype=PARENT))
    assert split.counts() == {"train": N // 4, "valid": N // 4, "test": N // 4, "none": N // 4}


@pytest.mark.parametrize("n", [10, 11, 30, 99])
def test_small_tables_have_every_part(n: int) -> None:
    table = table_of({"mutant": MUTANTS[:: N // n][:n], "y": scores(n)}, wildtype=PARENT)
    for how in ("auto", "random", "position"):
        split = make_split(table, how)
        check_whole(split, n)
        assert len(split.index("test")) >= max(1, 0.1 * n)


def test_too_few_rows() -> None:
    table = table_of({"mutant": MUTANTS[:9], "y": scores(9)}, wildtype=PARENT)
    with pytest.raises(DataError, match=r"9 usable sequences: .* at least 10"):
        make_split(table)


@pytest.mark.parametrize("how", ["random", "position", "mutations", "cluster"])
def test_the_seed_decides(how: str) -> None:
    table = family_table() if how == "cluster" else multi_table(most=2 if how == "position" else 6)
    first, again = make_split(table, how, seed=5), make_split(table, how, seed=5)
    assert first.labels.tolist() == again.labels.tolist()
    other = make_split(table, how, seed=6)
    assert (first.labels != other.labels).any() or how == "mutations"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cluster", "clusters at 50% identity: 1, the largest with 760 sequences of 760"),
        ("mutations", "all variants carry the same number of mutations"),
        ("time", r"it needs a column of times \(time\)"),
    ],
)
def test_impossible_splits_say_why(how: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        make_split(scan_table(), how)


def test_splits_of_variants_need_a_wild_type() -> None:
    for how in ("position", "mutations"):
        with pytest.raises(DataError, match="needs one wild type"):
            make_split(family_table(), how)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.9, 0.1)])
def test_impossible_fractions(fractions: Any) -> None:
    with pytest.raises(ConfigError, match="three positive shares"):
        make_split(scan_table(), fractions=fractions)


def test_asked_fractions() -> None:
    counts = make_split(scan_table(), "random", fractions=(0.5, 0.25, 0.25)).counts()
    assert counts == {"train": 380, "valid": 190, "test": 190}


def test_a_split_describes_itself() -> None:
    split = make_split(scan_table())
    assert split.lines()[0].startswith("split by position: ")
    assert split.to_dict()["counts"] == split.counts()
    with pytest.raises(ConfigError, match="expected one of train, valid, test"):
        split.index("dev")


def test_mutated_letters_do_not_matter_to_a_position_split() -> None:
    table = scan_table()
    assert table.sequences[0] == mutate(PARENT, MUTANTS[0])
    one = make_split(table, "position", 1)
    other = make_split(table.subset(np.arange(N)[::-1]), "position", 1)
    assert one.labels.tolist() == other.labels[::-1].tolist()
