"""FASTA files, plain or gzip: told from tables, and read one record at a time."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from moltide.errors import DataError

_SUFFIXES = (".fasta", ".fa", ".faa", ".fas")


def read_fasta(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """(name, residues as written) of each record of a FASTA file, plain or gzip, one at a time.

    Raises:
        FileNotFoundError: no such file.
        DataError: empty, damaged, or no FASTA.
    """
    import pyfastx

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no such FASTA file: {file}")
    first = _first_character(file, whole=True)
    if not first:
        raise DataError(f"{file.name}: the file is empty")
    if first != ">":
        raise _no_record(file, first)
    for record in pyfastx.Fastx(str(file), format="fasta"):
        yield record[0], record[1].rstrip("\r")


def is_fasta(path: str | os.PathLike[str]) -> bool:
    """Whether a file starts like FASTA (plain or gzip).

    Raises:
        DataError: damaged, or named as FASTA and starting with anything else.
    """
    file = Path(path)
    first = _first_character(file)
    if first not in ("", ">") and file.name.lower().removesuffix(".gz").endswith(_SUFFIXES):
        raise _no_record(file, first)
    return first == ">"


def _no_record(file: Path, first: str) -> DataError:
    return DataError(
        f"{file.name}: no FASTA record (a line that begins with '>'); it starts with {first!r}"
    )


def _expect_text(name: str, stream: io.BufferedIOBase) -> None:
    """Read to the end; raises DataError at a zero byte."""
    before = 0
    while block := stream.read(1 << 20):
        if (at := block.find(b"\0")) >= 0:
            raise DataError(f"{name}: byte {before + at + 1:,} is zero, which is no text; damaged?")
        before += len(block)


def _first_character(file: Path, whole: bool = False) -> str:
    """The first character that is no white space; `whole`: the file is checked to its end.

    pyfastx stops at the end of a truncated gzip file, and leaves out the zeros that a crashed disk
    or a download fills a file with, without a word: hence the full pass.
    """
    with file.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    head = b""
    try:
        with gzip.open(file) if packed else file.open("rb") as stream:
            while not head:
                block = stream.read(4096)
                if not block:
                    break
                head = block.removeprefix(b"\xef\xbb\xbf").lstrip()
            if whole:
                stream.seek(0)
                _expect_text(file.name, stream)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(f"{file.name}: truncated or damaged gzip file ({error})") from error
    return head[:1].decode("latin-1")
