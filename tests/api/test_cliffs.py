"""Activity cliffs and repeats: found among all pairs, counted, written, and drawn."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from molecule_tables import esol

from moltide.assay import AssayTable, read_frame
from moltide.chem.cliffs import TargetValues, cliffs_among
from moltide.chem.fingerprints import morgan_bits, similar_pairs, tanimoto
from moltide.finetune.account_stage import write_accounts
from moltide.finetune.accounts import account_csv, cliffs_csv, cliffs_of, duplicates_csv
from moltide.finetune.budget import Budget
from moltide.finetune.folder import RunFolder
from moltide.finetune.voice import SilentVoice
from moltide.splits import make_split

pytest.importorskip("rdkit")


def series(n: int = 12) -> list[str]:
    """Long ethers, each like its neighbours."""
    return [f"{'C' * (12 + i)}OCCN(C)Cc1ccccc1" for i in range(n)]


def read(smiles: list[str], values: list[object], **more: object) -> AssayTable:
    return read_frame(pd.DataFrame({"smiles": smiles, "pIC50": values}), **more)


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("similarity", [0.3, 0.6, 1.0])
def test_every_similar_pair_is_found_once(
    similarity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moltide.chem import fingerprints

    smiles, _ = esol()
    packed = morgan_bits([*smiles, *smiles[:7]])
    whole = tanimoto(packed, packed)
    i, j = np.nonzero(np.triu(whole >= np.float32(similarity), 1))
    expected = dict(
        zip(zip(i.tolist(), j.tolist(), strict=True), whole[i, j].tolist(), strict=True)
    )
    # Small blocks, so that there are many.
    monkeypatch.setattr(fingerprints, "_PAIRED", 16)
    monkeypatch.setattr(fingerprints, "_UNPACKED", 40)
    found: dict[tuple[int, int], float] = {}
    steps = []
    for done, a, b, alike in similar_pairs(packed, similarity):
        steps.append(done)
        for pair in zip(a.tolist(), b.tolist(), alike.tolist(), strict=True):
            assert pair[:2] not in found
            found[pair[:2]] = pair[2]
    assert steps[-1] == len(packed)
    assert found == expected


def test_bounds_count_as_far_as_they_say_something() -> None:
    packed = np.repeat(morgan_bits(["CCOc1ccccc1"]), 5, axis=0)
    values = np.array([8.0, 5.0, 6.5, np.nan, 7.5])
    censor = np.array([0, -1, 1, 0, 0], np.int8)  # 8, <5, >6.5, -, 7.5
    one = cliffs_among(packed, [TargetValues("y", values, censor, 1.0, "1")])[0]
    found = [(pair.a, pair.b, pair.difference) for pair in one.pairs]
    assert found == [(0, 1, 3.0), (1, 4, 2.5), (1, 2, 1.5)]
    assert (one.total, one.alike, one.molecules) == (3, 6, 4)


def test_only_the_furthest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from moltide.chem import cliffs

    monkeypatch.setattr(cliffs, "MOST", 3)
    packed = np.repeat(morgan_bits(["CCOc1ccccc1"]), 6, axis=0)
    values = TargetValues("y", np.arange(6.0), np.zeros(6, np.int8), 1.0, "1")
    one = cliffs_among(packed, [values])[0]
    assert [(pair.a, pair.b) for pair in one.pairs] == [(0, 5), (0, 4), (1, 5)]
    assert one.total == 15


def test_cliffs_of_a_table_are_written_with_rows_and_parts() -> None:
    smiles = [*series(), "CC(C)O", "CC(N)O"]
    values: list[object] = [5 + 0.01 * i for i in range(14)]
    values[4], values[13] = 8.0, 9.0
    table = read(smiles, values)
    cliffs = cliffs_of(table)
    assert cliffs[0].target.words == "1 (tenfold)"
    split = make_split(table, "random")
    found = lines(cliffs_csv(table, split, cliffs))
    assert found
    assert all("6" in (one["rows_a"], one["rows_b"]) for one in found)
    assert all(float(one["similarity"]) >= 0.8 for one in found)
    assert {one["split_a"] for one in found} <= {"train", "valid", "test"}
    assert float(found[0]["difference"]) == pytest.approx(3, abs=0.2)
    assert {one["stereoisomers"] for one in found} == {"no"}


def test_stereoisomers_and_classes() -> None:
    pairs = ["C[C@H](N)Cc1ccccc1", "C[C@@H](N)Cc1ccccc1"]
    table = read_frame(
        pd.DataFrame({"smiles": [*pairs, *series()], "active": ["yes", "no"] + ["yes", "yes"] * 6})
    )
    cliffs = cliffs_of(table)
    found = lines(cliffs_csv(table, make_split(table, "random"), cliffs))
    assert [(one["stereoisomers"], one["value_a"], one["value_b"]) for one in found] == [
        ("yes", "yes", "no")
    ]


def test_noise_of_repeats_widens_what_a_cliff_is_and_single_outliers_do_not() -> None:
    smiles = [*series(), *series(), *series(1)]
    base = [5 + 0.01 * i for i in range(12)]
    table = read(smiles, [*base, *(v + 0.6 for v in base), 20.0])
    # 3 SDs of a difference whose median size is 0.6.
    assert cliffs_of(table)[0].target.limit == pytest.approx(3 * 1.4826 * 0.6)
    spread = table.summary.targets[0].spread
    assert spread is not None
    assert (spread.sequences, spread.wide) == (12, 1)
    assert "12 read more than once" in "\n".join(table.summary.lines())


def test_repeats_are_listed_with_what_contradicts() -> None:
    smiles = [*series(), *series(8), "C" * 12 + "OCCN(C)Cc1ccccc1.Cl"]
    base: list[object] = [5.0 + i / 3 for i in range(12)]
    repeats: list[object] = [5.1 + i / 3 for i in range(7)]
    table = read(smiles, [*base, *repeats, ">99", 25.0])
    found = lines(duplicates_csv(table))
    assert [one["rows"] for one in found][:2] == ["2;14;22", "3;15"]
    assert found[0]["readings"] == "5; 5.1; 25"
    assert found[0]["contradiction"] == "readings"
    assert found[7]["contradiction"] == "a bound"
    assert {one["contradiction"] for one in found[1:7]} == {""}
    assert float(found[1]["spread"]) == pytest.approx(0.1, abs=1e-4)
    account = lines(account_csv(table))
    assert [one["state"] for one in account] == ["used"] * 12 + ["merged"] * 9
    assert account[20]["merged_into"] == "2"
    assert account[20]["given"].endswith(".Cl")
    assert account[19]["pIC50"] == ">99"


def test_the_account_of_sequences_keeps_the_text_of_rows_set_aside_alone() -> None:
    residues = ["MKTAYIAKQR" + letter for letter in "ACDEFGHIKLMN"]
    frame = pd.DataFrame({"sequence": [*residues, "MKTA1", residues[0]], "y": np.arange(14) / 7})
    table = read_frame(frame, on_bad_row="set_aside")
    account = lines(account_csv(table))
    assert [one["given"] for one in account] == [""] * 12 + ["MKTA1", ""]
    assert account[12]["reason"] == "'1' at position 5 is no residue"
    assert (account[13]["state"], account[13]["merged_into"]) == ("merged", "2")
    assert "sequence" not in account[0]


def test_structures_are_drawn_for_light_and_dark_pages(tmp_path: Path) -> None:
    from moltide.chem.drawing import draw, draw_pair

    a, b = draw_pair("CCOc1ccccc1C(=O)NC", "CCOc1ccccc1C(=O)NCCCl")
    alone = draw("CCO")
    for svg in (a, b, alone):
        assert svg.startswith("<svg ")
        assert svg.endswith("</svg>")
        assert "currentColor" in svg
        assert "#000000" not in svg
        assert "<?xml" not in svg
    assert "#ED9E6B" in b.upper()
    assert "#ED9E6B" not in alone.upper()


@pytest.mark.parametrize("minutes", [None, 1e-6])
def test_cliffs_are_left_out_where_there_is_no_time(tmp_path: Path, minutes: float | None) -> None:
    table = read(series(), [5 + 0.3 * i for i in range(12)])
    run: Any = SimpleNamespace(
        table=table,
        split=make_split(table, "random"),
        folder=RunFolder(tmp_path, {}),
        voice=SilentVoice(),
        budget=Budget(minutes, time.monotonic()),
        cut_short=[],
    )
    cliffs = write_accounts(run)
    assert (tmp_path / "account.csv").is_file()
    assert (tmp_path / "duplicates.csv").is_file()
    assert bool(cliffs) is (tmp_path / "activity_cliffs.csv").is_file() is (minutes is None)
    assert run.cut_short == ([] if minutes is None else ["activity cliffs: not looked for"])
