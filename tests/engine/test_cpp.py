"""Builds and runs the GoogleTest binary: as it ships, with ASan and UBSan, and with TSan.

MOLTIDE_BUILD_DIR names a folder to build in and to reuse the next time; without it the builds lie
in pytest's temporary folder.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from vector_code import vector_functions

ROOT = Path(__file__).resolve().parents[2]
# ThreadSanitizer slows most and has something to see only where threads meet.
FILTERS = {
    "none": "*",
    "address": "*",
    "thread": "*Parallel*:Threads*:ForkMutex*:Concurrency*:Engine*",
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", FILTERS)
def test_cpp(sanitizer: str, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("CMake is missing: pip install cmake ninja")
    build = Path(os.environ.get("MOLTIDE_BUILD_DIR") or tmp_path)
    result = subprocess.run(
        ["bash", "tests/sanitize", sanitizer, f"--gtest_filter={FILTERS[sanitizer]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "MOLTIDE_BUILD_DIR": str(build.absolute())},
        check=False,
    )
    if result.returncode != 0 and "GTest" in result.stderr:
        pytest.skip("GoogleTest is missing: sudo apt-get install -y libgtest-dev")
    assert result.returncode == 0, (result.stdout + result.stderr)[-8000:]
    assert "[  PASSED  ]" in result.stdout
    if sanitizer == "none" and platform.machine() == "x86_64" and shutil.which("objdump"):
        outside, inside = vector_functions(build / "cpp-none" / "moltide_tests")
        assert inside > 50
        assert not outside
