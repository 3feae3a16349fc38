"""TensorBoard events, written without torch or TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moltide.errors import MissingDependencyError
from moltide.options import option


class Events:
    """Scalars for TensorBoard; nowhere if `folder` is None.

    A resumed run writes a file of its own; TensorBoard shows the later value of a step.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None:
            self._writer = _writer_class()(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def require_tensorboard() -> None:
    """Raises MissingDependencyError where events could not be written."""
    _writer_class()


def _writer_class() -> Any:
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise MissingDependencyError(
            f"{option('tensorboard')} needs TensorBoard: pip install tensorboard"
        ) from error
    return Writer
