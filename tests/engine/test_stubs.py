"""The committed type stubs are what pybind11-stubgen makes of the built module.

To renew them: python tests/engine/test_stubs.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

COMMITTED = Path(__file__).parents[2] / "python" / "moltide" / "_engine"
NAMES = ("__init__.pyi", "ops.pyi")


def generate(folder: str) -> dict[str, str]:
    stubgen = [sys.executable, "-m", "pybind11_stubgen", "moltide._engine", "-o", folder]
    subprocess.run(stubgen, check=True, capture_output=True)
    made = Path(folder, "moltide", "_engine")
    subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "100", str(made)],
        check=True,
        capture_output=True,
    )
    return {name: (made / name).read_text() for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_stubs_are_up_to_date(tmp_path, name):
    pytest.importorskip("pybind11_stubgen", reason="stubs need pybind11-stubgen")
    assert generate(str(tmp_path))[name] == (COMMITTED / name).read_text(), (
        "run: python tests/engine/test_stubs.py"
    )


if __name__ == "__main__":
    COMMITTED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in generate(scratch).items():
            (COMMITTED / name).write_text(text)
            print(f"written: {COMMITTED / name}")
