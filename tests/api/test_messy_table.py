"""A table as laboratories keep them, fine-tuned, with every row in one state, counts and reasons as
they were made."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import call
from molecule_tables import DATA, tiny_backbone
from tiny_runs import read_table

from moltide.assay import read_assay

Chem = pytest.importorskip("rdkit.Chem")

ROWS = 230


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import messy_table

    smiles = [row["smiles"] for name in ("esol_200.csv", "bbbp_200.csv")
              for row in csv.DictReader((DATA / name).open())]  # fmt: skip
    messy = messy_table.make(smiles, ROWS)
    assert set(messy_table.broken_counts(messy)) == set(messy_table.BROKEN)
    return messy_table, messy


def test_a_run_accounts_for_every_row(made: Any, tmp_path: Path) -> None:
    module, messy = made
    table = messy.write(tmp_path / "messy.csv")
    run = tmp_path / "run"
    options = ("--backbone", tiny_backbone(tmp_path / "b"), "--split", "random")
    options += ("--adapter", "head", "--epochs", 1, "--no-learning-curve", "--transform", "plog")
    options += ("--target", "Standard Value", "--on-bad-row", "set_aside", "--overwrite")
    assert call("finetune", table, "--out", run, *options) == 0
    account = read_table(run / "account.csv")
    assert module.check_account(messy, account, "pIC50") == []
    assert Counter(line["state"] for line in account) == module.counts(messy)
    # What was fitted, tested and left is the same rows.
    used = {line["row"] for line in account if line["state"] != "set aside"}
    parts = read_table(run / "split.csv")
    assert sorted(row for one in parts for row in one["rows"].split(";")) == sorted(used)
    expected = {messy.parents[m]: v for m, v in module.expected_values(messy).items()}
    for line in read_table(run / "predictions.csv"):
        value, bound = expected[line["sequence"]]
        assert float(line["measured_pIC50"]) == pytest.approx(value, rel=1e-5)
        assert line["bound_pIC50"] == {-1: "<", 0: "", 1: ">"}[bound]
        assert line["given"] == messy.rows[int(line["rows"].split(";")[0]) - 2][1]
    summary = json.loads((run / "config.json").read_text())["data"]
    assert summary["rows_read"] == ROWS
    assert summary["rows_used"] + sum(map(len, summary["set_aside"].values())) == ROWS
    # The model predicts a file of structures, in the unit it was fitted in.
    records = [f"{Chem.MolToMolBlock(Chem.MolFromSmiles(text))}> <id>\n{text}\n\n$$$$\n"
               for text in ("CCCCCO.Cl", "CCc1ccccc1")]  # fmt: skip
    (tmp_path / "new.sdf").write_text("".join([records[0], "bad\n\n\n\n$$$$\n", records[1]]))
    out, options = tmp_path / "out.csv", ("--on-bad-row", "set_aside")
    assert call("predict", run, tmp_path / "new.sdf", "-o", out, *options) == 0
    found = read_table(out)
    assert [bool(one["predicted_pIC50"]) for one in found] == [True, False, True]
    assert "record 2 ('bad'): no structure" in found[1]["domain_note"]
    page = (run / "report.html").read_text()
    assert "Activity cliffs" in page
    assert "account.csv" in page


def test_a_check_that_can_fail(made: Any, tmp_path: Path) -> None:
    """The same table read with its salts kept, or without its bounds, is found out."""
    from moltide.finetune.accounts import account_csv

    module, messy = made
    table = messy.write(tmp_path / "messy.csv")
    options: dict[str, Any] = {
        "target": "Standard Value", "transform": "plog", "on_bad_row": "set_aside",
    }  # fmt: skip

    def wrong(**more: Any) -> list[str]:
        text = account_csv(read_assay(table, **options, **more))
        found: list[str] = module.check_account(
            messy, list(csv.DictReader(text.splitlines())), "pIC50"
        )
        return found

    assert wrong() == []
    assert len(wrong(salts="keep")) > 10
    assert any("reason" in one for one in wrong(unit="nM"))


def test_a_relation_that_is_none_does_not_hide_the_others(made: Any, tmp_path: Path) -> None:
    _, messy = made
    table = messy.write(tmp_path / "messy.csv")
    read = read_assay(table, target="Standard Value", transform="plog", on_bad_row="set_aside")
    assert "relation column of 'Standard Value': 'Standard Relation'" in "\n".join(
        read.summary.said
    )
    assert read.censor.any()
