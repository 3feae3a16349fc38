"""Who may include whom: the rules of CONTRIBUTING.md, held over every C++ and Python file."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Layers of csrc/ and what each may include; "kernels" is any op's header.
MAY_INCLUDE = {
    "core": {"core"},
    "data": {"core", "data"},
    "io": {"core", "io"},
    "model": {"core", "kernels", "data", "model"},
    "dist": {"core", "kernels", "dist"},
    "train": {"core", "kernels", "data", "io", "model", "dist", "train"},
    "bind": {"core", "kernels", "data", "io", "model", "dist", "train", "bind"},
}
# Folders of kernels/ that every op may use.
SHARED = {"device", "cuda_rt"}
CUDA = re.compile(r"cuda|cublas|cudnn|cutlass|cute/|nccl|nvrtc|nvtx|nvml|cub/|thrust/")
# What per-ISA objects may include of the library: headers without inline functions to share.
PLAIN = {
    "cfloat",
    "climits",
    "cmath",
    "cstddef",
    "cstdint",
    "cstring",
    "immintrin.h",
    "math.h",
    "type_traits",
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def sources() -> list[Path]:
    suffixes = {".h", ".cpp", ".cu", ".cuh", ".hpp", ".cc"}
    found = [p for top in ("csrc", "kernels") for p in (ROOT / top).rglob("*")]
    return sorted(p for p in found if p.suffix in suffixes)


def may_see_cuda(path: PurePosixPath) -> bool:
    return (
        path.suffix in {".cu", ".cuh"}
        or path.name.endswith("_cuda.cpp")
        or path.parts[:2] == ("kernels", "cuda_rt")
    )


def violations(path: PurePosixPath, text: str) -> list[str]:
    """What the file at `path` (from the repository's root) includes and may not."""
    top, folder = path.parts[0], path.parts[1]
    found = []
    for kind, header in INCLUDE.findall(text):
        if header.startswith("pybind11") and (top, folder) != ("csrc", "bind"):
            found.append(f"{path}: {header}: pybind11 is for csrc/bind")
        ours = header.startswith("cuda_rt/")
        if CUDA.search(header) and not ours and not may_see_cuda(path):
            found.append(f"{path}: {header}: CUDA is for .cu, .cuh, *_cuda.cpp and kernels/cuda_rt")
        if kind == "<":
            continue
        target = header.split("/")[0]
        if "/" not in header or ".." in header.split("/"):
            found.append(f"{path}: {header}: name the header by its layer or op")
        elif top == "kernels":
            allowed = {"core", folder} | SHARED
            if folder == "device":
                allowed.discard("cuda_rt")
            if target not in allowed:
                found.append(f"{path}: {header}: {folder} may include {sorted(allowed)}")
        else:
            layer = target if target in MAY_INCLUDE else "kernels"
            if layer not in MAY_INCLUDE.get(folder, set()):
                allowed = sorted(MAY_INCLUDE.get(folder, set()))
                found.append(f"{path}: {header}: {folder} may include {allowed}")
    return found


def library_headers(path: Path, seen: set[Path]) -> set[str]:
    """Names in <> that `path` includes, itself or through our headers."""
    seen.add(path)
    names = set()
    for kind, header in INCLUDE.findall(path.read_text()):
        if kind == "<":
            names.add(header)
            continue
        for root in ("csrc", "kernels"):
            target = ROOT / root / header
            if target.exists() and target not in seen:
                names |= library_headers(target, seen)
    return names


def test_every_source_keeps_the_rules():
    files = sources()
    assert len(files) > 50
    found = [
        line
        for path in files
        for line in violations(PurePosixPath(path.relative_to(ROOT)), path.read_text())
    ]
    assert not found, "\n".join(found)


def test_includes_lead_somewhere():
    missing = [
        f"{path.relative_to(ROOT)}: {header}"
        for path in sources()
        for kind, header in INCLUDE.findall(path.read_text())
        if kind == '"' and not any((ROOT / r / header).exists() for r in ("csrc", "kernels"))
    ]
    assert not missing, "\n".join(missing)


def test_objects_per_instruction_set_include_plain_headers_only():
    files = sorted((ROOT / "kernels").glob("*/*_cpu*.cpp"))
    assert files
    for path in files:
        extra = library_headers(path, set()) - PLAIN
        assert not extra, f"{path.relative_to(ROOT)} includes {sorted(extra)}: inline code to share"


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> modules of the package `root` that it imports anywhere, for types only too.

    What a package's __init__.py hands on counts as imported from where it is defined.
    """
    files = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts): path
        for path in root.rglob("*.py")
    }
    faces = {name.removesuffix(".__init__"): name for name in files if name.endswith(".__init__")}
    taken = {name: list(imported(path.read_text())) for name, path in files.items()}

    def source(module: str, name: str) -> str | None:
        if f"{module}.{name}" in files:
            return f"{module}.{name}"
        for origin, handed in taken.get(faces.get(module, ""), []):
            if handed == name and (origin in files or origin in faces):
                return source(origin, name)
        return module if module in files else None

    return {
        name: {found for one in names if (found := source(*one)) is not None}
        for name, names in taken.items()
        if name not in faces.values()
    }


def imported(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every `from module import name`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def test_python_files_import_one_way():
    found = imports(ROOT / "python" / "moltide")
    assert len(found) > 100
    assert "moltide.encoder" in found["moltide.pretrained.loading"]
    assert "moltide.assay_model.model" in found["moltide.finetune.stages"]
    list(graphlib.TopologicalSorter(found).static_order())


def test_a_circle_is_found(tmp_path):
    package = tmp_path / "moltide"
    package.mkdir()
    (package / "__init__.py").write_text("from moltide.a import A\n")
    (package / "a.py").write_text("def f():\n    from moltide.b import B\n")
    (package / "b.py").write_text("from moltide import A\n")
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter(imports(package)).static_order())


@pytest.mark.parametrize(
    ("path", "include"),
    [
        ("csrc/core/tensor.h", '"model/config.h"'),
        ("csrc/core/tensor.h", '"rope/rope.h"'),
        ("csrc/core/tensor.h", "<cuda_runtime.h>"),
        ("csrc/data/packer.cpp", '"rope/rope.h"'),
        ("csrc/model/block.cpp", '"train/trainer.h"'),
        ("csrc/model/block.cpp", "<pybind11/numpy.h>"),
        ("csrc/model/block.cpp", '"bind/convert.h"'),
        ("csrc/dist/bucket.cpp", '"model/model.h"'),
        ("csrc/train/trainer.cpp", '"bind/convert.h"'),
        ("csrc/train/trainer.cpp", '"trainer.h"'),
        ("csrc/train/trainer.cpp", '"../model/model.h"'),
        ("csrc/unheard_of/a.cpp", '"core/tensor.h"'),
        ("kernels/rope/rope.cpp", '"layernorm/layernorm.h"'),
        ("kernels/rope/rope.cpp", '"model/config.h"'),
        ("kernels/rope/rope.cpp", "<cublasLt.h>"),
        ("kernels/rope/rope.h", "<pybind11/pybind11.h>"),
        ("kernels/device/simd.h", '"rope/rope.h"'),
        ("kernels/device/simd.h", '"cuda_rt/check.h"'),
    ],
)
def test_a_forbidden_include_is_found(path, include):
    assert len(violations(PurePosixPath(path), f"#pragma once\n#include {include}\n")) == 1


@pytest.mark.parametrize(
    ("path", "include"),
    [
        ("csrc/bind/module.cpp", "<pybind11/pybind11.h>"),
        ("csrc/train/trainer.cpp", '"adamw/adamw.h"'),
        ("kernels/rope/rope_cuda.cu", "<cuda_bf16.h>"),
        ("kernels/matmul/matmul_cuda.cpp", "<cublasLt.h>"),
        ("kernels/cuda_rt/check.h", "<cuda_runtime.h>"),
        ("kernels/matmul/matmul_cuda.cpp", '"cuda_rt/check.h"'),
        ("kernels/rope/rope_cpu.cpp", '"device/rows.h"'),
    ],
)
def test_an_allowed_include_is_let_through(path, include):
    assert not violations(PurePosixPath(path), f"#include {include}\n")
