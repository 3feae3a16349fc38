"""Units of targets: found, brought to one, taken as logarithms on request, and never silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command import call
from tiny_runs import read_table, tiny_backbone, variants, write_table

import moltide as mt
from moltide.assay import AssayTable, read_frame
from moltide.assay.transforms import Scale
from moltide.assay.units import is_logarithm, molar_power, plain_unit, unit_in_name
from moltide.assay.values import parse_numbers
from moltide.errors import ConfigError, DataError

pytest.importorskip("rdkit")

ALCOHOLS = [f"OC{'C' * i}(C)C" for i in range(20)]
V = [10.0 * (i + 1) for i in range(20)]


def read(columns: dict[str, Any], **options: Any) -> AssayTable:
    return read_frame(pd.DataFrame({"smiles": ALCOHOLS, **columns}), **options)


def lines(table: AssayTable) -> str:
    return "\n".join(table.summary.lines())


@pytest.mark.parametrize(
    ("text", "power"),
    [
        ("nM", -9), ("nm", -9), ("uM", -6), ("µM", -6), ("μM", -6), ("mM", -3), ("pM", -12),
        ("M", 0), ("nmol/L", -9), ("nmol.L-1", -9), ("micromolar", -6), ("'nM'", -9),
        ("ug.mL-1", None), ("%", None), ("mm", None), ("", None), ("hM", None),
    ],
)  # fmt: skip
def test_units_of_concentration(text: str, power: int | None) -> None:
    assert molar_power(text) == power
    assert power is None or plain_unit(text).endswith("M")


@pytest.mark.parametrize(
    ("column", "base", "unit"),
    [
        ("IC50 (nM)", "IC50", "nM"), ("ic50_um", "ic50", "uM"), ("Ki [µM]", "Ki", "uM"),
        ("CL (uL/min/mg)", "CL", "uL/min/mg"), ("IC50 (rep1)", "IC50 (rep1)", ""),
        ("Standard Value", "Standard Value", ""), ("log_sol_nm", "log_sol_nm", ""),
    ],
)  # fmt: skip
def test_units_in_names(column: str, base: str, unit: str) -> None:
    assert unit_in_name(column) == (base, unit)


def test_names_of_logarithms() -> None:
    logs = ["pIC50", "pki", "pChEMBL Value", "logS", "log_hlm_clint", "-log10 IC50", "logP"]
    assert all(map(is_logarithm, logs))
    assert not any(map(is_logarithm, ["IC50", "peptide", "long", "position", "potency", "loss"]))


def test_cells_with_units() -> None:
    numbers = parse_numbers(["10 nM", ">2.5µM", "7", "A40P"], with_units=True)
    np.testing.assert_array_equal(numbers.values, [10, 2.5, 7, np.nan])
    assert numbers.units == {0: "nM", 1: "uM"}
    assert numbers.censor[1] == 1
    assert numbers.bad == [3]


def test_units_are_shown_once() -> None:
    assert Scale("IC50", unit="nM").unit_beside("IC50") == "nM"
    assert Scale("IC50 (nM)", unit="nM").unit_beside("IC50 (nM)") == ""
    assert Scale("IC50", "plog", "M").unit_beside("pIC50") == ""


def test_nothing_is_transformed_unasked_but_said() -> None:
    table = read({"IC50 (nM)": V})
    assert table.target_names == ["IC50 (nM)"]
    np.testing.assert_array_equal(table.targets[:, 0], V)
    assert "unit of 'IC50 (nM)': nM 20 (by its name)" in lines(table)
    assert "hint: transform='plog' takes -log10 of mol/L ('pIC50')" in lines(table)


@pytest.mark.parametrize(
    ("column", "given", "expected"),
    [
        ("IC50 (nM)", {}, -9),
        ("ic50_uM", {}, -6),
        ("IC50", {"unit": "nM"}, -9),
        ("IC50", {"unit": {"IC50": "mM"}}, -3),
    ],
)
def test_p_values_turn_bounds_round(column: str, given: dict[str, Any], expected: int) -> None:
    cells: list[object] = [*V]
    cells[0], cells[1] = ">10", "<20"
    table = read({column: cells}, transform="plog", **given)
    assert table.target_names == ["pIC50"]
    np.testing.assert_allclose(table.targets[:, 0], -np.log10(V) - expected, rtol=1e-15)
    assert table.censor[:3, 0].tolist() == [-1, 1, 0]
    assert "'pIC50': -log10 of mol/L; bounds are turned round" in lines(table)
    assert table.scale_of(0).to_dict() == {"column": column, "transform": "plog", "unit": "M"}


def chembl(**changes: Any) -> dict[str, Any]:
    return {
        "Standard Type": ["IC50"] * 20,
        "Standard Relation": ["'='"] * 18 + ["'>'", "'~'"],
        "Standard Value": V,
        "Standard Units": ["nM"] * 15 + ["uM"] * 5,
        **changes,
    }


def test_a_table_as_chembl_exports_it() -> None:
    table = read(chembl(), transform="plog")
    assert table.target_names == ["pIC50"]
    factor = np.array([1e-9] * 15 + [1e-6] * 5)
    np.testing.assert_allclose(table.targets[:, 0], -np.log10(V * factor))
    assert table.censor[:, 0].tolist() == [0] * 18 + [-1, 0]
    assert "unit of 'Standard Value': nM 15, uM 5 (by column 'Standard Units')" in lines(table)
    assert "approximate ('~'), taken as exact: 1 reading" in lines(table)


def test_several_units_need_a_word_and_are_brought_to_one() -> None:
    with pytest.raises(
        DataError, match=r"in several units \(column 'Standard Units'\): nM 15"
    ) as e:
        read(chembl())
    assert "unit='nM'" in str(e.value)
    table = read(chembl(), unit="nM")
    np.testing.assert_allclose(
        table.targets[:, 0], np.where(np.arange(20) < 15, V, np.array(V) * 1e3)
    )
    assert "'Standard Value' is brought to nM" in lines(table)
    table = read(chembl(), transform="log10")
    assert table.target_names == ["log10_IC50_nM"]
    np.testing.assert_allclose(table.targets[[0, 19], 0], [1, np.log10(2e5)])


def test_rows_without_a_way_to_the_unit_are_named_with_the_reason() -> None:
    broken = chembl(
        **{
            "Standard Value": [0, -3, *V[2:]],
            "Standard Units": ["nM"] * 16 + ["ug.mL-1", "%", "", "nM"],
        }
    )
    with pytest.raises(DataError, match=r"3 rows \(row 18: unit 'ug.mL-1' cannot be brought to M"):
        read(broken, transform="plog")
    table = read(broken, transform="plog", on_bad_row="set_aside")
    assert table.summary.set_aside == {
        "unit not known": [18, 19, 20],
        "value without a logarithm": [2, 3],
    }
    assert len(table) == 15
    assert len(read(broken, transform="plog", unit="nM", on_bad_row="set_aside")) == 16


def test_the_unit_of_a_named_column_and_of_cells() -> None:
    table = read({"y": V, "what": ["nM"] * 20}, unit="what", transform="plog")
    assert table.target_names == ["p_y"]
    cells = [f"{x:g} nM" for x in V[:10]] + [f">{x:g}uM" for x in V[10:]]
    table = read({"y": cells}, unit="uM")
    np.testing.assert_allclose(table.targets[[0, 19], 0], [0.01, 200])
    assert table.censor[:, 0].tolist() == [0] * 10 + [1] * 10


def test_of_several_targets_those_with_a_concentration_are_taken() -> None:
    columns = {"ic50_nM": V, "logD": [i / 3 for i in range(20)], "cl": V[::-1]}
    table = read(columns, target="all", transform="plog")
    assert table.target_names == ["pIC50", "logD", "cl"]
    table = read(columns, target="all", transform="ic50_nM=plog,cl=log10")
    assert table.target_names == ["pIC50", "logD", "log10_cl"]


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"IC50": V}, {"transform": "plog"}, "needs a unit of concentration"),
        ({"IC50": V}, {"transform": "pic50"}, "transform is 'pic50'; allowed: none, plog, log10"),
        ({"pIC50": V}, {"transform": "plog", "unit": "nM"}, "is a logarithm by its name"),
        ({"pIC50": V}, {"unit": "nM"}, "is a logarithm by its name, and has no unit='nM'"),
        ({"IC50": V}, {"transform": "y=plog"}, "names 'y', which is no target of numbers"),
        ({"IC50": V}, {"transform": "IC50="}, "TARGET=WORD"),
        ({"IC50": [0, 1] * 10}, {"transform": "plog", "unit": "nM"}, "no target has values"),
        ({"a": V, "b": V[::-1]}, {"target": "a,b", "unit": "nM"}, "say whose it is"),
    ],
)
def test_what_cannot_be_done_is_refused(
    columns: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=words):
        read(columns, **options)


def test_a_wide_range_and_foreign_relations_are_pointed_out() -> None:
    table = read({"y": [10.0 ** (i / 4) for i in range(20)]})
    assert "hint: 'y' spans 4.3 powers of ten; transform='log10'" in lines(table)
    table = read({"pIC50": [i / 3 for i in range(20)], "relation": ["="] * 19 + [">"]})
    assert "relations in 'relation' are read as those of 'pIC50' itself" in lines(table)


def test_the_transform_is_kept_with_the_model_and_names_its_predictions(tmp_path: Path) -> None:
    sequences, values = variants(60)
    rows = [[text, 10.0**value, "uM"] for text, value in zip(sequences, values, strict=True)]
    assay = write_table(tmp_path / "a.csv", ["sequence", "IC50", "IC50_units"], rows)
    run, out = tmp_path / "run", tmp_path / "out.csv"
    options = (
        "--backbone",
        tiny_backbone(tmp_path / "b"),
        "--split",
        "random",
        "--adapter",
        "head",
    )
    options += ("--epochs", 1, "--no-learning-curve", "--transform", "plog")
    assert call("finetune", assay, "--out", run, *options) == 0
    assert mt.load_assay_model(run).model_.spec.scales[0].transform == "plog"
    assert json.loads((run / "metrics.json").read_text())["target"] == "pIC50"
    measured = {one["sequence"]: one for one in read_table(run / "predictions.csv")}
    for text, value in zip(sequences, values, strict=True):
        if text in measured:
            assert float(measured[text]["measured_pIC50"]) == pytest.approx(6 - value, rel=1e-5)
            assert measured[text]["predicted_pIC50"]
    page = (run / "report.html").read_text()
    assert "Predicted pIC50" in page
    assert "--transform plog" in page
    assert "--tautomers" not in page
    assert call("predict", run, assay, "-o", out) == 0
    assert {"predicted_pIC50", "std_pIC50", "low90_pIC50"} <= read_table(out)[0].keys()
