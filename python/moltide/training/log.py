"""log.jsonl: one JSON object a line, cut back to the checkpoint when a run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from moltide.atomic import atomic_write_text


class JsonLog:
    """Appends rows to a file. Rows reach the disk at `sync`, which a checkpoint follows.

    Args:
        path: the file; None: rows go nowhere.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self._stream: IO[str] | None = None

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drop rows that are not wanted, and a last line that a kill cut short."""
        if self.path is None or not self.path.is_file():
            return
        self.close()
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and wanted(row):
                kept.append(line + "\n")
        atomic_write_text(self.path, "".join(kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        if self.path is None:
            return
        if self._stream is None:
            self._stream = self.path.open("a", encoding="utf-8")
        self._stream.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Bring what was written to the disk."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush and close; a later `write` opens the file again."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()
