"""From the rows of a file to a file with predictions, chunk by chunk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moltide.predicting.columns import Columns
from moltide.predicting.partial import INSIDE, OUTSIDE, SKIPPED, Partial, Row
from moltide.predicting.rows import Blocks, InputRow, paired

if TYPE_CHECKING:
    from moltide.sequence_files import SequenceBatch

# A chunk is what takes about this many seconds, within bounds; the first is small.
_CHUNK_SECONDS = 2.0
_FIRST, _MOST = 32, 2048
# Rows of a chunk at most, where this is set.
_LIMIT = "MOLTIDE_PREDICT_CHUNK"


class Counter(Protocol):
    """Told how many rows are done."""

    def advance(self, rows: int, computed: bool = True) -> None:
        """So many more; `computed` now, or known from before."""


@dataclass
class Outcome:
    """What was predicted; `by_kind` counts rows (`partial.SKIPPED`, INSIDE, OUTSIDE)."""

    by_kind: dict[int, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(self.by_kind.values())

    @property
    def predicted(self) -> int:
        return self.by_kind[INSIDE] + self.by_kind[OUTSIDE]

    @property
    def outside(self) -> int:
        return self.by_kind[OUTSIDE]

    @property
    def skipped(self) -> int:
        return self.by_kind[SKIPPED]


def predict_file(
    columns: Columns,
    partial: Partial,
    blocks: Blocks,
    batches: Iterator[SequenceBatch],
    counter: Counter,
    names: Callable[[list[str]], list[str]],
    first: Callable[[list[str]], None] | None = None,
) -> Outcome:
    """Predict every row of `blocks` that `partial` does not hold, and rank all of them.

    The rows that were done before are read again, but not predicted. A row's cells do not depend on
    the chunk it falls into, so a resumed file is that of a run never stopped.

    Args:
        blocks: (column names, (row number, cells)) of the input; see `table_output.rows_of_input`.
        batches: its sequences; see `sequence_files.iter_sequences`.
        names: the header of the output for the columns of the input.
        first: called with the first sequences that are predicted.
    """

    def watched() -> Iterator[tuple[list[str], Any]]:
        for given, block in blocks:
            if not partial.header():
                partial.header(names(given))
            yield given, block

    chunk: list[InputRow] = []
    most = int(os.environ.get(_LIMIT) or _MOST)
    size, held = min(_FIRST, most), 0
    told = first is None

    def finish_chunk() -> float:
        """Seconds that its predictions took."""
        nonlocal told
        sequences = [row.sequence for row in chunk if row.sequence is not None]
        if first is not None and not told and sequences:
            first(sequences)
            told = True
        started = time.perf_counter()
        partial.add(_predicted(columns, chunk))
        seconds = time.perf_counter() - started
        counter.advance(len(chunk))
        return seconds

    for row in paired(watched(), batches):
        if row.number <= partial.done:
            counter.advance(1, computed=False)
            continue
        chunk.append(row)
        held += row.sequence is not None
        if held >= size or len(chunk) >= most:
            fitting = int(_CHUNK_SECONDS * len(chunk) / max(1e-6, finish_chunk()))
            size = max(1, min(most, 4 * size, fitting))
            chunk, held = [], 0
    finish_chunk()
    partial.rank()
    return Outcome(partial.counts())


def _predicted(columns: Columns, chunk: list[InputRow]) -> list[Row]:
    """The rows of a chunk with their cells."""
    sequences = [row.sequence for row in chunk if row.sequence is not None]
    rows: list[Row] = []
    found, verdicts = columns.predict(sequences) if sequences else (None, None)
    at = 0
    for row in chunk:
        if row.sequence is None or found is None:
            cells = columns.empty(row.reason)
            rows.append(Row(row.number, row.name, [*row.cells, *cells], SKIPPED))
            continue
        cells = columns.cells(found, verdicts, at, row.remark)
        a, b = columns.order(found, verdicts, at)
        kind = INSIDE if not found.notes or not found.notes[at] else OUTSIDE
        rows.append(Row(row.number, row.name, [*row.cells, *cells], kind, a, b))
        at += 1
    return rows


def model_files(folder: Path) -> list[Path]:
    """What a model's predictions depend on, in a fixed order: the files of a run that are weights
    or say what they are."""
    wanted = ["config.json", "head.safetensors", "domain.safetensors"]
    wanted += ["adapter_config.json", "adapter_model.safetensors"]
    found = [folder / name for name in wanted]
    for inner in ("model", "backbone"):
        found += sorted((folder / inner).glob("*.safetensors"))
    return [path for path in found if path.is_file()]
