"""Objects compiled per instruction set share no code.

The linker keeps one copy of a function that several objects define as weak (inline functions,
templates). Were it the AVX-512 copy, a machine without AVX-512 would die in it. So such an object
may define symbols in its own namespace alone. MOLTIDE_BUILD_DIR names a build tree whose objects
are looked at; without it the sources are compiled here.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vector_code import vector_functions

ROOT = Path(__file__).resolve().parents[2]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
VNNI = [*AVX512, "-mavx512vnni"]
FLAGS = {
    "portable": [],
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512_vnni": VNNI,
    "avx512_bf16": [*VNNI, "-mavx512bf16"],
    "amx": [*VNNI, "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")

needs_nm = pytest.mark.skipif(not shutil.which("nm"), reason="needs nm (binutils)")
needs_compiler = pytest.mark.skipif(
    not COMPILER or platform.machine() not in ("x86_64", "AMD64"),
    reason="needs a C++ compiler for x86-64",
)


def foreign_symbols(obj: Path, isa: str) -> list[str]:
    """External definitions of `obj` outside `moltide::isa`, demangled where they can be."""
    listing = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "--format=posix", str(obj)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    own = re.compile(rf"_Z[A-Z]*7moltide{len(isa)}{isa}")
    names = [line.split()[0] for line in listing.splitlines() if line]
    # The reference to the unwinder's personality is data, the same in every object.
    return [n for n in names if not own.match(n) and n != "DW.ref.__gxx_personality_v0"]


def compile_source(source: Path, isa: str, out: Path) -> Path:
    # Unoptimised: what the optimiser would have inlined away is there to be seen.
    subprocess.run(
        [
            *(COMPILER or "g++").split(),
            *("-std=c++20", "-O0", "-w", "-fPIC", "-ffp-contract=off"),
            *FLAGS[isa],
            f"-DMOLTIDE_ISA={isa}",
            f"-I{ROOT / 'csrc'}",
            f"-I{ROOT / 'kernels'}",
            *("-c", str(source), "-o", str(out)),
        ],
        check=True,
    )
    return out


def kernel_sources() -> list[tuple[Path, str]]:
    """Every source compiled per instruction set, with the widest set it is compiled for."""
    pairs = []
    for path in sorted((ROOT / "kernels").glob("*/*_cpu*.cpp")):
        own = re.fullmatch(r".*_cpu_(\w+)", path.stem)
        if own is None or own[1] in FLAGS:
            pairs.append((path, own[1] if own else "avx512"))
    return pairs


@needs_nm
@needs_compiler
@pytest.mark.skipif("MOLTIDE_BUILD_DIR" in os.environ, reason="the built objects are looked at")
def test_sources_define_nothing_outside_their_namespace(tmp_path):
    sources = kernel_sources()
    assert len(sources) > 10

    def check(pair: tuple[Path, str]) -> list[str]:
        source, isa = pair
        obj = compile_source(source, isa, tmp_path / f"{source.stem}_{isa}.o")
        return [f"{source.relative_to(ROOT)} ({isa}): {s}" for s in foreign_symbols(obj, isa)]

    with ThreadPoolExecutor(2) as pool:
        found = [line for lines in pool.map(check, sources) for line in lines]
    assert not found, "\n".join(found)


@needs_nm
@pytest.mark.skipif(
    "MOLTIDE_BUILD_DIR" not in os.environ, reason="MOLTIDE_BUILD_DIR names no build tree"
)
def test_built_objects_define_nothing_outside_their_namespace():
    build = Path(os.environ["MOLTIDE_BUILD_DIR"])
    found, count = [], 0
    for isa in FLAGS:
        for obj in build.rglob(f"moltide_cpu_{isa}.dir/**/*.o"):
            count += 1
            found += [f"{obj.name} ({isa}): {s}" for s in foreign_symbols(obj, isa)]
    assert count, f"no objects of kernels under {build}"
    assert not found, "\n".join(found)


@needs_nm
@needs_compiler
@pytest.mark.parametrize(
    "line",
    [
        "inline int shared(int x) { return x + 1; }\nint (*keep)(int) = shared;",
        "namespace moltide { int everywhere() { return 1; } }",
        "namespace moltide::avx2 { int elsewhere() { return 1; } }",
        "#include <vector>\nnamespace moltide::avx512 { int f(std::vector<int>& v) "
        "{ v.push_back(1); return v[0]; } }",
    ],
)
def test_shared_code_is_found(line, tmp_path):
    source = tmp_path / "shared.cpp"
    source.write_text(line + "\n")
    assert foreign_symbols(compile_source(source, "avx512", tmp_path / "shared.o"), "avx512")


@needs_compiler
@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump (binutils)")
def test_vector_code_outside_the_kernels_is_found(tmp_path):
    source = tmp_path / "mixed.cpp"
    source.write_text(
        "void everywhere(float* x) { for (int i = 0; i < 64; ++i) x[i] *= 2; }\n"
        "namespace moltide::avx2 { void kernel(float* x) { x[0] *= 2; } }\n"
    )
    wide = vector_functions(compile_source(source, "avx2", tmp_path / "wide.o"))
    assert wide == ({"_Z10everywherePf"}, 1)
    assert vector_functions(compile_source(source, "portable", tmp_path / "plain.o")) == (set(), 0)
