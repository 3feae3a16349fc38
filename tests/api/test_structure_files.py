"""SDF, lines of SMILES and InChI as tables, with every broken record named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

import moltide as mt
from moltide.assay import read_frame
from moltide.assay.source import read_source, source_chunks
from moltide.errors import DataError

Chem = pytest.importorskip("rdkit.Chem")

SMILES = [f"OC{'C' * i}(C)c1ccccc1" for i in range(14)]
BROKEN_ATOM = "\n  x\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0 nonsense\nM  END\n"


def record(smiles: str, title: str, v3000: bool = False, **fields: object) -> str:
    molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    molecule.SetProp("_Name", title)
    block = Chem.MolToMolBlock(molecule, forceV3000=v3000, kekulize=False)
    values = "".join(f">  <{name}>  ({title})\n{value}\n\n" for name, value in fields.items())
    return f"{block}{values}$$$$\n"


def records() -> list[str]:
    """14 good ones, every second in V3000, and three broken ones after the fifth."""
    good = [record(s, f"mol {i}", i % 2 == 1, IC50=f"{i + 1}.5") for i, s in enumerate(SMILES)]
    broken = [
        record("CC(C)(C)(C)C", "five bonds", IC50=1),
        "garbled" + BROKEN_ATOM + "> <IC50>\n2\n\n$$$$\n",
        "empty\n\n\n> <IC50>\n3\n\n> <more>\nx\ny\n\n$$$$\n",
    ]
    return [*good[:5], *broken, *good[5:]]


def write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["a.sdf", "a.SDF.gz", "no_ending"])
def test_sdf_is_a_table(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "".join(records()))
    table = mt.read_assay(path, target="IC50", on_bad_row="set_aside")
    assert table.kind == "molecule"
    expected = [Chem.CanonSmiles(text) for text in SMILES]
    assert table.sequences == expected
    assert table.targets[:, 0].tolist() == [i + 1.5 for i in range(14)]
    assert [rows[0] for rows in table.rows] == [1, 2, 3, 4, 5, *range(9, 18)]
    assert table.summary.set_aside == {"structure that cannot be read": [6, 7, 8]}
    assert table.summary.format == "SDF"


def test_broken_records_are_named_by_number_title_and_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.sdf", "".join(records()))
    with pytest.raises(DataError, match=r"a.sdf: column 'smiles': structures .* in 3 of 17") as e:
        mt.read_assay(path, target="IC50")
    said = str(e.value)
    assert "record 6 ('five bonds'): explicit valence for atom # 1 C, 5, is greater" in said
    assert "record 7 ('garbled'): " in said
    assert "unreadable structure" not in said
    assert "record 8 ('empty'): no structure (there is no line 'M  END')" in said
    assert capfd.readouterr().err == ""


def test_fields_are_columns_and_chunks_number_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.sdf", "".join(records()).replace("IC50", "SMILES"))
    whole = read_source(path)
    assert whole.columns == ["structure", "name", "SMILES", "more"]
    assert whole.texts("more")[7] == "x y"
    assert whole.texts("name")[:2] == ["mol 0", "mol 1"]
    parts = list(source_chunks(path, 4))
    assert [one.first_row for one in parts] == [1, 5, 9, 13, 17]
    assert all(one.columns == whole.columns for one in parts)
    for column in whole.columns:
        assert [text for one in parts for text in one.texts(column)] == whole.texts(column)
    broken = {one.row(i): why for one in parts for i, why in one.broken.items()}
    assert broken == {whole.row(i): why for i, why in whole.broken.items()}


def test_large_files_are_read_by_several_processes_alike(tmp_path: Path) -> None:
    from moltide.chem.molblocks import smiles_of_blocks

    blocks = [one.partition("M  END")[0] + "M  END\n" for one in records()] * 60
    alone = [one for part in smiles_of_blocks(blocks, 1) for one in part]
    assert [one for part in smiles_of_blocks(blocks, 2) for one in part] == alone


def test_a_file_that_is_no_sdf(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no records"):
        read_source(write(tmp_path / "a.sdf", "\n\n"))
    path = tmp_path / "b.sdf.gz"
    path.write_bytes(gzip.compress("".join(records()).encode())[:-20])
    with pytest.raises(DataError, match="truncated or damaged"):
        read_source(path)


@pytest.mark.parametrize("header", ["", "SMILES name\n"])
@pytest.mark.parametrize("ending", [".smi", ".smi.gz"])
def test_lines_of_smiles(tmp_path: Path, header: str, ending: str) -> None:
    lines = [f"{smiles}{' ' if i % 2 else chr(9)}mol {i}" for i, smiles in enumerate(SMILES)]
    lines[3] = SMILES[3]
    path = write(tmp_path / f"a{ending}", header + "\n".join(lines) + "\n")
    source = read_source(path)
    assert source.texts("smiles") == SMILES
    assert source.texts("name")[2:5] == ["mol 2", "", "mol 4"]
    assert source.first_row == (2 if header else 1)
    assert [one.first_row for one in source_chunks(path, 10)] == [source.row(0), source.row(10)]


def test_a_table_called_smi_is_a_table(tmp_path: Path) -> None:
    lines = "\n".join(f"{smiles}\t{i / 7}" for i, smiles in enumerate(SMILES))
    table = mt.read_assay(write(tmp_path / "a.smi", f"smiles\tlogS\n{lines}\n"))
    assert table.target_names == ["logS"]
    assert len(table) == 14


def test_inchi_columns(tmp_path: Path) -> None:
    inchi = [Chem.MolToInchi(Chem.MolFromSmiles(text)) for text in SMILES]
    frame = pd.DataFrame({"InChI": inchi, "y": [i / 7 for i in range(14)]})
    table = read_frame(frame)
    assert table.sequences == [Chem.CanonSmiles(text) for text in SMILES]
    assert "InChI column: 'InChI' (14 of 14 values are inchi)" in "\n".join(table.summary.lines())
    frame.loc[3, "InChI"] = "InChI=1S/broken"
    with pytest.raises(DataError, match="row 5: 'InChI=1S/broken' is no InChI"):
        read_frame(frame)
    both = read_frame(frame.assign(smiles=SMILES))
    assert both.summary.sequence_column == "smiles"
