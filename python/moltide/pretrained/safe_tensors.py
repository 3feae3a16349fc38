"""Reading and writing safetensors files as NumPy arrays, bfloat16 included.

The `safetensors` library validates a header and writes files; the bytes of a tensor are read at
the validated offsets, because the library's NumPy view has no bfloat16.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moltide.atomic import atomic_path
from moltide.errors import CheckpointError

# Longer headers are refused by the safetensors format's own reader too.
MAX_HEADER_BYTES = 100_000_000
_PICKLE = (
    "this is a PyTorch file, not safetensors; under the name pytorch_model.bin it is read (without "
    "running what is in it)"
)

_READABLE = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: `path`, its `name` there, `dtype` (F32, BF16, ...), `shape`, byte
    `start` from the beginning of the file, and `strides` in elements unless rows lie end to end."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...] | None = None

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1

    def part(self, first: int, rows: int, name: str) -> StoredTensor:
        """`rows` of the first axis, from `first` on, as a tensor of its own.

        Raises:
            ValueError: rows that are not there.
        """
        if not 0 <= first <= first + rows <= self.shape[0]:
            raise ValueError(f"rows {first}:{first + rows} of {self.name} of shape {self.shape}")
        row = self.elements // self.shape[0] if self.strides is None else self.strides[0]
        start = self.start + first * row * np.dtype(_READABLE.get(self.dtype, "u1")).itemsize
        return replace(self, name=name, shape=(rows, *self.shape[1:]), start=start)

    def read(self) -> np.ndarray:
        """The values as float32; a copy in memory of its own.

        Raises:
            CheckpointError: a dtype without a float32 meaning, or the file shrank since it was
                opened.
        """
        if self.dtype not in _READABLE:
            raise CheckpointError(
                f"{self.path}: tensor {self.name!r} has dtype {self.dtype}; "
                f"allowed are {', '.join(_READABLE)}"
            )
        needed = self._span()
        raw = np.fromfile(self.path, dtype=_READABLE[self.dtype], count=needed, offset=self.start)
        if raw.size != needed:
            raise CheckpointError(
                f"{self.path}: tensor {self.name!r} needs {needed} values, "
                f"the file gave {raw.size}; it changed while being read"
            )
        values = bfloat16_to_float32(raw) if self.dtype == "BF16" else raw.astype(np.float32)
        if self.strides is None:
            return values.reshape(self.shape)
        steps = [stride * values.itemsize for stride in self.strides]
        copy: np.ndarray = np.lib.stride_tricks.as_strided(values, self.shape, steps).copy()
        return copy

    def _span(self) -> int:
        """Values from the first to the last of the tensor, in the file."""
        if self.strides is None or not self.elements:
            return self.elements
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    def read_finite(self) -> np.ndarray:
        """`read`, for weights: one NaN would be in every result.

        Raises:
            CheckpointError: as `read`, or a value is NaN or infinite.
        """
        values = self.read()
        finite = np.isfinite(values)
        if not finite.all():
            raise CheckpointError(
                f"{self.path}: tensor {self.name!r} has {finite.size - finite.sum():,} NaN or "
                f"infinite values among {finite.size:,}; the file is damaged, or its training "
                "diverged"
            )
        return values


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16 bit patterns (uint16) to float32; exact."""
    wide: np.ndarray = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide


def float32_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round float32 to bfloat16 bit patterns (uint16): to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    quiet = ((bits >> 16) | 0x40).astype(np.uint16)
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def open_tensors(path: str | os.PathLike[str]) -> dict[str, StoredTensor]:
    """List the tensors of a safetensors file; reads its header only.

    Every size is bounded by the size of the file before anything of that size is allocated.

    Raises:
        CheckpointError: not a safetensors file, truncated, trailing bytes, corrupt or oversized
            header.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    header = _read_header(path)
    size = path.stat().st_size
    begin = 8 + len(header)
    try:
        document: Any = json.loads(header.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: corrupt safetensors header: {error}") from None
    _check_coverage(path, document, size - begin)
    _check_with_library(path)
    return {
        name: StoredTensor(
            path, name, entry["dtype"], tuple(entry["shape"]), begin + entry["data_offsets"][0]
        )
        for name, entry in document.items()
        if name != "__metadata__"
    }


def _read_header(path: Path) -> bytes:
    """The JSON bytes of the header, its length checked against the file before reading them."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise CheckpointError(
                f"{path}: truncated safetensors file: {size} bytes, at least 8 are needed"
            )
        length = int.from_bytes(start, "little")
        if length > MAX_HEADER_BYTES:
            if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
                raise CheckpointError(f"{path}: {_PICKLE}")
            if start == b"version ":
                raise CheckpointError(
                    f"{path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
                )
            raise CheckpointError(
                f"{path}: the safetensors header claims {length} bytes, the format allows "
                f"{MAX_HEADER_BYTES}; the file is corrupt or not a safetensors file"
            )
        if length > size - 8:
            raise CheckpointError(
                f"{path}: truncated safetensors file: its header claims {length} bytes, "
                f"the file has {size} in all"
            )
        return stream.read(length)


def _check_coverage(path: Path, document: Any, available: int) -> None:
    """Say plainly that a file was cut short or grew; the library only says 'not fully covered'."""
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: corrupt safetensors header: not a JSON object")
    ends = [0]
    for name, entry in document.items():
        if name == "__metadata__":
            continue
        try:
            ends.append(int(entry["data_offsets"][1]))
        except (TypeError, KeyError, IndexError, ValueError, OverflowError):
            raise CheckpointError(
                f"{path}: corrupt safetensors header: tensor {name!r} has no data_offsets"
            ) from None
    if max(ends) > available:
        raise CheckpointError(
            f"{path}: truncated safetensors file: tensors need {max(ends)} bytes after the "
            f"header, the file has {available}"
        )
    if max(ends) < available:
        raise CheckpointError(
            f"{path}: corrupt safetensors file: tensors take {max(ends)} bytes after the header, "
            f"the file has {available}"
        )


def _check_with_library(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise CheckpointError(f"{path}: corrupt safetensors file: {reason}") from None


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    dtype: str = "float32",
    exact: Collection[str] = (),
) -> None:
    """Write float32 arrays as a safetensors file of `dtype` "float32" or "bf16"; all or nothing.

    Tensors named in `exact` stay float32.
    The metadata says `{"format": "pt"}`, which Transformers and PEFT ask for.

    Raises:
        OSError: folder missing or not writable, disk full; `path` is left as it was.
    """
    import safetensors

    stored = {
        name: float32_to_bfloat16(array)
        if dtype == "bf16" and name not in exact
        else np.ascontiguousarray(array, dtype="<f4")
        for name, array in tensors.items()
    }
    type_name = {2: "bfloat16", 4: "float32"}
    specs: dict[str, Any]
    if hasattr(safetensors, "TensorSpec"):
        specs = {
            name: safetensors.TensorSpec(
                dtype=type_name[array.itemsize],
                shape=list(array.shape),
                data_ptr=array.ctypes.data,
                data_len=array.nbytes,
            )
            for name, array in stored.items()
        }
    else:
        specs = {
            name: {
                "dtype": type_name[array.itemsize],
                "shape": list(array.shape),
                "data": array.tobytes(),
            }
            for name, array in stored.items()
        }
    with atomic_path(path) as temporary:
        try:
            safetensors.serialize_file(specs, str(temporary), {"format": "pt"})
        except safetensors.SafetensorError as error:
            raise _os_error(error, path) from None


def _os_error(error: Exception, path: str | os.PathLike[str]) -> OSError:
    """The library's error for a failed write, as the OSError it stands for."""
    found = re.search(r"(?:os error|code:) (\d+)", str(error))
    code = int(found.group(1)) if found else errno.EIO
    return OSError(code, os.strerror(code), str(path))
