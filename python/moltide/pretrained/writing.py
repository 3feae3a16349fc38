"""Writing a checkpoint folder in its published format: all of it, or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from moltide.atomic import atomic_write_text
from moltide.errors import CheckpointError, ConfigError
from moltide.pretrained.files import CONFIG, INDEX, WEIGHTS, is_plain_shard
from moltide.pretrained.json_files import read_json_object
from moltide.pretrained.safe_tensors import write_tensors

# A model below this is one file; the limit is what Transformers 4 splits at.
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
    exact: Collection[str] = (),
) -> None:
    """Write config.json, the weights (one file or shards with an index) and `side_files`.

    Everything is written into a hidden folder first and moved when it is whole, config.json last.

    Args:
        published: the config.json to write; its dtype is set here.
        shapes: published tensor name -> shape, in the order they are written.
        read: gives the float32 values of a published tensor; called once for each, so that one
            shard at most is in memory.
        dtype: "float32", or "bf16" (rounded to nearest even) for half the size.
        exact: published names of tensors that stay float32 whatever `dtype` is.

    Raises:
        ConfigError: another dtype.
        OSError: the folder cannot be made or written, or the disk is full; the folder is then as
            it was.
    """
    if dtype not in _BYTES:
        raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(_BYTES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".saving.", dir=folder))
    try:
        for name, text in side_files.items():
            atomic_write_text(staging / name, text)
        try:
            _write_weights(staging, shapes, read, dtype, exact)
        except OSError as error:
            if error.errno is None:
                raise
            name = Path(error.filename or WEIGHTS).name
            raise OSError(error.errno, error.strerror, str(folder / name)) from None
        # Transformers 4 reads the older key.
        config = {**published, "dtype": _DTYPE_NAMES[dtype], "torch_dtype": _DTYPE_NAMES[dtype]}
        document = json.dumps(config, indent=2, sort_keys=True) + "\n"
        atomic_write_text(staging / CONFIG, document)
        _move_over(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_over(staging: Path, folder: Path) -> None:
    """Put the new files in place; weights of an earlier save under other names go."""
    new = {path.name for path in staging.iterdir()}
    old = {WEIGHTS, INDEX} | _shards_of(folder / INDEX)
    for name in [*sorted(new - {CONFIG}), CONFIG]:
        os.replace(staging / name, folder / name)
    for name in old - new:
        (folder / name).unlink(missing_ok=True)


def _shards_of(index: Path) -> set[str]:
    if not index.is_file():
        return set()
    with contextlib.suppress(CheckpointError):
        listed = read_json_object(index).get("weight_map")
        if isinstance(listed, dict):
            return {n for n in listed.values() if isinstance(n, str) and is_plain_shard(n)}
    return set()


def _write_weights(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    dtype: str,
    exact: Collection[str],
) -> None:
    shards = _shards(shapes, _BYTES[dtype])
    if len(shards) == 1:
        write_tensors(folder / WEIGHTS, {name: read(name) for name in shards[0]}, dtype, exact)
        return
    weight_map = {}
    for number, names in enumerate(shards, 1):
        shard = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / shard, {name: read(name) for name in names}, dtype, exact)
        weight_map.update(dict.fromkeys(names, shard))
    total = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()) * _BYTES[dtype]
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    atomic_write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")


def _shards(shapes: Mapping[str, tuple[int, ...]], bytes_each: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=np.int64)) * bytes_each
        if shards[-1] and filled + size > MAX_SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
