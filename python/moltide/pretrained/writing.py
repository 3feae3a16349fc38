"""Writing a checkpoint folder in its published format: whole files, config.json last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moltide.atomic import atomic_write_text
from moltide.errors import ConfigError
from moltide.pretrained.files import CONFIG, INDEX, WEIGHTS
from moltide.pretrained.safe_tensors import write_tensors

# Transformers' own limit of many years; a model below it is one file.
MAX_SHARD_BYTES = 5_000_000_000

_BYTES = {"float32": 4, "bf16": 2}
_DTYPE_NAMES = {"float32": "float32", "bf16": "bfloat16"}


def write_checkpoint(
    folder: str | os.PathLike[str],
    published: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    side_files: Mapping[str, str],
    dtype: str = "float32",
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write config.json, the weights (one file or shards with an index) and `side_files`.

    Args:
        published: the config.json to write; its dtype is set here.
        shapes: published tensor name -> shape, in the order they are written.
        read: gives the float32 values of a published tensor; called once for each, so that one
            shard at most is in memory.
        dtype: "float32", or "bf16" (rounded to nearest even) for half the size.

    Raises:
        ConfigError: another dtype.
        OSError: the folder cannot be made or written, or the disk is full; every file in the folder
            is then either the old one or the new one.
    """
    if dtype not in _BYTES:
        raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(_BYTES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(shapes, _BYTES[dtype], max_shard_bytes)
    if len(shards) == 1:
        write_tensors(folder / WEIGHTS, {name: read(name) for name in shards[0]}, dtype)
        (folder / INDEX).unlink(missing_ok=True)
    else:
        _write_shards(folder, shards, shapes, read, dtype)
        (folder / WEIGHTS).unlink(missing_ok=True)
    for name, text in side_files.items():
        atomic_write_text(folder / name, text)
    config = {key: value for key, value in published.items() if key != "torch_dtype"}
    config["dtype"] = _DTYPE_NAMES[dtype]
    # Transformers 4 reads the older key.
    config["torch_dtype"] = _DTYPE_NAMES[dtype]
    atomic_write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _shards(shapes: Mapping[str, tuple[int, ...]], bytes_each: int, limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=np.int64)) * bytes_each
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _write_shards(
    folder: Path,
    shards: list[list[str]],
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    dtype: str,
) -> None:
    weight_map = {}
    for number, names in enumerate(shards, 1):
        shard = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / shard, {name: read(name) for name in names}, dtype)
        weight_map.update(dict.fromkeys(names, shard))
    total = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()) * _BYTES[dtype]
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    atomic_write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
