"""Table files as people save them: formats, encodings, delimiters, damage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from assay_tables import PARENT, mutate, scan, scores, table_text, write
from hypothesis import given, settings
from hypothesis import strategies as st

from moltide.assay import AssayTable, read_assay, read_frame
from moltide.errors import DataError, MissingDependencyError

SEQUENCES = [mutate(PARENT, one) for one in scan(positions=range(2))]
Y = scores(len(SEQUENCES))
COLUMNS = {"sequence": SEQUENCES, "score": Y}
TEXT = table_text(COLUMNS)


def check(table: AssayTable, first_row: int = 2) -> AssayTable:
    assert table.sequences == SEQUENCES
    np.testing.assert_array_equal(table.targets[:, 0], Y)
    assert table.rows == [[i + first_row] for i in range(len(Y))]
    return table


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiters(tmp_path: Path, separator: str, newline: str) -> None:
    text = table_text(COLUMNS, separator).replace("\n", newline)
    check(read_assay(write(tmp_path / "t.txt", text)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = table_text(COLUMNS | {"organism": ["Königia"] * len(Y)})
    table = check(read_assay(write(tmp_path / "t.csv", text, encoding)))
    assert any("Windows-1252" in note for note in table.summary.notes) == (encoding == "cp1252")


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"]
)
def test_compressed_whatever_the_name(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "t.csv").write_bytes(pack(TEXT.encode()))
    check(read_assay(tmp_path / "t.csv"))


def test_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("inner.csv", TEXT)
    check(read_assay(tmp_path / "t.zip"))
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("other.csv", TEXT)
    with pytest.raises(DataError, match="a zip must hold one table, this has 2"):
        read_assay(tmp_path / "t.zip")


def test_parquet(tmp_path: Path) -> None:
    pd.DataFrame(COLUMNS).to_parquet(tmp_path / "t.bin")
    check(read_assay(tmp_path / "t.bin"))


def test_xlsx_sheets(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame(COLUMNS).to_excel(book, sheet_name="assay", index=False)
        pd.DataFrame({"note": ["x"]}).to_excel(book, sheet_name="notes", index=False)
    table = check(read_assay(tmp_path / "t.xlsx"))
    assert "sheet 'assay' read (others: notes)" in table.summary.notes
    check(read_assay(tmp_path / "t.xlsx", sheet="assay"))
    with pytest.raises(DataError, match=r"no sheet 'x' \(sheets: assay, notes\)"):
        read_assay(tmp_path / "t.xlsx", sheet="x")


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(COLUMNS)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError, match="pip install pyarrow"):
        read_assay(tmp_path / "t.parquet")
    with pytest.raises(MissingDependencyError, match="pip install openpyxl"):
        read_assay(tmp_path / "t.xlsx")


def test_frames_of_three_libraries() -> None:
    polars = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    frame = pd.DataFrame(COLUMNS)
    for table in (frame, frame.set_index("score", drop=False), polars.DataFrame(COLUMNS)):
        check(read_frame(table))
    check(read_frame(pa.table(COLUMNS), name="arrow"))
    with pytest.raises(TypeError, match="got list"):
        read_frame([1, 2])
    with pytest.raises(DataError, match="no rows"):
        read_frame(frame[:0])


def test_fasta_beside_the_table(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(len(Y))]
    records = zip(names, SEQUENCES, strict=True)
    fasta = write(tmp_path / "s.fa", "".join(f">{n} x\n{s[:20]}\n{s[20:]}\n" for n, s in records))
    path = write(tmp_path / "t.csv", table_text({"name": names, "score": Y}))
    table = check(read_assay(path, fasta=fasta))
    count = len(Y)
    assert f"'name' ({count} of {count} values are records)" in "\n".join(table.summary.said)
    extra = write(tmp_path / "t2.csv", table_text({"name": [*names, "nobody"], "score": [*Y, 1]}))
    with pytest.raises(DataError, match=r"no record of s\.fa: 1 \(row 40: 'nobody'\)"):
        read_assay(extra, fasta=fasta)
    table = check(read_assay(extra, fasta=fasta, on_bad_row="set_aside"))
    assert table.summary.set_aside == {"not in the FASTA file": [40]}
    unrelated = write(tmp_path / "t3.csv", table_text({"name": ["a"] * len(Y), "score": Y}))
    with pytest.raises(DataError, match="no column names the records of the FASTA file"):
        read_assay(unrelated, fasta=fasta)


def test_comment_lines_shift_the_row_numbers(tmp_path: Path) -> None:
    text = "# from the lab\n# second\n" + TEXT
    table = check(read_assay(write(tmp_path / "t.csv", text)), first_row=4)
    assert any("comment lines" in note for note in table.summary.notes)


def test_blank_lines_are_rows_set_aside(tmp_path: Path) -> None:
    head, *body = TEXT.splitlines()
    text = "\n".join([head, body[0], "", *body[1:], "", ""]) + "\n"
    table = read_assay(write(tmp_path / "t.csv", text))
    assert table.sequences == SEQUENCES
    assert table.rows[:2] == [[2], [4]]
    assert table.summary.set_aside["empty row"][0] == 3
    assert table.summary.rows_read == table.summary.rows_used + 3


def test_row_names_of_r(tmp_path: Path) -> None:
    head, *body = TEXT.splitlines()
    text = "\n".join([head, *(f"r{i},{line}" for i, line in enumerate(body))])
    table = check(read_assay(write(tmp_path / "t.csv", text)))
    assert any("row names" in note for note in table.summary.notes)


def test_trailing_delimiters(tmp_path: Path) -> None:
    head, *body = TEXT.splitlines()
    table = check(
        read_assay(write(tmp_path / "t.csv", "\n".join([head, *(f"{x}," for x in body)])))
    )
    assert any("ends in a delimiter" in note for note in table.summary.notes)


def test_a_repeated_column_name_is_said(tmp_path: Path) -> None:
    text = (
        TEXT.replace("score", "score,score", 1).replace("\n", ",x\n").replace("score,x", "score", 1)
    )
    table = check(read_assay(write(tmp_path / "t.csv", text)))
    assert any("'score' appears twice" in note for note in table.summary.notes)
    twice = "".join(f"{line},{line.rpartition(',')[2]}\n" for line in TEXT.splitlines())
    with pytest.raises(DataError, match=r"'score\.1' stands for the second column called 'score'"):
        read_assay(write(tmp_path / "twice.csv", twice))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"sequence,score\n", "no rows"),
        (b"sequence,score\nMKT,1\nMKV,1,2,3\n", r"as a table \(Expected 2 fields in line 3"),
        (b"sequence,score\nMKT,1\n", "1 row of data; at least 10"),
        (b">a\nMKT\n", "is FASTA, which carries no measurements"),
        (b"\x00\x01\x02\x03" * 50, "binary content"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 90, "old Excel file"),
        (b"PAR1" + b"x" * 40, "unreadable Parquet"),
        (b"PK\x03\x04" + b"x" * 40, "truncated or damaged"),
        (gzip.compress(TEXT.encode())[:-20], "truncated or damaged"),
        (gzip.compress(TEXT.encode())[:30] + b"xx", "truncated or damaged"),
        ("\n".join(TEXT.splitlines()[1:]).encode(), "row 1 looks like data"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match=says) as error:
        read_assay(tmp_path / "bad.csv")
    assert "bad.csv" in str(error.value)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_assay(tmp_path / "none.csv")
    with pytest.raises(IsADirectoryError):
        read_assay(tmp_path)


cells = st.one_of(
    st.sampled_from(
        ["", "NA", "1", "2.5", ">3", "x", "train", "test", "K2A/T3G", "WT", PARENT, "-", "=", '"',
         "inf", "1e400", "#", "\t", "\r", "K2*", PARENT[:9] + "*" + PARENT[10:]]
    ),
    st.text(max_size=8),
)  # fmt: skip
tables = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=12)
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), tables), st.sampled_from([",", "\t", ";"]))
def test_any_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | list[list[str]], separator: str
) -> None:
    """Whatever stands in a file, the answer is a table or one error that names the file."""
    if not isinstance(content, bytes):
        text = "\n".join(separator.join(row) for row in content)
        content = text.encode("utf-8", "surrogatepass")
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_bytes(content)
    try:
        table = read_assay(path)
    except DataError as error:
        assert "any.csv" in str(error)  # noqa: PT017
    else:
        assert table.summary.rows_read == table.summary.rows_used + sum(
            map(len, table.summary.set_aside.values())
        )
