"""Sequences as callers hold them: lists, generators and columns, cut into runs for the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from moltide.errors import DataError, MissingDependencyError
from moltide.kinds import PROTEIN, RNA

# The 20 standard ones, in the order of their letters.
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# The four of RNA.
NUCLEOTIDES = "ACGU"
# What a position of either kind can be; molecules have no positions.
LETTERS = {PROTEIN: RESIDUES, RNA: NUCLEOTIDES}
# Called with (sequences done, total or None when it is not known).
ProgressCallback = Callable[[int, int | None], None]


def as_texts(sequences: Any) -> Any:
    """Sequences as an iterable of text: a list where the length is known, else an iterator.

    Takes lists, tuples, generators, NumPy arrays, pandas and polars columns, and Arrow arrays.

    Raises:
        DataError: one string (a sequence where a collection of them is meant), a table, or no
            collection.
    """
    if isinstance(sequences, str | bytes):
        raise DataError("expected several sequences, got one string: put it in a list")
    if isinstance(sequences, list):
        return sequences
    if hasattr(sequences, "columns"):
        raise DataError(
            f"expected sequences, got a table with columns {list(sequences.columns)[:8]}: "
            "pass one of its columns"
        )
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(sequences, method):
            return getattr(sequences, method)()
    if isinstance(sequences, Iterator):
        return sequences
    if isinstance(sequences, Iterable):
        return list(sequences)
    if hasattr(sequences, "__arrow_c_stream__"):
        return _from_arrow(sequences)
    raise DataError(f"expected sequences, got {type(sequences).__name__}")


def _from_arrow(column: Any) -> list[Any]:
    try:
        import pyarrow
    except ImportError as error:
        raise MissingDependencyError(
            "reading an Arrow column needs pyarrow: pip install 'moltide[tables]'"
        ) from error
    listed: list[Any] = pyarrow.chunked_array(column).to_pylist()
    return listed


def packs(
    texts: Iterable[Any], batch_tokens: int, cost_of: Callable[[Any], int]
) -> Iterator[list[Any]]:
    """Runs of consecutive sequences of at most `batch_tokens` tokens; a longer one goes alone.

    Args:
        cost_of: about how many tokens a sequence has.
    """
    run: list[Any] = []
    tokens = 0
    for text in texts:
        cost = cost_of(text)
        if run and tokens + cost > batch_tokens:
            yield run
            run, tokens = [], 0
        run.append(text)
        tokens += cost
    if run:
        yield run


class Progress:
    """A tqdm bar (True), a callback, or silence (None, False), behind one `add`."""

    def __init__(self, progress: bool | ProgressCallback | None, total: int | None, what: str):
        self._callback = progress if callable(progress) else None
        self._bar: Any = None
        self._done = 0
        self._total = total
        if progress is True:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=what, unit="seq")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, count: int) -> None:
        """`count` more sequences are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        if self._callback is not None:
            self._callback(self._done, self._total)
