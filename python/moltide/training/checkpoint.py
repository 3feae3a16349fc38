"""The state of a run in one file: written whole, so that a kill leaves the one before."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moltide.array_file import read_arrays, read_metadata, write_arrays
from moltide.errors import CheckpointError

_FORMAT = "moltide-training-1"
# Seconds between checkpoints, and how many times longer than writing one that is at least.
_INTERVAL, _RATIO = 20.0, 20.0


class CheckpointFile:
    """One safetensors file with arrays and, in its metadata, a JSON object.

    Args:
        path: the file.
        interval: seconds between two checkpoints, more where writing one takes long; by default
            MOLTIDE_CHECKPOINT_SECONDS, else 20.
    """

    def __init__(self, path: str | os.PathLike[str], interval: float | None = None) -> None:
        self.path = Path(path)
        named = os.environ.get("MOLTIDE_CHECKPOINT_SECONDS")
        self.interval = float(named or _INTERVAL) if interval is None else interval
        self._due = time.monotonic() + self.interval

    def is_due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() >= self._due

    def save(self, arrays: Mapping[str, np.ndarray], progress: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Raises:
            OSError: folder missing or not writable, disk full; the one before is untouched.
        """
        start = time.monotonic()
        metadata = {"format": _FORMAT, "progress": json.dumps(progress)}
        write_arrays(self.path, arrays, metadata)
        now = time.monotonic()
        self._due = now + max(self.interval, _RATIO * (now - start))

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """(arrays, progress) of the last checkpoint, or None where there is none.

        Raises:
            CheckpointError: the file is no checkpoint of this version, or damaged.
        """
        if not self.path.is_file():
            return None
        arrays, metadata = read_arrays(self.path)
        return arrays, self._progress(metadata)

    def progress(self) -> dict[str, Any] | None:
        """The progress alone of the last checkpoint; raises what `load` raises."""
        return self._progress(read_metadata(self.path)) if self.path.is_file() else None

    def _progress(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"{self.path}: format {metadata.get('format')!r}, expected {_FORMAT!r}; delete "
                "it to start again"
            )
        try:
            found: dict[str, Any] = json.loads(metadata["progress"])
            return found
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.path}: damaged checkpoint ({error}); delete it to start again"
            ) from error

    def check_same(self, progress: Mapping[str, Any], **mine: Any) -> None:
        """Refuse the progress of a run that differs from this one in what is named.

        Raises:
            CheckpointError: naming what differs.
        """
        for name, value in mine.items():
            if progress.get(name) != value:
                raise CheckpointError(
                    f"{self.path}: this checkpoint is of another run ({name} differs); delete it "
                    "to start again"
                )

    def remove(self) -> None:
        """Delete the file if it is there."""
        self.path.unlink(missing_ok=True)
