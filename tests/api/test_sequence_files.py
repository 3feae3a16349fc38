"""Sequences to predict on: FASTA, tables and lists give the same batches, streamed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from assay_tables import PARENT, mutate, scan, table_text, write

from moltide.errors import ConfigError, DataError
from moltide.fasta import read_fasta
from moltide.sequence_files import iter_sequences, read_sequences

MUTANTS = scan(positions=range(5))
SEQUENCES = [mutate(PARENT, one) for one in MUTANTS]
NAMES = [f"v{i}" for i in range(len(SEQUENCES))]
FASTA = "".join(
    f">{n} some words\n{s[:25]}\n{s[25:]}\n" for n, s in zip(NAMES, SEQUENCES, strict=True)
)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_fasta(tmp_path: Path, newline: str, packed: bool) -> None:
    data = FASTA.replace("\n", newline).encode()
    path = tmp_path / "s.fasta"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_fasta(path)) == list(zip(NAMES, SEQUENCES, strict=True))
    batch = read_sequences(path)
    assert (batch.names, batch.sequences) == (NAMES, SEQUENCES)
    assert batch.rows == list(range(1, len(NAMES) + 1))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b"MKTAY\n", "no FASTA record .a line that begins with '>'.; it starts with 'M'"),
        (gzip.compress(FASTA.encode())[:-30], "truncated or damaged gzip"),
        (b">a\nMKT\0\0\0", "x.fa: byte 7 is zero"),
        (gzip.compress(b">a\nMKT\0"), "x.fa: byte 7 is zero"),
    ],
)
def test_what_is_no_fasta(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "x.fa").write_bytes(data)
    with pytest.raises(DataError, match=says):
        list(read_fasta(tmp_path / "x.fa"))
    with pytest.raises(FileNotFoundError):
        list(read_fasta(tmp_path / "none.fa"))


def test_every_form_gives_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": NAMES, "sequence": SEQUENCES})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv.gz", index=False, sep="\t")
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    write(tmp_path / "t.fa", FASTA)
    for source in ("t.csv", "t.tsv.gz", "t.parquet", "t.xlsx", "t.fa"):
        batch = read_sequences(tmp_path / source)
        assert (batch.names, batch.sequences) == (NAMES, SEQUENCES), source
    batch = read_sequences(frame)
    assert (batch.names, batch.sequences) == (NAMES, SEQUENCES)
    for sequences in (
        SEQUENCES,
        tuple(SEQUENCES),
        np.array(SEQUENCES),
        pd.Series(SEQUENCES),
        iter(SEQUENCES),
    ):
        batch = read_sequences(sequences)
        assert batch.sequences == SEQUENCES
        assert batch.rows == list(range(len(SEQUENCES)))


@pytest.mark.parametrize("name", ["t.csv", "t.fa", "t.parquet"])
@pytest.mark.parametrize("size", [1, 7, 95, 96])
def test_batches_keep_order_and_row_numbers(tmp_path: Path, name: str, size: int) -> None:
    frame = pd.DataFrame({"id": NAMES, "sequence": SEQUENCES})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    write(tmp_path / "t.fa", FASTA)
    batches = list(iter_sequences(tmp_path / name, batch_size=size))
    assert max(map(len, batches)) <= size
    assert [s for b in batches for s in b.sequences] == SEQUENCES
    first = 1 if name == "t.fa" else 2
    assert [r for b in batches for r in b.rows] == list(range(first, first + len(NAMES)))


def test_a_generator_is_not_read_ahead() -> None:
    taken = []

    def source() -> Iterator[str]:
        for sequence in SEQUENCES:
            taken.append(sequence)
            yield sequence

    batches = iter_sequences(source(), batch_size=10)
    assert next(batches).sequences == SEQUENCES[:10]
    assert len(taken) == 10


def test_mutations_of_a_wild_type(tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", table_text({"mutant": MUTANTS}))
    batch = read_sequences(path, wildtype=PARENT)
    assert batch.sequences == SEQUENCES
    assert batch.names == MUTANTS
    batches = list(iter_sequences(path, wildtype=PARENT, batch_size=10))
    assert [len(b) for b in batches] == [10] * 9 + [5]
    with_sequences = write(tmp_path / "both.csv", table_text({"mutant": MUTANTS, "seq": SEQUENCES}))
    batches = list(iter_sequences(with_sequences, wildtype="MKT", batch_size=10))
    assert [s for b in batches for s in b.sequences] == SEQUENCES
    with pytest.raises(DataError, match="give their wild type"):
        read_sequences(path)
    with pytest.raises(DataError, match="no mutations of the wild type"):
        read_sequences(path, wildtype=PARENT, numbering=0)


def test_columns_can_be_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"clone": NAMES, "a": SEQUENCES, "b": [s[::-1] for s in SEQUENCES]})
    with pytest.raises(DataError, match="several columns could be the sequence column"):
        read_sequences(frame)
    batch = read_sequences(frame, sequence="b", id="clone")
    assert batch.sequences[0] == SEQUENCES[0][::-1]
    assert batch.names == NAMES
    assert read_sequences(frame, sequence="b").names[0] == "2"
    with pytest.raises(DataError, match=r"no column 'x' \(id\)"):
        read_sequences(frame, sequence="b", id="x")


def test_every_input_needs_its_output(tmp_path: Path) -> None:
    bad = [*SEQUENCES[:3], "MK1T", *SEQUENCES[3:5], "", "MK*T"]
    path = write(tmp_path / "t.csv", table_text({"id": NAMES[:8], "sequence": bad}))
    with pytest.raises(DataError, match=r"t\.csv: column 'sequence': .*row 5: '1' at position 3"):
        read_sequences(path, sequence="sequence")
    frame = pd.DataFrame({"id": NAMES[:3], "sequence": ["MKT", "", "MK"]})
    with pytest.raises(DataError, match=r"rows .* used: 1 \(row 3 \(v1\): no sequence\)"):
        read_sequences(frame, sequence="sequence")
    batch = read_sequences(path, sequence="sequence", on_bad_row="set_aside")
    assert batch.sequences == SEQUENCES[:5]
    assert batch.skipped == [
        (5, "v3", "'1' at position 3 is no residue"),
        (8, "v6", "no sequence"),
        (9, "v7", "stop codon inside the sequence"),
    ]
    with pytest.raises(DataError, match="no sequence to use"):
        read_sequences(["", "1"], on_bad_row="set_aside")


def test_bad_records_are_named_and_counted_together(tmp_path: Path) -> None:
    path = write(tmp_path / "s.fasta", ">a\nMKT\n>b\n\n>c\nMQ1\n>d\nM*K\n")
    says = (
        r"s.fasta: records that cannot be used: 3 \(record 2 \(b\): no sequence; "
        r"record 3 \(c\): '1' at position 3 is no residue; record 4 \(d\): stop codon inside"
    )
    with pytest.raises(DataError, match=says):
        read_sequences(path)
    batch = read_sequences(path, on_bad_row="set_aside")
    assert (batch.names, batch.sequences) == (["a"], ["MKT"])
    with pytest.raises(DataError, match=r"sequences: .* 1 \(sequence 0: '1' at position 2"):
        read_sequences(["M1"])


def test_a_file_named_as_fasta_is_no_table(tmp_path: Path) -> None:
    for name, data in (("s.fa", b"MKTAY\n"), ("s.fasta.gz", gzip.compress(b"MKTAY\n"))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match="no FASTA record"):
            read_sequences(tmp_path / name)


def test_cleaning_is_noted() -> None:
    batch = read_sequences(["mkt", "MK T", "MKT*"])
    assert batch.sequences == ["MKT", "MKT", "MKT"]
    assert any("lower case" in note for note in batch.notes)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="sequence 1 is int, expected a string"):
        read_sequences(["MKT", 3])
    with pytest.raises(ConfigError, match="allowed: error, set_aside"):
        read_sequences(["MKT"], on_bad_row="drop")
    with pytest.raises(FileNotFoundError):
        read_sequences("no_such_file.csv")


def test_a_table_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv: no rows"):
        read_sequences(write(tmp_path / "t.csv", "id,sequence\n"))
    with pytest.raises(DataError, match=r"t\.csv: the file is empty"):
        read_sequences(write(tmp_path / "t.csv", ""))
