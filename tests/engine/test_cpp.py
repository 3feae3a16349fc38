"""Builds and runs the GoogleTest binary: once as it ships, once with ASan and UBSan.

MOLTIDE_BUILD_DIR names a folder to build in and to reuse the next time; without it the builds lie
in pytest's temporary folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILDS = {
    "plain": [],
    "sanitized": [
        "-DMOLTIDE_SANITIZE=address,undefined",
        "-DCMAKE_BUILD_TYPE=None",
        "-DCMAKE_CXX_FLAGS=-O1",
    ],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def _run(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )


def _configure(build: Path, options: list[str]) -> None:
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    where = ["-S", str(ROOT), "-B", str(build), *generator]
    what = ["-DMOLTIDE_TESTS=ON", "-DMOLTIDE_PYTHON=OFF", *options]
    result = _run(["cmake", *where, *what], timeout=120)
    if result.returncode != 0 and "GTest" in result.stderr:
        pytest.skip("GoogleTest is missing: sudo apt-get install -y libgtest-dev")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILDS)
def test_cpp(kind: str, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("CMake is missing: pip install cmake ninja")
    given = os.environ.get("MOLTIDE_BUILD_DIR")
    build = (Path(given) if given else tmp_path) / f"cpp-{kind}"
    build.mkdir(parents=True, exist_ok=True)
    _configure(build, BUILDS[kind])
    jobs = str(len(os.sched_getaffinity(0)))
    made = _run(
        ["cmake", "--build", str(build), "--target", "moltide_tests", "-j", jobs], timeout=1800
    )
    assert made.returncode == 0, (made.stdout + made.stderr)[-8000:]
    result = _run([str(build / "moltide_tests"), "--gtest_brief=1"], timeout=600)
    assert result.returncode == 0, (result.stdout + result.stderr)[-8000:]
