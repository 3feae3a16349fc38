"""PyTorch files without torch: what the committed ones hold, and a writer of others."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np


def arrays() -> dict[str, np.ndarray]:
    """Name -> float32 values of every tensor; the file stores some in other types and as views."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6) - 7.5
    return {
        "plain": base,
        "half": np.array([0.5, -2.0, 65504.0], np.float32),
        "brain": np.array([1.0, -3.140625, 2.0**100], np.float32),
        "double": np.array([[1.25], [-2.5]], np.float32),
        "transposed": base.T,
        "rows": base[1:3],
        "column": base[:, 2],
        "every_second": base.reshape(-1)[::2],
        "scalar": np.array(4.25, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": base[:2] * 2,
    }


def write_zip(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A PyTorch zip file of contiguous float32 tensors, written without torch."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", state_dict_pickle(tensors))
        archive.writestr("archive/byteorder", "little")
        for index, values in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{index}", values.tobytes())
        archive.writestr("archive/version", "3\n")


class Global:
    """Pickles as the name of a class or function that need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Tensor:
    def __init__(self, key: str, kind: str, shape: tuple, strides: tuple, offset: int = 0) -> None:
        self.key, self.kind, self.shape, self.strides, self.offset = (
            *(key, kind, shape, strides, offset),
        )


class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    def save(self, obj: Any, save_persistent_id: bool = True) -> Any:
        if isinstance(obj, Global):
            return self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        if isinstance(obj, Tensor):
            return self.save_reduce(
                Global("torch._utils", "_rebuild_tensor_v2"),
                (Storage(obj), obj.offset, obj.shape, obj.strides, False, OrderedDict()),
            )
        if isinstance(obj, Storage):
            self.save(obj.id)
            return self.write(pickle.BINPERSID)
        if isinstance(obj, Run):
            return self.save_reduce(Global(*obj.function), obj.arguments)
        return super().save(obj, save_persistent_id)

    def save_reduce(self, func: Any, args: Any, *rest: Any, **more: Any) -> None:
        if isinstance(func, Global):
            self.save(func)
            self.save(args)
            self.write(pickle.REDUCE)
        else:
            super().save_reduce(func, args, *rest, **more)


class Storage:
    def __init__(self, tensor: Tensor) -> None:
        size = int(np.prod(tensor.shape))
        self.id = ("storage", Global("torch", tensor.kind), tensor.key, "cpu", size)


class Run:
    """A call of a function when the pickle is loaded."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.function, self.arguments = (module, name), arguments


def dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


def state_dict_pickle(tensors: dict[str, np.ndarray]) -> bytes:
    return dumps(
        {
            name: Tensor(str(i), "FloatStorage", values.shape, strides_of(values.shape))
            for i, (name, values) in enumerate(tensors.items())
        }
    )
