"""Tables as files or in memory: format, delimiter and encoding found, every cell kept as text."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.assay.numbered_rows import NumberedRows
from moltide.assay.structure_files import (
    SDF,
    SMI,
    StructureFrame,
    structure_format,
    structure_frames,
)
from moltide.assay.text_tables import (
    DELIMITER_NAMES,
    first_line,
    reading_table,
    text_frames,
    without_row_names,
)
from moltide.errors import DataError, MissingDependencyError
from moltide.sequences import RESIDUES

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Source(NumberedRows):
    """A table before anything is understood.

    `first_row` is the number of the first data row as a spreadsheet shows it (the header is
    row 1, so 2 unless comment lines stand above it). `renamed` has the headers of columns that
    share theirs with an earlier one. Of files of structures `structure` is the column that holds
    them as SMILES, and `broken` has by index why there is none.
    """

    name: str
    frame: pd.DataFrame
    first_row: int = 2
    format: str = ""
    notes: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    structure: str | None = None
    broken: Mapping[int, str] = field(default_factory=dict)
    _texts: dict[str, list[str]] = field(default_factory=dict, repr=False)

    @property
    def columns(self) -> list[str]:
        return [str(column) for column in self.frame.columns]

    def texts(self, column: str) -> list[str]:
        """The cells of `column` as stripped text, "" where empty."""
        if column not in self._texts:
            self._texts[column] = _texts(self.frame[column])
        return self._texts[column]


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
    """Open a table: CSV or TSV (also gz, bz2, xz, zip), Parquet, XLSX or SDF, told by its content,
    or lines of SMILES (.smi).

    Args:
        path: the file.
        sheet: XLSX only: a sheet's name or 0-based number; the first sheet if not given.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        DataError: empty, truncated, not a table, without a header or without rows.
        MissingDependencyError: Parquet without pyarrow, XLSX without openpyxl, SDF without RDKit.
    """
    file = Path(path)
    kind = _kind(file)
    if kind in (SDF, SMI):
        return _structures(next(structure_frames(file, kind, None)), file, kind)
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
    """ "text", "parquet", "xlsx", "sdf" or "smi", told by the first bytes, and "smi" by name."""
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder, not a table")
    if not file.exists():
        raise FileNotFoundError(f"no such file: {file}")
    with file.open("rb") as stream:
        magic = stream.read(8)
    if not magic:
        raise DataError(f"{file.name}: the file is empty")
    if magic[:4] == b"PAR1":
        return "parquet"
    if magic == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise DataError(f"{file.name} is an old Excel file (.xls): save it as .xlsx or CSV")
    if magic[:4] == b"PK\x03\x04":
        with reading_table(file.name), zipfile.ZipFile(file) as archive:
            if "[Content_Types].xml" in archive.namelist():
                return "xlsx"
    return structure_format(file) or "text"


def _structures(part: StructureFrame, file: Path, kind: str) -> Source:
    source = source_from_frame(part.frame, file.name)
    source.first_row = part.first
    source.format = "SDF" if kind == SDF else "lines of SMILES"
    source.structure, source.broken = part.structure, part.broken
    if kind == SDF:
        source.notes.append("rows are the records of the file, from 1")
    return source


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
                f"({first_line(error)}); convert it with to_pandas(), or upgrade pyarrow"
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
        raise DataError(f"{file.name}: unreadable Parquet ({first_line(error)})") from error


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
        raise DataError(f"{name}: unreadable Excel file ({first_line(error)})") from error
    source = source_from_frame(frame, name)
    _check_header(source)
    if len(sheets) > 1:
        others = [one for one in sheets if one != chosen]
        source.notes.append(f"sheet {chosen!r} read (others: {', '.join(others)})")
    return source


def _read_text(path: Path) -> Source:
    frame, opened = next(text_frames(path, None))
    notes = list(opened.notes)
    frame = without_row_names(frame, path.name, notes)
    source = source_from_frame(frame, path.name)
    source.first_row = 2 + opened.comments
    source.format = f"{DELIMITER_NAMES[opened.delimiter]}-separated"
    source.notes = notes
    source.renamed = opened.renamed
    _check_header(source)
    return source


def source_chunks(path: str | os.PathLike[str], rows: int) -> Iterator[Source]:
    """`read_source` in pieces of at most `rows` rows, with the row numbers of the whole.

    Text, Parquet and structures are streamed; XLSX comes whole. Errors as in `read_source`.
    """
    file = Path(path)
    kind = _kind(file)
    first_row = 2
    if kind in (SDF, SMI):
        for part in structure_frames(file, kind, rows):
            yield _structures(part, file, kind)
        return
    if kind == "text":
        pieces = ((frame, opened.comments) for frame, opened in text_frames(file, rows))
    elif kind == "parquet":
        pieces = ((frame, 0) for frame in _parquet_frames(file, rows))
    else:
        yield read_source(file)
        return
    for frame, comments in pieces:
        source = source_from_frame(without_row_names(frame, file.name, []), file.name)
        source.first_row = first_row + comments
        first_row += len(frame)
        _check_header(source)
        yield source


def _check_header(source: Source) -> None:
    """Refuse a table whose first line is data: column names are no numbers and no long residues."""
    for column in source.columns:
        number = re.fullmatch(r"[+-]?\d+\.\d*(e[+-]?\d+)?(\.\d+)?", column, re.IGNORECASE)
        if number or re.fullmatch(f"[{RESIDUES}]{{25,}}", column):
            shown = column if len(column) <= 24 else column[:20] + "..."
            raise source.fail(
                f"row 1 looks like data ({shown!r}), not column names: add a header line"
            )
