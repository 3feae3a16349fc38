"""The command run in this process, and what its errors look like."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_runs import PARENT

from moltide.cli import main

# Three sequences that no run has seen; the second is the parent.
NEW = ["A" + PARENT[1:], PARENT, PARENT[:-1] + "W"]
FAST = ("--epochs", 1, "--split", "random", "--no-learning-curve")


def call(*arguments: Any) -> int:
    return main([str(one) for one in arguments])


def one_error(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """The single line of an error with exit code 2; nothing on standard output but progress."""
    capsys.readouterr()
    code = call(*arguments)
    errors = capsys.readouterr().err.strip()
    assert code == 2, errors
    assert errors.startswith("error: ")
    assert "\n" not in errors
    assert "Traceback" not in errors
    return errors
