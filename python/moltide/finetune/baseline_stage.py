"""The five baselines of a run, kept in the checkpoint folder so that a resumed run has them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.array_file import read_arrays, write_arrays
from moltide.baselines import BaselineResult, TimeLimit, fit_baselines
from moltide.errors import CheckpointError
from moltide.finetune.table import zero_shot

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.encoder import Encoder
    from moltide.splits import Split

_FILE = "baselines.safetensors"


def run_baselines(
    table: AssayTable,
    split: Split,
    encoder: Encoder,
    seed: int,
    folder: Path | None,
    fingerprint: str,
    limit: TimeLimit | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[BaselineResult]:
    """Fit all baselines to all targets, or read them from an interrupted run's `folder`."""
    stored = None if folder is None else _load(folder / _FILE, fingerprint)
    if stored is not None:
        return stored
    train, valid, test = (split.index(part) for part in ("train", "valid", "test"))

    def sequences(index: np.ndarray) -> list[str]:
        return [table.sequences[i] for i in index]

    results = fit_baselines(
        sequences(train),
        table.targets[train],
        sequences(test),
        task=table.task,
        n_classes=len(table.classes) if table.classes else None,
        valid_sequences=sequences(valid) if len(valid) else None,
        y_valid=table.targets[valid] if len(valid) else None,
        embed=lambda texts: encoder.embed(texts),
        zero_shot=zero_shot(table, encoder),
        censor=table.censor[train],
        groups=None if split.groups is None else split.groups[train],
        seed=seed,
        limit=limit,
        progress=progress,
    )
    if folder is not None:
        _store(folder / _FILE, results, fingerprint)
    return results


def _store(path: Path, results: list[BaselineResult], fingerprint: str) -> None:
    arrays: dict[str, np.ndarray] = {}
    described = []
    for one in results:
        if one.predictions is not None:
            arrays[f"{one.name}.test"] = one.predictions
        if one.valid_predictions is not None:
            arrays[f"{one.name}.valid"] = one.valid_predictions
        described.append(
            {
                "name": one.name,
                "label": one.label,
                "fit_seconds": one.fit_seconds,
                "note": one.note,
                "settings": _plain(one.settings),
                "cut_short": one.cut_short,
            }
        )
    arrays = arrays or {"none": np.zeros(1)}
    write_arrays(path, arrays, {"fingerprint": fingerprint, "results": json.dumps(described)})


def _plain(value: Any) -> Any:
    """JSON types; what has none (a function) is left out."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not callable(v)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _load(path: Path, fingerprint: str) -> list[BaselineResult] | None:
    try:
        arrays, metadata = read_arrays(path)
        described = json.loads(metadata["results"])
    except (FileNotFoundError, CheckpointError, KeyError, ValueError):
        return None
    if metadata.get("fingerprint") != fingerprint:
        return None
    return [
        BaselineResult(
            one["name"],
            one["label"],
            arrays.get(f"{one['name']}.test"),
            one["fit_seconds"],
            one["note"],
            arrays.get(f"{one['name']}.valid"),
            one["settings"],
            one["cut_short"],
        )
        for one in described
    ]
