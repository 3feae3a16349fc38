"""Tables as files or in memory: format, delimiter and encoding found, every cell kept as text."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from moltide.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE_BYTES = 1 << 16
_DELIMITERS = ",\t;|"
_DELIMITER_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}


@dataclass
class Source:
    """A table before anything is understood.

    `first_row` is the number of the first data row as a spreadsheet shows it (the header is
    row 1, so 2 unless comment lines stand above it).
    """

    name: str
    frame: pd.DataFrame
    first_row: int = 2
    format: str = ""
    notes: list[str] = field(default_factory=list)
    _texts: dict[str, list[str]] = field(default_factory=dict, repr=False)

    @property
    def columns(self) -> list[str]:
        return [str(column) for column in self.frame.columns]

    def texts(self, column: str) -> list[str]:
        """The cells of `column` as stripped text, "" where empty."""
        if column not in self._texts:
            self._texts[column] = _texts(self.frame[column])
        return self._texts[column]

    def row(self, index: int) -> int:
        """The row number a person would look up for data row `index` (0-based)."""
        return index + self.first_row

    def fail(self, message: str) -> DataError:
        return DataError(f"{self.name}: {message}")


def _texts(series: pd.Series) -> list[str]:
    import pandas as pd

    if pd.api.types.is_float_dtype(series.dtype):
        return ["" if value != value else repr(float(value)) for value in series.to_list()]
    missing = series.isna().to_numpy(dtype=bool)
    # to_list() first: an Arrow-backed column has its own scalars.
    return [
        "" if gone else (value if isinstance(value, str) else str(value)).strip()
        for value, gone in zip(series.to_list(), missing, strict=True)
    ]


def read_source(path: str | os.PathLike[str], sheet: str | int | None = None) -> Source:
    """Open a table: CSV or TSV (also gz, bz2, xz, zip), Parquet or XLSX, told by its content.

    Args:
        path: the file.
        sheet: XLSX only: a sheet's name or 0-based number; the first sheet if not given.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        DataError: empty, truncated, not a table, without a header or without rows.
        MissingDependencyError: Parquet without pyarrow, XLSX without openpyxl.
    """
    file = Path(path)
    kind = _kind(file)
    if kind == "parquet":
        import pandas as pd

        frames = list(_parquet_frames(file, 1 << 16))
        if not frames:
            raise DataError(f"{file.name}: no rows")
        return source_from_frame(pd.concat(frames, ignore_index=True), file.name)
    if kind == "xlsx":
        return _read_xlsx(file, sheet)
    return _read_text(file)


def _kind(file: Path) -> str:
    """ "text", "parquet" or "xlsx", told by the first bytes."""
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder, not a table")
    if not file.exists():
        raise FileNotFoundError(f"no such table: {file}")
    with file.open("rb") as stream:
        magic = stream.read(8)
    if not magic:
        raise DataError(f"{file.name}: the file is empty")
    if magic[:4] == b"PAR1":
        return "parquet"
    if magic == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise DataError(f"{file.name} is an old Excel file (.xls): save it as .xlsx or CSV")
    if magic[:4] == b"PK\x03\x04":
        with _reading(file.name), zipfile.ZipFile(file) as archive:
            if "[Content_Types].xml" in archive.namelist():
                return "xlsx"
    return "text"


def source_from_frame(table: Any, name: str = "table") -> Source:
    """A `Source` of a pandas frame, or of anything with `__arrow_c_stream__` (polars, Arrow)."""
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        if not hasattr(table, "__arrow_c_stream__"):
            raise TypeError(f"expected a pandas, polars or Arrow table, got {type(table).__name__}")
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingDependencyError(
                "tables other than pandas need pyarrow: pip install pyarrow"
            ) from error
        try:
            table = pa.table(table).to_pandas()
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{name}: pyarrow {pa.__version__} cannot take this {type(table).__name__} "
                f"({_first_line(error)}); convert it with to_pandas(), or upgrade pyarrow"
            ) from error
    frame = table.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{name}: two columns are called {twice!r}")
    if not len(frame):
        raise DataError(f"{name}: no rows (columns: {', '.join(frame.columns) or 'none'})")
    return Source(name, frame)


def _parquet_frames(file: Path, rows: int) -> Iterator[pd.DataFrame]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(f"{file.name} is Parquet: pip install pyarrow") from error
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=rows):
                yield pa.Table.from_batches([batch]).to_pandas()
    except (OSError, ValueError) as error:
        raise DataError(f"{file.name}: unreadable Parquet ({_first_line(error)})") from error


def _read_xlsx(file: Path, sheet: str | int | None) -> Source:
    import pandas as pd

    name = file.name

    try:
        import openpyxl  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"{name} is an Excel file: pip install openpyxl") from error
    try:
        with pd.ExcelFile(file, engine="openpyxl") as book:
            sheets = [str(one) for one in book.sheet_names]
            if isinstance(sheet, str) and sheet not in sheets:
                raise DataError(f"{name}: no sheet {sheet!r} (sheets: {', '.join(sheets)})")
            chosen = sheets[0] if sheet is None else sheet
            frame = pd.read_excel(
                book, sheet_name=chosen, dtype=object, keep_default_na=False, na_values=[""]
            )
    except DataError:
        raise
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{name}: unreadable Excel file ({_first_line(error)})") from error
    source = source_from_frame(frame, name)
    _check_header(source)
    if len(sheets) > 1:
        others = [one for one in sheets if one != chosen]
        source.notes.append(f"sheet {chosen!r} read (others: {', '.join(others)})")
    return source


def _open(path: Path) -> IO[bytes]:
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
def _reading(name: str, what: str = "table") -> Iterator[None]:
    """Turn the many errors of damaged files into one kind."""
    import pandas as pd

    try:
        yield
    except DataError:
        raise
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise DataError(
            f"{name}: truncated or damaged compressed file ({_first_line(error)})"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: the text changes its encoding at byte {error.start}; save it as UTF-8"
        ) from error
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        pd.errors.ParserWarning,
        csv.Error,
    ) as error:
        raise DataError(f"{name}: unreadable as a {what} ({_first_line(error)})") from error


@dataclass
class _Text:
    """An opened text table: where pandas goes on reading, and what the sample told."""

    stream: io.TextIOWrapper
    delimiter: str
    header: list[str]
    comments: int
    notes: list[str]


def _open_text(path: Path) -> _Text:
    """Tell encoding, comment lines and delimiter from the first part of a text table."""
    notes: list[str] = []
    with _open(path) as raw:
        sample = raw.read(_SAMPLE_BYTES)
    encoding = _encoding(sample, path.name, notes)
    text = sample.decode(encoding, errors="replace")
    if not text.strip():
        raise DataError(f"{path.name}: the file is empty")
    if text.lstrip()[0] == ">":
        raise DataError(
            f"{path.name} is FASTA, which carries no measurements: give the table, and this file "
            "as --fasta"
        )
    comments = 0
    while text.startswith("#"):
        text = text.partition("\n")[2]
        comments += 1
    if comments:
        notes.append(f"comment lines ('#') above the header, skipped: {comments}")
    delimiter = _delimiter(text)
    header = next(csv.reader(text.splitlines()[:1], delimiter=delimiter), [])
    for column in sorted({one for one in header if header.count(one) > 1 and one}):
        notes.append(f"column {column!r} appears twice; the second is called '{column}.1' here")
    # Windows-1252 leaves five bytes undefined; a damaged name of a sample is no reason to stop.
    errors = "replace" if encoding == "cp1252" else "strict"
    stream = io.TextIOWrapper(_open(path), encoding=encoding, errors=errors, newline="")
    try:
        for _ in range(comments):
            stream.readline()
    except BaseException:
        stream.close()
        raise
    return _Text(stream, delimiter, header, comments, notes)


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


def _text_frames(path: Path, chunk_rows: int | None) -> Iterator[tuple[pd.DataFrame, _Text]]:
    import pandas as pd

    with _reading(path.name):
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


def _read_text(path: Path) -> Source:
    frame, opened = next(_text_frames(path, None))
    notes = list(opened.notes)
    frame = _without_row_names(frame, path.name, notes)
    source = source_from_frame(frame, path.name)
    source.first_row = 2 + opened.comments
    source.format = f"{_DELIMITER_NAMES[opened.delimiter]}-separated"
    source.notes = notes
    _check_header(source)
    return source


def source_chunks(path: str | os.PathLike[str], rows: int) -> Iterator[Source]:
    """`read_source` in pieces of at most `rows` rows, with the row numbers of the whole.

    Text and Parquet are streamed; XLSX comes whole. Errors as in `read_source`.
    """
    file = Path(path)
    kind = _kind(file)
    first_row = 2
    if kind == "text":
        pieces = ((frame, opened.comments) for frame, opened in _text_frames(file, rows))
    elif kind == "parquet":
        pieces = ((frame, 0) for frame in _parquet_frames(file, rows))
    else:
        yield read_source(file)
        return
    for frame, comments in pieces:
        source = source_from_frame(_without_row_names(frame, file.name, []), file.name)
        source.first_row = first_row + comments
        first_row += len(frame)
        _check_header(source)
        yield source


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


def _without_row_names(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
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


def _check_header(source: Source) -> None:
    """Refuse a table whose first line is data: column names are no numbers and no long residues."""
    for column in source.columns:
        number = re.fullmatch(r"[+-]?\d+\.\d*(e[+-]?\d+)?(\.\d+)?", column, re.IGNORECASE)
        if number or re.fullmatch(r"[ACDEFGHIKLMNPQRSTVWY]{25,}", column):
            shown = column if len(column) <= 24 else column[:20] + "..."
            raise source.fail(
                f"row 1 looks like data ({shown!r}), not column names: add a header line"
            )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
