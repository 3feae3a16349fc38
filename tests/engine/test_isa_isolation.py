"""Objects compiled per instruction set share no code.

The linker keeps one copy of a function that several objects define as weak (inline functions,
templates). Were it the AVX-512 copy, a machine without AVX-512 would die in it. So such an object
may define symbols in its own namespace alone. For the same reason two ops may not both define a
function of one name in the namespace of an instruction set. MOLTIDE_BUILD_DIR names a build tree
whose objects are looked at; without it the sources are compiled here.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
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
    "amx": [*VNNI, "-mavx512bf16", "-mavx512vbmi", "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")

needs_nm = pytest.mark.skipif(not shutil.which("nm"), reason="needs nm (binutils)")
needs_compiler = pytest.mark.skipif(
    not COMPILER or platform.machine() not in ("x86_64", "AMD64"),
    reason="needs a C++ compiler for x86-64",
)


def definitions(obj: Path) -> list[tuple[str, str]]:
    """(name, nm's letter of its kind) of every external definition of `obj`."""
    listing = subprocess.run(
        ["nm", "--defined-only", "--extern-only", "--format=posix", str(obj)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    fields = [line.split() for line in listing.splitlines() if line]
    # The reference to the unwinder's personality is data, the same in every object.
    return [(one[0], one[1]) for one in fields if one[0] != "DW.ref.__gxx_personality_v0"]


def foreign_symbols(obj: Path, isa: str) -> list[str]:
    """External definitions of `obj` outside `moltide::isa`."""
    own = re.compile(rf"_Z[A-Z]*7moltide{len(isa)}{isa}")
    return [name for name, _ in definitions(obj) if not own.match(name)]


def shared_by_ops(objects: Iterable[tuple[str, Path]]) -> list[str]:
    """Weak symbols that the objects, (op, path) each, of two ops define, with the ops.

    Ops include no header of each other, so these are two things of one name: the linker keeps one
    for both, and one of the ops then runs the other's code.
    """
    owners: dict[str, set[str]] = {}
    for op, obj in objects:
        for name, kind in definitions(obj):
            if kind in "WVu":
                owners.setdefault(name, set()).add(op)
    return [f"{s}: {', '.join(sorted(ops))}" for s, ops in sorted(owners.items()) if len(ops) > 1]


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


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str, Path]]:
    """(source, instruction set, object) of every kernel source."""
    if "MOLTIDE_BUILD_DIR" in os.environ:
        pytest.skip("the built objects are looked at")
    folder = tmp_path_factory.mktemp("objects")

    def build(pair: tuple[Path, str]) -> tuple[Path, str, Path]:
        source, isa = pair
        return source, isa, compile_source(source, isa, folder / f"{source.stem}_{isa}.o")

    sources = kernel_sources()
    assert len(sources) > 10
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(build, sources))


@needs_nm
@needs_compiler
def test_sources_define_nothing_outside_their_namespace(compiled):
    found = [
        f"{source.relative_to(ROOT)} ({isa}): {symbol}"
        for source, isa, obj in compiled
        for symbol in foreign_symbols(obj, isa)
    ]
    assert not found, "\n".join(found)


@needs_nm
@needs_compiler
def test_sources_of_two_ops_define_no_symbol_twice(compiled):
    found = shared_by_ops((source.parent.name, obj) for source, _, obj in compiled)
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
@pytest.mark.skipif(
    "MOLTIDE_BUILD_DIR" not in os.environ, reason="MOLTIDE_BUILD_DIR names no build tree"
)
@pytest.mark.parametrize("isa", FLAGS)
def test_built_objects_of_two_ops_define_no_symbol_twice(isa):
    build = Path(os.environ["MOLTIDE_BUILD_DIR"])
    objects = [(obj.parent.name, obj) for obj in build.rglob(f"moltide_cpu_{isa}.dir/**/*.o")]
    assert objects, f"no objects of kernels for {isa} under {build}"
    found = shared_by_ops(objects)
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


@needs_nm
@needs_compiler
def test_one_name_in_two_ops_is_found(tmp_path):
    def obj(name: str, body: str) -> Path:
        source = tmp_path / f"{name}.cpp"
        source.write_text(f"namespace moltide::MOLTIDE_ISA {{ {body} }}\n")
        return compile_source(source, "avx512", tmp_path / f"{name}.o")

    use = "int {0}(Tile t) {{ return t.size(); }}"
    narrow = obj("narrow", "struct Tile { int n; int size() { return n; } };" + use.format("f"))
    wide = obj("wide", "struct Tile { long n[4]; int size() { return 4; } };" + use.format("g"))
    own = obj("own", "static int size() { return 1; } int h() { return size(); }")
    (line,) = shared_by_ops([("matmul", narrow), ("attention", wide), ("pool", own)])
    assert "Tile4size" in line
    assert line.endswith(": attention, matmul")
    # Two objects of one op share its headers.
    assert shared_by_ops([("matmul", narrow), ("matmul", wide), ("pool", own)]) == []
