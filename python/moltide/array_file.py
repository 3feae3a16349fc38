"""Named arrays and a little text in one safetensors file, every dtype of NumPy's kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from moltide.atomic import atomic_path
from moltide.errors import CheckpointError


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: folder missing or not writable, disk full; `path` is as it was.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    from moltide.pretrained.safe_tensors import _os_error

    stored = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(stored, temporary, dict(metadata or {}))
        except SafetensorError as error:
            raise _os_error(error, path) from None


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a file that `write_arrays` wrote.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, truncated, or no safetensors file.
    """
    with _opened(path) as stored:
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return arrays, dict(stored.metadata() or {})


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata alone; raises what `read_arrays` raises."""
    with _opened(path) as stored:
        return dict(stored.metadata() or {})


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    try:
        with safe_open(file, framework="numpy") as stored:
            yield stored
    except (SafetensorError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: damaged safetensors file ({error})") from error
