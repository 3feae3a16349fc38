"""Whole tables in the styles of their sources: every line that a user reads about them.

`tests/data/assays/*.expected.txt` were written by this code and checked by eye; the numbers of the
bundled assays below were counted apart from it.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moltide
from moltide.assay import format_mutations, read_assay
from moltide.splits import make_split

DATA = Path(__file__).parent.parent / "data" / "assays"
BUNDLED = Path(moltide.__file__).parent / "bundled" / "assays"
GB1 = "MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("proteingym_style.csv", {}),
        ("mavedb_style.csv", {"wildtype": DATA / "parent.fasta"}),
        ("excel_german.csv", {}),
        ("solubility.tsv", {"time": "campaign"}),
    ],
)
def test_what_is_said_about_a_table(name: str, options: dict[str, Any]) -> None:
    table = read_assay(DATA / name, **options)
    lines = [*table.summary.lines(), "", *make_split(table).lines()]
    expected = (DATA / name).with_suffix(".expected.txt").read_text(encoding="utf-8")
    assert lines == expected.splitlines()


def rows_of(name: str) -> list[dict[str, str]]:
    with gzip.open(BUNDLED / name, "rt", newline="") as stream:
        return list(csv.DictReader(stream))


def test_gb1() -> None:
    rows = rows_of("gb1_flip.csv.gz")
    table = read_assay(BUNDLED / "gb1_flip.csv.gz", split="two_vs_rest", wildtype=GB1)
    assert table.sequences == [row["sequence"] for row in rows]
    assert table.targets[:, 0].tolist() == [float(row["target"]) for row in rows]
    assert table.split is not None
    assert table.split.tolist() == [row["two_vs_rest"] for row in rows]
    assert sorted(table.split_columns) == sorted(rows[0].keys() - {"variant", "sequence", "target"})
    assert table.mutations is not None
    # The variant column spells the residues at positions 39, 40, 41 and 54.
    sites = [38, 39, 40, 53]
    for row, mutations in zip(rows, table.mutations, strict=True):
        changed = {m.position: m.mut for m in mutations}
        assert "".join(changed.get(p, GB1[p]) for p in sites) == row["variant"]
        assert changed.keys() <= set(sites)
    assert make_split(table).counts() == Counter(row["two_vs_rest"] for row in rows)


def test_beta_lactamase_by_mutation_strings() -> None:
    rows = rows_of("blat_ecolx.csv.gz")
    table = read_assay(
        BUNDLED / "blat_ecolx.csv.gz",
        target="amp_2500,amp_625",
        wildtype=BUNDLED / "blat_ecolx.fasta",
        split="split_contiguous",
    )
    assert table.numbering == 24
    assert table.mutations is not None
    assert [format_mutations(m, 24) for m in table.mutations] == [row["mutant"] for row in rows]
    values = [[float(row["amp_2500"]), float(row["amp_625"])] for row in rows]
    np.testing.assert_array_equal(table.targets, values)
    assert make_split(table).counts() == Counter(row["split_contiguous"] for row in rows)
    assert make_split(table, "position").method == "position"
