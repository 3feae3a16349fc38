"""A table with columns added to its own, written whole or not at all."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from moltide.atomic import atomic_path
from moltide.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK = 4096
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")

Cells = Mapping[int, Sequence[Any]]


def kind_of(path: Path) -> str:
    """ "csv", "tsv", "csv.gz", "tsv.gz" or "parquet", by the name; "-" is CSV to standard output.

    Raises:
        ConfigError: another ending.
        MissingDependencyError: Parquet without pyarrow.
    """
    if str(path) == "-":
        return "csv"
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            if suffix == ".parquet":
                _pyarrow()
            return suffix[1:]
    raise ConfigError(f"{path}: the name ends in none of {', '.join(_SUFFIXES)}")


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError("Parquet needs pyarrow: pip install pyarrow") from error
    return parquet


def rows_of_input(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """Blocks of (column names, (row number, cells as text)) of a table or FASTA file; row numbers
    are those of `iter_sequences`."""
    from moltide.assay.source import source_chunks
    from moltide.fasta import is_fasta, read_fasta

    if is_fasta(path):
        records = (
            (number, [name, text]) for number, (name, text) in enumerate(read_fasta(path), 1)
        )
        yield ["id", "sequence"], records
        return
    for chunk in source_chunks(path, _BLOCK):
        columns = [chunk.texts(column) for column in chunk.columns]
        first = chunk.row(0)
        numbered = ((first + i, list(cells)) for i, cells in enumerate(zip(*columns, strict=True)))
        yield chunk.columns, numbered


def write_with_columns(
    source: Path,
    out: Path,
    added: Sequence[str],
    cells: Cells,
    order: Sequence[int] | None = None,
) -> int:
    """Write the rows of `source` with `added` columns; returns their number.

    Args:
        cells: by row number; rows without cells (blank lines) are left out.
        order: row numbers in the order wanted; None: as in `source`.

    Raises:
        OSError: folder not writable, disk full; `out` is as it was.
    """
    header: list[str] = []

    def rows() -> Iterator[list[Any]]:
        for columns, block in rows_of_input(source):
            if not header:
                header.extend([*columns, *free_names(added, columns)])
            for number, given in block:
                if number in cells:
                    yield [number, *given, *cells[number]]

    listed: Iterable[list[Any]] = rows()
    if order is not None:
        place = {number: i for i, number in enumerate(order)}
        listed = sorted(listed, key=lambda row: place.get(row[0], len(place)))
    return write_rows(out, header, listed)


def ranks(values: npt.ArrayLike, ascending: bool = False) -> list[int | None]:
    """1 for the highest (or lowest), one rank for equal values, the next behind all of them; None
    for NaN."""
    import numpy as np
    from scipy.stats import rankdata

    signed = np.asarray(values, np.float64) * (1.0 if ascending else -1.0)
    found = rankdata(signed, method="min", nan_policy="omit")
    return [None if np.isnan(rank) else int(rank) for rank in found]


def free_names(added: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names that the input does not use already."""
    names = []
    for name in added:
        free, count = name, 2
        while free in taken:
            free, count = f"{name}_{count}", count + 1
        names.append(free)
    return names


def write_rows(out: Path, header: list[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write rows, less the row number that each begins with; returns how many there were.

    Raises:
        OSError: folder not writable, disk full; `out` is as it was.
    """
    kind = kind_of(out)
    if kind == "parquet":
        table = [row[1:] for row in rows]
        _write_parquet(out, header, table)
        return len(table)
    if str(out) == "-":
        return _write_text(sys.stdout, header, rows, ",")
    delimiter = "\t" if kind.startswith("tsv") else ","
    with atomic_path(out) as temporary, _open(temporary, kind) as stream:
        return _write_text(stream, header, rows, delimiter)


def write_stream(out: Path, header: list[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as they come, few of them in memory; the column called rank holds whole numbers,
    others text.

    Raises:
        OSError: folder not writable, disk full; `out` is as it was.
    """
    kind = kind_of(out)
    if kind == "parquet":
        with atomic_path(out) as temporary:
            _stream_parquet(temporary, header, rows)
        return
    numbered = ([None, *row] for row in rows)
    if str(out) == "-":
        _write_text(sys.stdout, header, numbered, ",")
        return
    delimiter = "\t" if kind.startswith("tsv") else ","
    with atomic_path(out) as temporary, _open(temporary, kind) as stream:
        _write_text(stream, header, numbered, delimiter)


def _stream_parquet(path: Path, header: list[str], rows: Iterable[Sequence[Any]]) -> None:
    import pyarrow as pa

    whole = [pa.int64() if name == "rank" else pa.string() for name in header]
    schema = pa.schema(list(zip(header, whole, strict=True)))
    waiting = iter(rows)
    with _pyarrow().ParquetWriter(path, schema) as writer:
        while block := list(islice(waiting, _BLOCK)):
            columns = [
                pa.array([_number(row[i]) for row in block], kind) for i, kind in enumerate(whole)
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _open(path: Path, kind: str) -> IO[str]:
    if kind.endswith(".gz"):
        return cast(IO[str], gzip.open(path, "wt", encoding="utf-8", newline=""))
    return path.open("w", encoding="utf-8", newline="")


def _write_text(
    stream: IO[str], header: list[str], rows: Iterable[Sequence[Any]], delimiter: str
) -> int:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    count = 0
    for row in rows:
        if not count:
            writer.writerow(header)
        writer.writerow(row[1:])
        count += 1
    return count


def _write_parquet(out: Path, header: list[str], table: list[Sequence[Any]]) -> None:
    import pyarrow as pa

    parquet = _pyarrow()
    columns = [pa.array([_number(row[i]) for row in table]) for i in range(len(header))]
    with atomic_path(out) as temporary:
        parquet.write_table(pa.table(dict(zip(header, columns, strict=True))), temporary)


def _number(value: Any) -> Any:
    return None if value == "" else value
