"""Embeddings written as they come: a file grows beside its name and takes it when complete."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from moltide.atomic import atomic_path

# Values held before they are written: 1 MiB of float32.
_HELD = 1 << 18
_NPY_HEADER = 128


class Output(ABC):
    """A file of embeddings: `add` each sequence's, then leave the context; on an error the file of
    that name is as it was.

    Raises:
        OSError: folder not writable, disk full.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width
        self.count = 0
        self._held = 0
        self._stack = ExitStack()

    def __enter__(self) -> Output:
        try:
            self._open(self._stack.enter_context(atomic_path(self.path)))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What fails here must reach the stack too, or a part would take the name.
        with self._stack:
            if error is not None:
                raise error
            self._flush()
            self._finish()

    def add(self, name: str, row: int, values: np.ndarray) -> None:
        """The embedding of one sequence, called `name` and at `row` of the input."""
        self._keep(name, row, values)
        self.count += 1
        self._held += values.size
        if self._held >= _HELD:
            self._flush()
            self._held = 0

    @abstractmethod
    def _open(self, temporary: Path) -> None:
        """Begin the file."""

    @abstractmethod
    def _keep(self, name: str, row: int, values: np.ndarray) -> None:
        """Hold an embedding until the next flush."""

    @abstractmethod
    def _flush(self) -> None:
        """Write what is held."""

    def _finish(self) -> None:  # noqa: B027, not every format has something left to do
        """All is flushed."""


class NpyOutput(Output):
    """float32 (N, width); with `ids` a CSV file beside it names the rows (`unit`, id)."""

    def __init__(self, path: Path, width: int, ids: Path | None, unit: str) -> None:
        super().__init__(path, width)
        self._ids, self._unit = ids, unit
        self._rows: list[np.ndarray] = []
        self._names: list[tuple[int, str]] = []

    def _open(self, temporary: Path) -> None:
        self._writer: Any = None
        if self._ids is not None:
            beside = self._stack.enter_context(atomic_path(self._ids))
            text = self._stack.enter_context(beside.open("w", encoding="utf-8", newline=""))
            self._writer = csv.writer(text, lineterminator="\n")
            self._writer.writerow([self._unit, "id"])
        self._stream = self._stack.enter_context(temporary.open("wb"))
        self._stream.write(npy_header(0, self.width))

    def _keep(self, name: str, row: int, values: np.ndarray) -> None:
        self._rows.append(values)
        if self._writer is not None:
            self._names.append((row, name))

    def _flush(self) -> None:
        if self._rows:
            self._stream.write(np.stack(self._rows).astype("<f4", copy=False).data)
        if self._names:
            self._writer.writerows(self._names)
        self._rows, self._names = [], []

    def _finish(self) -> None:
        self._stream.seek(0)
        self._stream.write(npy_header(self.count, self.width))


def npy_header(rows: int, width: int) -> bytes:
    """The header of a .npy file of float32 (rows, width), of one length whatever `rows` is."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    start = b"\x93NUMPY\x01\x00" + (_NPY_HEADER - 10).to_bytes(2, "little")
    return start + text.ljust(_NPY_HEADER - 11).encode("ascii") + b"\n"


class ParquetOutput(Output):
    """Columns id and embedding: a list of float32, or with `residues` a list of such lists."""

    def __init__(self, path: Path, width: int, residues: bool) -> None:
        super().__init__(path, width)
        self._residues = residues
        self._names: list[str] = []
        self._arrays: list[np.ndarray] = []

    def _open(self, temporary: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        vector = pa.list_(pa.float32())
        column = pa.list_(vector) if self._residues else vector
        self._schema = pa.schema([("id", pa.string()), ("embedding", column)])
        self._writer = self._stack.enter_context(parquet.ParquetWriter(temporary, self._schema))

    def _keep(self, name: str, row: int, values: np.ndarray) -> None:
        self._names.append(name)
        self._arrays.append(values)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._names:
            embeddings = _lists(pa, self._arrays, self.width, self._residues)
            columns = [pa.array(self._names, pa.string()), embeddings]
            self._writer.write_table(pa.table(columns, schema=self._schema))
        self._names, self._arrays = [], []


def _lists(pa: Any, arrays: Sequence[np.ndarray], width: int, nested: bool) -> Any:
    """Arrays (C) or (L, C) as one Arrow array of lists, or of lists of lists, without a Python
    object a number."""
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    vectors = np.arange(0, flat.size + 1, width, dtype=np.int32)
    lists = pa.ListArray.from_arrays(vectors, pa.array(flat, pa.float32()))
    if not nested:
        return lists
    ends = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, lists)
