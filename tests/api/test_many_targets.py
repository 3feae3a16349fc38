"""Tables of several targets: all measured columns, numbers beside classes, one target at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assay_tables import read
from tiny_runs import variants

from moltide.assay import AssayTable
from moltide.errors import DataError

N = 40
SEQUENCES = variants(N)[0]
RNG = np.random.default_rng(4)
MEASURED: dict[str, Any] = {
    "Km": [f"{v:.3f}" for v in RNG.normal(size=N)],
    "stable": ["yes" if v > 0 else "no" for v in RNG.normal(size=N)],
    "toxic": [str(int(v > 0.5)) for v in RNG.normal(size=N)],
}
HELPERS: dict[str, Any] = {
    "row": [str(i) for i in range(N)],
    "Km_std": [f"{v:.3f}" for v in RNG.random(N)],
    "strain": ["BL21" if v > 0 else "K12" for v in RNG.normal(size=N)],
    "prediction": [f"{v:.3f}" for v in RNG.normal(size=N)],
}


def all_of(tmp_path: Path, columns: dict[str, Any], **options: Any) -> AssayTable:
    return read(tmp_path, {"sequence": SEQUENCES, **columns}, **{"target": "all", **options})


def test_all_measured_columns(tmp_path: Path) -> None:
    table = all_of(tmp_path, {**HELPERS, **MEASURED})
    assert table.target_names == ["Km", "stable", "toxic"]
    assert (table.task, table.classes) == ("mixed", None)
    assert table.target_classes == [None, ["no", "yes"], ["0", "1"]]
    said = "\n".join(table.summary.said)
    assert "targets: 'Km', 'stable', 'toxic' (all measured columns)" in said
    for name in HELPERS:
        assert f"'{name}'" in said.split("not taken as targets: ")[1]


def test_all_of_one_kind_and_a_column_of_that_name(tmp_path: Path) -> None:
    two = {"a": MEASURED["Km"], "b": MEASURED["Km"][::-1]}
    table = all_of(tmp_path, two)
    assert (table.task, table.target_names, table.target_classes) == ("regression", ["a", "b"], [])
    named = all_of(tmp_path, {**two, "all": MEASURED["Km"]})
    assert named.target_names == ["all"]
    with pytest.raises(DataError, match=r"no measured column found \('row' \(numbers the rows\)"):
        all_of(tmp_path, {"row": HELPERS["row"]})


def test_each_target_has_its_own_task_and_classes(tmp_path: Path) -> None:
    columns = dict(MEASURED)
    columns["Km"] = ["", ">5", *columns["Km"][2:]]
    columns["stable"] = ["yes", "", *columns["stable"][2:]]
    table = all_of(tmp_path, columns, target=["stable", "Km", "toxic"])
    kinds = [table.task_of(j) for j in range(3)]
    assert kinds == ["classification", "regression", "classification"]
    assert np.isnan(table.targets[1, 0])
    assert np.isnan(table.targets[0, 1])
    assert table.censor[1].tolist() == [0, 1, 0]
    for j, name in enumerate(table.target_names):
        alone = table.endpoint(j)
        assert (alone.target_names, len(alone)) == ([name], N)
        assert (alone.task, alone.classes) == (table.task_of(j), table.classes_of(j))
        assert np.array_equal(alone.targets[:, 0], table.targets[:, j], equal_nan=True)
        assert [one.name for one in alone.summary.targets] == [name]
        assert alone.endpoint(0) is alone
    counts = {one.name: one.class_counts for one in table.summary.targets}
    assert counts["Km"] is None
    assert counts["stable"] == {word: columns["stable"].count(word) for word in ("no", "yes")}


def test_more_than_two_classes_stand_alone(tmp_path: Path) -> None:
    columns = {"Km": MEASURED["Km"], "grade": ["low", "mid", "top", "top"] * (N // 4)}
    with pytest.raises(DataError, match=r"3 classes \(low, mid, top\).*alone \(target='grade'\)"):
        all_of(tmp_path, columns, target="Km,grade")
    assert all_of(tmp_path, columns, target="grade").classes == ["low", "mid", "top"]


def test_a_relation_column_named_after_one_target_is_its_own(tmp_path: Path) -> None:
    sign = [">" if i == 3 else "=" for i in range(N)]
    columns = {"Km": MEASURED["Km"], "Tm": MEASURED["Km"][::-1], "Km_relation": sign}
    table = all_of(tmp_path, columns)
    assert table.target_names == ["Km", "Tm"]
    assert table.censor[3].tolist() == [1, 0]
    columns["relation"] = columns.pop("Km_relation")
    assert all_of(tmp_path, columns).censor[3].tolist() == [1, 1]
