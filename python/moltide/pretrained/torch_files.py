"""Reading PyTorch files (.bin, .pt, .pth) without PyTorch and without running what is in them.

Two formats: a zip archive with one pickle and a file for each storage (PyTorch 1.6 and later), and
before that several pickles in a row with the storages behind them. Of the pickle, only what
rebuilds tensors, dictionaries and storages is known here; any other name in it is refused before
anything of it could run. The bytes of tensors stay in the file until they are read.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from moltide.errors import CheckpointError
from moltide.pretrained.safe_pickle import Call, Name, Persistent, Refused, Stream, read_pickle
from moltide.pretrained.safe_tensors import StoredTensor

# A pickle beside its storages holds names and shapes; the largest published ones take a few MB.
_MAX_PICKLE_BYTES = 100_000_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Where checkpoints of training runs keep the weights.
_NESTED = ("model", "state_dict", "model_state_dict", "module")
# Storage classes of PyTorch -> safetensors' name and bytes of an element.
_STORAGES = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
    "UntypedStorage": ("U8", 1),
}
_TORCH = ("torch", "torch.storage")
_LISTED = 6


class _Storage(NamedTuple):
    """A run of elements of `width` bytes; `key` finds them."""

    key: str
    dtype: str
    width: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def open_torch(path: str | os.PathLike[str]) -> dict[str, StoredTensor]:
    """List the tensors of a PyTorch file; reads its pickle only, and executes none of it.

    A file that holds the weights under "model" or "state_dict" gives those.

    Raises:
        CheckpointError: not a PyTorch file, truncated, or with anything in it but tensors,
            dictionaries and plain values, which is named.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    with path.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        if start == b"PK\x03\x04":
            content, starts = _read_zip(path, stream)
        elif start[:1] == b"\x80":
            content, starts = _read_legacy(path, stream)
        elif start == b"vers":
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
            )
        else:
            raise CheckpointError(
                f"{path}: not a PyTorch file: it starts with {start!r}, a zip archive or a pickle "
                "was expected"
            )
    size = path.stat().st_size
    return {
        name: _placed(path, name, tensor, starts, size)
        for name, tensor in _weights(path, content).items()
    }


# ---- the pickle ------------------------------------------------------------------------------


def _load(path: Path, stream: Stream) -> Any:
    try:
        return read_pickle(stream, _resolve)
    except Refused as refusal:
        raise CheckpointError(
            f"{path}: the pickle in it asks for {refusal}, which is no part of plain weights; it "
            "was refused and nothing of it was run. Where you trust the file, save its state_dict "
            "alone: torch.save(model.state_dict(), ...), or as safetensors"
        ) from None
    except Exception as error:  # a damaged pickle can end in any of them
        raise CheckpointError(
            f"{path}: truncated or corrupt PyTorch file: {type(error).__name__}: {error}"
        ) from None


def _resolve(call: Call) -> Any:
    """What a state_dict calls: tensors of storages, dictionaries, shapes."""
    name, arguments = str(call.function), call.arguments
    if name == "collections.OrderedDict":
        return dict(*arguments)
    if name == "torch.Size":
        return tuple(*arguments)
    if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
        return _tensor(*arguments[:4])
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    if name == "torch._tensor._rebuild_from_type_v2":  # a tensor of a subclass, such as a buffer
        return _resolve(Call(*arguments[:3:2]))
    raise Refused(name)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    numbers = [offset, *shape, *strides]
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise Refused(f"a tensor of offset {offset}, shape {shape} and strides {strides}")
    return _Tensor(_storage(storage), offset, tuple(shape), tuple(strides))


def _storage(found: Any) -> _Storage:
    """A storage's persistent id: "storage", class, key, device, elements (and, once, a view)."""
    parts = found.id if isinstance(found, Persistent) else None
    if not isinstance(parts, tuple) or len(parts) < 5 or parts[0] != "storage":
        raise Refused(f"a tensor of {str(found)[:80]}")
    kind = parts[1]
    if not isinstance(kind, Name) or kind.name not in _STORAGES or kind.module not in _TORCH:
        raise Refused(f"a storage of class {str(kind)[:80]}")
    if len(parts) > 5 and parts[5] is not None:
        raise Refused("a view of a storage")
    return _Storage(str(parts[2]), *_STORAGES[kind.name])


# ---- the two containers ------------------------------------------------------------------------


def _read_zip(path: Path, stream: IO[bytes]) -> tuple[Any, Mapping[str, tuple[int, int]]]:
    """What the pickle holds, and first byte and number of bytes of every storage."""
    try:
        archive = zipfile.ZipFile(stream)
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.rsplit("/", 1)[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise CheckpointError(f"{path}: a zip archive, but not of PyTorch: no data.pkl in it")
        root = pickles[0].removesuffix("data.pkl")
        order = entries.get(f"{root}byteorder")
        if order is not None:
            with archive.open(order) as content:
                said = content.read(6)
            if said != b"little":
                raise CheckpointError(f"{path}: byte order {said!r}; allowed: little")
        length = entries[pickles[0]].file_size
        if length > _MAX_PICKLE_BYTES:
            raise CheckpointError(
                f"{path}: data.pkl has {length} bytes; allowed: {_MAX_PICKLE_BYTES}"
            )
        with archive.open(pickles[0]) as content:
            loaded = _load(path, content)
        starts = {
            name.removeprefix(f"{root}data/"): _entry(path, stream, info)
            for name, info in entries.items()
            if name.startswith(f"{root}data/")
        }
    except CheckpointError:
        raise
    except Exception as error:  # a damaged archive can end in any of them
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CheckpointError(f"{path}: truncated or corrupt PyTorch file: {error}") from None
    return loaded, starts


def _entry(path: Path, stream: IO[bytes], info: zipfile.ZipInfo) -> tuple[int, int]:
    """First byte and size of an entry, which PyTorch never compresses."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(
            f"{path}: {info.filename} is compressed or encrypted; PyTorch stores it as it is"
        )
    stream.seek(info.header_offset)
    header = struct.unpack("<4s22xHH", stream.read(30))
    if header[0] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no header of {info.filename} at byte {info.header_offset}")
    return info.header_offset + 30 + header[1] + header[2], info.file_size


class _Bounded:
    """A file that is asked for no more bytes than it has, so that none are made room for."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size = stream, size

    def read(self, size: int = -1, /) -> bytes:
        return self.stream.read(min(size, self.size))

    def readline(self) -> bytes:
        return self.stream.readline(self.size)


def _read_legacy(path: Path, stream: IO[bytes]) -> tuple[Any, Mapping[str, tuple[int, int]]]:
    """As `_read_zip`, of the format before PyTorch 1.6."""
    bounded = _Bounded(stream, path.stat().st_size)
    if _load(path, bounded) != _LEGACY_MAGIC:
        raise CheckpointError(
            f"{path}: a pickle, but not of PyTorch (no magic number before it); weights are read "
            "from what torch.save writes"
        )
    protocol, system = _load(path, bounded), _load(path, bounded)
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise CheckpointError(f"{path}: PyTorch file of protocol {protocol!r}; allowed: 1001")
    if system.get("little_endian") is not True:
        raise CheckpointError(f"{path}: byte order is not little endian")
    found: dict[str, _Storage] = {}
    content = _load(path, bounded)
    _collect(content, lambda tensor: found.setdefault(tensor.storage.key, tensor.storage))
    keys = _load(path, bounded)
    if not isinstance(keys, list):
        raise CheckpointError(f"{path}: corrupt PyTorch file: no list of storages")
    starts: dict[str, tuple[int, int]] = {}
    for key in map(str, keys):
        count = stream.read(8)
        if len(count) < 8:
            raise CheckpointError(f"{path}: truncated PyTorch file: storage {key} is missing")
        storage = found.get(key)
        if storage is None:
            raise CheckpointError(f"{path}: storage {key} belongs to no tensor of the weights")
        starts[key] = stream.tell(), int.from_bytes(count, "little") * storage.width
        if sum(starts[key]) > bounded.size:
            raise CheckpointError(f"{path}: truncated PyTorch file: storage {key} is not whole")
        stream.seek(starts[key][1], os.SEEK_CUR)
    return content, starts


def _collect(value: Any, add: Callable[[_Tensor], Any]) -> None:
    """Every tensor in nested dictionaries and lists, once."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, _Tensor):
            add(one)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, dict) else one


# ---- tensors -----------------------------------------------------------------------------------


def _weights(path: Path, content: Any) -> dict[str, _Tensor]:
    """The dictionary of tensors; entries that are none (versions, counters) are left aside."""
    if isinstance(content, dict):
        candidates = [content, *(content.get(key) for key in _NESTED)]
        for one in candidates:
            if isinstance(one, dict):
                found = {k: v for k, v in one.items() if isinstance(v, _Tensor)}
                if found and all(isinstance(key, str) for key in found):
                    return found
        held = f"keys {', '.join(map(repr, list(content)[:_LISTED]))}"
    else:
        held = f"a {type(content).__name__}"
    raise CheckpointError(
        f"{path}: no tensors by name: the file holds {held}; expected a state_dict, as it is or "
        f"under one of {', '.join(_NESTED)}"
    )


def _placed(
    path: Path, name: str, tensor: _Tensor, starts: Mapping[str, tuple[int, int]], size: int
) -> StoredTensor:
    """The tensor's place in the file, held against the size of its storage and of the file."""
    storage = tensor.storage
    if storage.key not in starts:
        raise CheckpointError(f"{path}: truncated PyTorch file: tensor {name!r} has no storage")
    start, stored = starts[storage.key]
    if start + stored > size:
        raise CheckpointError(
            f"{path}: truncated PyTorch file: tensor {name!r} ends at byte {start + stored}, the "
            f"file has {size}"
        )
    elements = 1
    for extent in tensor.shape:
        elements *= extent
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((extent - 1) * stride for extent, stride in steps)
    available = stored // storage.width
    if elements and (last >= available or elements > available):
        raise CheckpointError(
            f"{path}: corrupt PyTorch file: tensor {name!r} of shape {list(tensor.shape)}, strides "
            f"{list(tensor.strides)}, offset {tensor.offset} in a storage of {available} elements"
        )
    strides = None if _contiguous(tensor.shape, tensor.strides) else tensor.strides
    begin = start + tensor.offset * storage.width
    return StoredTensor(path, name, storage.dtype, tensor.shape, begin, strides)


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True
