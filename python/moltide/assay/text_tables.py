"""Delimited text: compression, encoding, delimiter and comment lines told from its first part."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from moltide.errors import DataError
from moltide.options import option

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE_BYTES = 1 << 16
_DELIMITERS = ",\t;|"
DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed (gzip, bz2, xz, or a zip of one table) as they are read."""
    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path))
    if magic[:3] == b"BZh":
        return cast(IO[bytes], bz2.open(path))
    if magic == b"\xfd7zXZ\x00":
        return cast(IO[bytes], lzma.open(path))
    if magic[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.namelist() if not one.endswith("/")]
            if len(members) != 1:
                raise DataError(f"{path.name}: a zip must hold one table, this has {len(members)}")
            # The member keeps the file open by itself.
            return archive.open(members[0])
    return path.open("rb")


@contextlib.contextmanager
def reading_table(name: str, what: str = "table") -> Iterator[None]:
    """Turn the many errors of damaged files into one kind."""
    import pandas as pd

    try:
        yield
    except DataError:
        raise
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(
            f"{name}: truncated or damaged compressed file ({first_line(error)})"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: the text changes its encoding at byte {error.start}; save it as UTF-8"
        ) from error
    except pd.errors.ParserError as error:
        # pandas' own words start with those of its parser.
        text = first_line(error).rpartition("C error: ")[2]
        raise DataError(f"{name}: unreadable as a {what} ({text})") from error
    except (
        pd.errors.EmptyDataError,
        pd.errors.ParserWarning,
        csv.Error,
    ) as error:
        raise DataError(f"{name}: unreadable as a {what} ({first_line(error)})") from error


@dataclass
class OpenText:
    """An opened text table: where pandas goes on reading, and what the sample told."""

    stream: io.TextIOWrapper
    delimiter: str
    header: list[str]
    comments: int
    notes: list[str]
    renamed: dict[str, str]


def _open_text(path: Path) -> OpenText:
    """Tell encoding, comment lines and delimiter from the first part of a text table."""
    notes: list[str] = []
    with open_bytes(path) as raw:
        sample = raw.read(_SAMPLE_BYTES)
    encoding = _encoding(sample, path.name, notes)
    text = sample.decode(encoding, errors="replace")
    if not text.strip():
        raise DataError(f"{path.name}: the file is empty")
    if text.lstrip()[0] == ">":
        raise DataError(
            f"{path.name} is FASTA, which carries no measurements: give the table, and this file "
            f"as {option('fasta')}"
        )
    comments = 0
    while text.startswith("#"):
        text = text.partition("\n")[2]
        comments += 1
    if comments:
        notes.append(f"comment lines ('#') above the header, skipped: {comments}")
    delimiter = _delimiter(text)
    header = next(csv.reader(text.splitlines()[:1], delimiter=delimiter), [])
    twice = sorted({one for one in header if header.count(one) > 1 and one})
    for column in twice:
        notes.append(f"column {column!r} appears twice; the second is called '{column}.1' here")
    # Windows-1252 leaves five bytes undefined; a damaged name of a sample is no reason to stop.
    errors = "replace" if encoding == "cp1252" else "strict"
    stream = io.TextIOWrapper(open_bytes(path), encoding=encoding, errors=errors, newline="")
    try:
        for _ in range(comments):
            stream.readline()
    except BaseException:
        stream.close()
        raise
    renamed = {f"{column}.1": column for column in twice}
    return OpenText(stream, delimiter, header, comments, notes, renamed)


def _encoding(sample: bytes, name: str, notes: list[str]) -> str:
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\x00" in sample:
        raise DataError(
            f"{name}: binary content, not a table (CSV, TSV, Parquet and XLSX are read)"
        )
    try:
        sample.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A character cut by the end of the sample is no sign of another encoding.
        if error.start < len(sample) - 3 or len(sample) < _SAMPLE_BYTES:
            notes.append("text is not UTF-8; read as Windows-1252")
            return "cp1252"
    return "utf-8-sig"


def text_frames(path: Path, chunk_rows: int | None) -> Iterator[tuple[pd.DataFrame, OpenText]]:
    import pandas as pd

    with reading_table(path.name):
        opened = _open_text(path)
        with opened.stream, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frames = pd.read_csv(
                opened.stream,
                sep=opened.delimiter,
                dtype=str,
                keep_default_na=False,
                skip_blank_lines=False,
                chunksize=chunk_rows,
            )
            for frame in [frames] if chunk_rows is None else frames:
                yield frame, opened


def _delimiter(text: str) -> str:
    """The delimiter of the sample: csv's own sniffer, else the one most frequent in the header."""
    sample = "\n".join(text[:65536].splitlines()[:50])
    header = sample.partition("\n")[0]
    try:
        found = csv.Sniffer().sniff(sample, delimiters=_DELIMITERS).delimiter
        if found in header:
            return found
    except csv.Error:
        pass
    return max(_DELIMITERS, key=lambda one: (header.count(one), one == ","))


def without_row_names(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Undo pandas' reading of a surplus field: row names (R), or a delimiter ending each line."""
    import pandas as pd

    if isinstance(frame.index, pd.RangeIndex):
        return frame
    if isinstance(frame.index, pd.MultiIndex):
        raise DataError(f"{name}: rows have more fields than the header has names")
    if len(frame.columns) and (frame[frame.columns[-1]] == "").all():
        shifted = frame.reset_index().iloc[:, :-1]
        shifted.columns = frame.columns
        notes.append("each line ends in a delimiter; the empty last field is left out")
        return shifted
    notes.append("the first field has no header (row names), called 'row_name' here")
    return frame.rename_axis("row_name").reset_index()


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
