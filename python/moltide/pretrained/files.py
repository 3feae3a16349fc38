"""The files of a checkpoint, wherever they lie: asked for by name, given as local paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from moltide.errors import CheckpointError
from moltide.pretrained.json_files import read_json_object
from moltide.pretrained.safe_tensors import StoredTensor, open_tensors
from moltide.pretrained.torch_files import open_torch

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
# Other names that PyTorch weights are published under.
TORCH_OTHERS = ("model.pt", "pytorch_model.pt")
ADAPTER_TORCH_WEIGHTS = "adapter_model.bin"

# The only names that are ever read or downloaded; a shard is named by an index.
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")
_TORCH_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.bin")


class Files(Protocol):
    """A folder of a checkpoint: on disk, bundled, or on the Hub."""

    @property
    def where(self) -> str:
        """The folder or repository, for messages."""
        ...

    def get(self, name: str) -> Path | None:
        """Local path of a file, or None if the checkpoint has none of that name."""
        ...

    def has(self, name: str) -> bool:
        """Whether the file is there, without fetching it."""
        ...


class FolderFiles:
    """Files of a folder on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def where(self) -> str:
        return str(self.folder)

    def get(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None

    def has(self, name: str) -> bool:
        return self.get(name) is not None


def stored_tensors(files: Files, others: Sequence[str] = ()) -> dict[str, StoredTensor]:
    """Every tensor of model.safetensors, or of the shards its index names; without them, of
    PyTorch files. Headers are read only.

    Args:
        others: further names that the family's weights are published under, as PyTorch files.

    Raises:
        CheckpointError: no weights, a shard that is missing, outside the folder or without a
            tensor the index puts there, or a PyTorch file with more in it than tensors.
    """
    single = files.get(WEIGHTS)
    if single is not None:
        return open_tensors(single)
    index = files.get(INDEX)
    if index is not None:
        return _sharded(files, index, _SHARD, open_tensors)
    single = files.get(TORCH_WEIGHTS)
    if single is not None:
        return open_torch(single)
    index = files.get(TORCH_INDEX)
    if index is not None:
        return _sharded(files, index, _TORCH_SHARD, open_torch)
    for name in (*TORCH_OTHERS, *others):
        single = files.get(name)
        if single is not None:
            return open_torch(single)
    listed = ", ".join((WEIGHTS, INDEX, TORCH_WEIGHTS, TORCH_INDEX, *TORCH_OTHERS, *others))
    raise CheckpointError(f"{files.where}: no weights; looked for {listed}")


def _sharded(
    files: Files,
    index: Path,
    allowed: re.Pattern[str],
    read: Callable[[Path], dict[str, StoredTensor]],
) -> dict[str, StoredTensor]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map; a sharded index maps tensor names to files")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not _is_plain(shard, allowed):
            ending = allowed.pattern.rsplit(".", 1)[-1]
            raise CheckpointError(
                f"{index}: tensor {tensor!r} is said to be in {shard!r}; allowed is the plain name "
                f"of a .{ending} file beside the index"
            )
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        path = files.get(shard)
        if path is None:
            raise CheckpointError(f"{index}: shard {shard!r} is missing from {files.where}")
        for name, tensor in read(path).items():
            if weight_map.get(name, shard) == shard:
                tensors[name] = tensor
    absent = sorted(name for name in weight_map if name not in tensors)
    if absent:
        raise CheckpointError(
            f"{index}: tensor {absent[0]!r} is not in {weight_map[absent[0]]!r} "
            f"({len(absent)} such tensors in all)"
        )
    return tensors


def is_plain_shard(name: str) -> bool:
    """Whether an index may name this file: a .safetensors file beside it, and no path."""
    return _is_plain(name, _SHARD)


def _is_plain(name: str, allowed: re.Pattern[str]) -> bool:
    return allowed.fullmatch(name) is not None and PurePosixPath(name).name == name
