"""The baselines of a run, kept in the checkpoint folder so that a resumed run has them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from moltide.array_file import read_arrays, write_arrays
from moltide.baselines import BaselineResult, TimeLimit, fit_baselines
from moltide.baselines.row_tables import MoleculeTables
from moltide.errors import CheckpointError
from moltide.finetune.table import kinds_of, zero_shot
from moltide.kinds import MOLECULE

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.encoder import Encoder
    from moltide.splits import Split

_FILE = "baselines.safetensors"
_Rows = TypeVar("_Rows")


def run_baselines(
    table: AssayTable,
    split: Split,
    encoder: Encoder,
    seed: int,
    folder: Path | None,
    fingerprint: str,
    limit: TimeLimit | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[list[BaselineResult]]:
    """For each target all baselines, fitted, or read from an interrupted run's `folder`."""
    stored = None if folder is None else _load(folder / _FILE, fingerprint)
    if stored is None:
        stored = _fit_all(table, split, encoder, seed, limit, progress)
        if folder is not None:
            _store(folder / _FILE, stored, fingerprint)
    found: dict[int, list[BaselineResult]] = {}
    for columns, results in stored:
        for at, column in enumerate(columns):
            found[column] = [one.for_target(at) for one in results]
    return [found[column] for column in range(len(table.target_names))]


_Group = tuple[list[int], list[BaselineResult]]


def _fit_all(
    table: AssayTable,
    split: Split,
    encoder: Encoder,
    seed: int,
    limit: TimeLimit | None,
    progress: Callable[[int, int, str], None] | None,
) -> list[_Group]:
    """Targets of one kind are fitted together, numbers before classes."""
    train, valid, test = (split.index(part) for part in ("train", "valid", "test"))

    def sequences(index: np.ndarray) -> list[str]:
        return [table.sequences[i] for i in index]

    kinds = kinds_of(table)
    scores = zero_shot(table, encoder)
    several = len(kinds) > 1
    embed = _remembered(lambda texts: encoder.embed(texts), several)
    if not isinstance(scores, str):
        scores = _remembered(scores, several)
    tables = None
    if table.kind == MOLECULE:
        tables = MoleculeTables([*sequences(train), *sequences(valid), *sequences(test)])
    groups: list[_Group] = []
    for kind, columns in kinds:
        classes = table.classes_of(columns[0])
        share = len(columns) / len(table.target_names)
        results = fit_baselines(
            sequences(train),
            table.targets[train][:, columns],
            sequences(test),
            task=kind,
            n_classes=len(classes) if classes else None,
            valid_sequences=sequences(valid) if len(valid) else None,
            y_valid=table.targets[valid][:, columns] if len(valid) else None,
            embed=embed,
            zero_shot=scores,
            censor=table.censor[train][:, columns],
            groups=None if split.groups is None else split.groups[train],
            seed=seed,
            limit=None
            if limit is None
            else dataclasses.replace(limit, seconds=share * limit.seconds),
            progress=progress,
            kind=table.kind,
            tables=tables,
        )
        groups.append((columns, results))
    return groups


def _remembered(
    compute: Callable[[list[str]], _Rows], wanted: bool
) -> Callable[[list[str]], _Rows]:
    """`compute` that answers the same question twice in a row from memory."""
    kept: list[tuple[list[str], _Rows]] = []

    def answer(texts: list[str]) -> _Rows:
        if not kept or kept[0][0] != texts:
            kept[:] = [(texts, compute(texts))]
        return kept[0][1]

    return answer if wanted else compute


def _store(path: Path, groups: list[_Group], fingerprint: str) -> None:
    arrays: dict[str, np.ndarray] = {}
    described = []
    for at, (columns, results) in enumerate(groups):
        listed = []
        for one in results:
            if one.predictions is not None:
                arrays[f"{at}.{one.name}.test"] = one.predictions
            if one.valid_predictions is not None:
                arrays[f"{at}.{one.name}.valid"] = one.valid_predictions
            listed.append(
                {
                    "name": one.name,
                    "label": one.label,
                    "fit_seconds": one.fit_seconds,
                    "note": one.note,
                    "settings": _plain(one.settings),
                    "cut_short": one.cut_short,
                }
            )
        described.append({"columns": columns, "results": listed})
    arrays = arrays or {"none": np.zeros(1)}
    write_arrays(path, arrays, {"fingerprint": fingerprint, "groups": json.dumps(described)})


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


def _load(path: Path, fingerprint: str) -> list[_Group] | None:
    try:
        arrays, metadata = read_arrays(path)
        described = json.loads(metadata["groups"])
    except (FileNotFoundError, CheckpointError, KeyError, ValueError):
        return None
    if metadata.get("fingerprint") != fingerprint:
        return None
    return [
        (
            list(group["columns"]),
            [
                BaselineResult(
                    one["name"],
                    one["label"],
                    arrays.get(f"{at}.{one['name']}.test"),
                    one["fit_seconds"],
                    one["note"],
                    arrays.get(f"{at}.{one['name']}.valid"),
                    one["settings"],
                    one["cut_short"],
                )
                for one in group["results"]
            ],
        )
        for at, group in enumerate(described)
    ]
