"""Tables of molecules: which column holds them, and every row accounted for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import write_table

import moltide as mt
from moltide.cli.reading import SequenceReader
from moltide.errors import DataError

pytest.importorskip("rdkit")

ALCOHOLS = [f"OC{'C' * i}(C)C" for i in range(12)]


def table_of(folder: Path, smiles: list[str], name: str = "smiles", **more: list[object]) -> Path:
    columns = [name, "logS", *more]
    rows = [
        [text, i / 7, *(values[i] for values in more.values())] for i, text in enumerate(smiles)
    ]
    return write_table(folder / "table.csv", columns, rows)


@pytest.mark.parametrize("name", ["smiles", "Canonical_SMILES", "Drug", "what"])
def test_molecules_are_found_by_content_and_name(tmp_path: Path, name: str) -> None:
    table = mt.read_assay(table_of(tmp_path, [f"{one}c1ccccc1" for one in ALCOHOLS], name))
    assert table.kind == table.summary.kind == "molecule"
    assert all("c1ccccc1" in smiles for smiles in table.sequences)
    lines = "\n".join(table.summary.lines())
    assert f"SMILES column: {name!r}" in lines
    assert "residues" not in lines


def test_short_peptides_are_no_molecules(tmp_path: Path) -> None:
    peptides = ["CCCCNNPPSS", "NNCCPPSSFF", "SSPPNNCCFF", "CNPSFICNPS"] * 3
    rows = [f"{text}{'ACDEFGHIKLMN'[i]}" for i, text in enumerate(peptides)]
    assert mt.read_assay(table_of(tmp_path, rows, "sequence")).kind == "protein"


def test_equal_molecules_are_merged_and_salts_stripped(tmp_path: Path) -> None:
    smiles = [*ALCOHOLS, "CC(C)O", "C(C)(C)O.Cl", "[Na+].CC(=O)[O-]"]
    table = mt.read_assay(table_of(tmp_path, smiles))
    same = [rows for rows in table.rows if len(rows) > 1]
    assert same == [[2, 14, 15]]
    assert table.sequences[0] == "CC(C)O"
    assert table.sequences[-1] == "CC(=O)O"
    np.testing.assert_allclose(table.targets[0, 0], np.mean([0, 12, 13]) / 7)
    notes = table.summary.notes
    assert any("stripped to the largest organic part: 2" in note for note in notes)
    assert any("neutralised: 1" in note for note in notes)


def test_broken_structures_are_refused_by_row_or_set_aside_with_their_reason(
    tmp_path: Path,
) -> None:
    path = table_of(tmp_path, [*ALCOHOLS, "C1CC", "", "CC(C)(C)(C)C"])
    with pytest.raises(
        DataError, match=r"table.csv: column 'smiles': structures .* in 2 of 15"
    ) as e:
        mt.read_assay(path)
    assert "row 14: 'C1CC' is no SMILES (ring 1 is not closed)" in str(e.value)
    table = mt.read_assay(path, on_bad_row="set_aside")
    assert table.summary.set_aside == {
        "no SMILES": [15],
        "structure that cannot be read": [14, 16],
    }
    assert table.summary.rows_read == 15
    assert table.summary.rows_used + 3 == 15


def test_a_table_of_both_is_read_as_asked_for(tmp_path: Path) -> None:
    residues = ["MKTAYIAKQR" + "ACDEFGHIKLMN"[i] for i in range(12)]
    path = table_of(tmp_path, ALCOHOLS, sequence=list(residues))
    assert mt.read_assay(path).kind == "protein"
    assert mt.read_assay(path, kind="molecule").sequences[0] == "CC(C)O"
    assert mt.read_assay(path, sequence="smiles").kind == "molecule"


def test_options_reach_the_molecules(tmp_path: Path) -> None:
    smiles = [*ALCOHOLS, "C[C@H](N)C(=O)O", "CCN.Cl"]
    path = table_of(tmp_path, smiles)
    table = mt.read_assay(path, stereo="drop", salts="keep")
    assert table.sequences[-2:] == ["CC(N)C(=O)O", "CCN.Cl"]


@pytest.mark.parametrize("name", ["smiles", "SMILES", "structure"])
def test_a_model_of_molecules_reads_those_that_could_be_peptides(tmp_path: Path, name: str) -> None:
    """Two molecules without a bond or a ring in their text say nothing of what they are."""
    table = write_table(tmp_path / "new.csv", [name, "batch"], [["CCO", "x7"], ["CCN", "x8"]])
    reader = SequenceReader(table, kind="molecule")
    assert [one for batch in reader for one in batch.sequences] == ["CCO", "CCN"]
    usual = write_table(tmp_path / "usual.csv", ["odd", "batch"], [["CCO", "x7"], ["CCN", "x8"]])
    reader = SequenceReader(usual, ("odd", None), "molecule")
    assert [one for batch in reader for one in batch.sequences] == ["CCO", "CCN"]
    with pytest.raises(DataError, match="no column of SMILES or InChI found"):
        list(SequenceReader(usual, kind="molecule"))
