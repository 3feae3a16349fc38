"""The files of a checkpoint, wherever they lie: asked for by name, given as local paths."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Protocol

from moltide.errors import CheckpointError
from moltide.pretrained.json_files import read_json_object
from moltide.pretrained.safe_tensors import PICKLE_REFUSAL, StoredTensor, open_tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
TOKENIZER_FILES = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")

# The only names that are ever read or downloaded; a shard is named by an index.
_SHARD = re.compile(r"[A-Za-z0-9_.-]+\.safetensors")


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


def stored_tensors(files: Files) -> dict[str, StoredTensor]:
    """Every tensor of model.safetensors, or of the shards its index names; headers are read only.

    Raises:
        CheckpointError: no safetensors weights (pickle weights are named with the way out), a
            shard that is missing, outside the folder or without a tensor the index puts there.
    """
    single = files.get(WEIGHTS)
    if single is not None:
        return open_tensors(single)
    index = files.get(INDEX)
    if index is not None:
        return _sharded(files, index)
    pickles = [name for name in PICKLES if files.has(name)]
    if pickles:
        raise CheckpointError(f"{files.where}: only {pickles[0]} is there; {PICKLE_REFUSAL}")
    raise CheckpointError(f"{files.where}: no weights; looked for {WEIGHTS} and {INDEX}")


def _sharded(files: Files, index: Path) -> dict[str, StoredTensor]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map; a sharded index maps tensor names to files")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain_shard(shard):
            raise CheckpointError(
                f"{index}: tensor {tensor!r} is said to be in {shard!r}; allowed is the plain name "
                "of a .safetensors file beside the index"
            )
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        path = files.get(shard)
        if path is None:
            raise CheckpointError(f"{index}: shard {shard!r} is missing from {files.where}")
        for name, tensor in open_tensors(path).items():
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
    return _SHARD.fullmatch(name) is not None and PurePosixPath(name).name == name
