"""Train, valid and test parts in which relatives never straddle, with the reason in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from moltide.assay.options import SPLIT_METHODS
from moltide.assay.table import AssayTable
from moltide.errors import ConfigError, DataError
from moltide.kinds import MOLECULE
from moltide.options import option
from moltide.splits.butina import cluster_by_similarity
from moltide.splits.choose import candidates
from moltide.splits.cluster import cluster_by_identity
from moltide.splits.methods import METHODS, Dealing, split_by_method
from moltide.splits.molecules import described
from moltide.splits.parts import PARTS, Labels, checked_fractions, every_class_everywhere
from moltide.splits.skeletons import Skeletons, skeletons
from moltide.splits.split import Split

__all__ = ["SPLIT_METHODS", "Split", "cluster_by_identity", "cluster_by_similarity", "make_split"]

_RANK = {"": 0, "train": 1, "valid": 2, "test": 3}


def make_split(
    table: AssayTable,
    how: str = "auto",
    seed: int = 0,
    fractions: tuple[float, float, float] | None = None,
    identity: float | None = None,
    similarity: float | None = None,
) -> Split:
    """Split a table; the same table, options and seed give the same parts.

    Args:
        table: the assay.
        how: "auto" (see `splits.choose.candidates` for the reasoning), "random", "time"; of
            proteins and RNA "cluster", "position", "mutations"; of molecules "scaffold" (largest
            scaffolds to train, as MoleculeNet does, whatever the seed), "scaffold_balanced"
            (scaffolds dealt out at random), "butina" (clusters of similar molecules); or the name
            of a split column of the table. Stereoisomers of a molecule are never divided, except
            by a column.
        seed: for every random draw.
        fractions: shares of train, valid and test; 0.8/0.1/0.1, below 100 sequences 0.6/0.2/0.2.
        identity: threshold of "cluster", see `cluster_by_identity`; 0.5, of RNA and of pairs of
            chains (over both) 0.8.
        similarity: threshold of "butina", see `cluster_by_similarity`; 0.4.

    Raises:
        DataError: too few sequences, several split columns and none named, or a split that this
            table does not allow (with what does).
        ConfigError: an unknown method or impossible fractions.
    """
    sequences, first, of_row = np.unique(
        np.array(table.sequences, dtype=object), return_index=True, return_inverse=True
    )
    shares = checked_fractions(fractions, len(sequences))
    # Kept repeats are split as one: only distinct sequences are dealt out.
    whole = len(sequences) == len(table)
    distinct = table if whole else _distinct(table, first, of_row)
    forms = skeletons(distinct.sequences) if table.kind == MOLECULE else None
    dealing = Dealing(seed, shares, np.random.default_rng(seed), identity, similarity)
    split = _split(distinct, how, dealing, forms)
    if forms is not None:
        split = described(distinct, split, forms)
    if whole:
        return split
    back = np.argsort(np.argsort(first))[of_row]
    groups = None if split.groups is None else split.groups[back]
    return replace(split, labels=split.labels[back], groups=groups)


def _distinct(
    table: AssayTable, first: npt.NDArray[np.int64], of_row: npt.NDArray[np.int64]
) -> AssayTable:
    """One entry a sequence, in order of appearance; of several parts in a column the last wins."""
    order = np.sort(first)
    members = [np.flatnonzero(of_row == of_row[i]) for i in order]
    subset = table.subset(order)

    def last_part(labels: Labels) -> Labels:
        return np.array(
            [max(labels[rows].tolist(), key=_RANK.__getitem__) for rows in members], dtype="<U5"
        )

    return replace(
        subset,
        split=None if table.split is None else last_part(table.split),
        split_columns={name: last_part(part) for name, part in table.split_columns.items()},
        time=None if table.time is None else np.array([_earliest(table.time[m]) for m in members]),
    )


def _earliest(times: npt.NDArray[np.float64]) -> float:
    known = times[~np.isnan(times)]
    return float(known.min()) if len(known) else float("nan")


def _split(table: AssayTable, how: str, dealing: Dealing, forms: Skeletons | None) -> Split:
    if how == "auto":
        if table.split is None and table.groups is None and len(table.split_columns) > 1:
            listed = ", ".join(map(repr, table.split_columns))
            raise DataError(
                f"{table.summary.source}: several split columns: {listed}; name one "
                f"({option('split')}), or a method ({', '.join(METHODS[table.kind])})"
            )
        refused: list[str] = []
        for choice in candidates(table, dealing.shares):
            found = split_by_method(table, choice.method, dealing, forms)
            if isinstance(found, Split) and choice.method == "scaffold":
                found = _of_every_class(table, found)
            if isinstance(found, Split):
                notes = found.notes + [f"not possible {why}" for why in refused]
                return _checked(table, found, choice.reason, notes)
            refused.append(found)
        raise DataError(f"{table.summary.source}: no split possible ({'; '.join(refused)})")
    if how in table.split_columns or (how == table.split_name and table.groups is not None):
        method, reason = ("groups" if how not in table.split_columns else "column"), "as named"
        if method == "column":
            table = replace(table, split=table.split_columns[how], split_name=how)
            reason = f"column {how!r}, as named"
    elif how in SPLIT_METHODS:
        method, reason = how, "as asked for"
    else:
        columns = ", ".join(map(repr, table.split_columns)) or "none"
        raise ConfigError(
            f"split {how!r}: expected auto, {', '.join(SPLIT_METHODS)}, or a split column of the "
            f"table (found: {columns})"
        )
    found = split_by_method(table, method, dealing, forms)
    if isinstance(found, str):
        raise DataError(f"{table.summary.source}: no split {found}")
    return _checked(table, found, reason, found.notes)


def _of_every_class(table: AssayTable, split: Split) -> Split | str:
    """Refuse what cannot be judged where another way of dealing out may do."""
    classes = table.targets[:, 0] if table.task == "classification" else None
    if classes is None or every_class_everywhere(split.labels, classes):
        return split
    return f"by {split.method}: a part would lack a class"


def _checked(table: AssayTable, split: Split, reason: str, notes: list[str]) -> Split:
    """Refuse empty parts; say when a part cannot show what it should."""
    counts = split.counts()
    empty = [part for part in PARTS if not counts[part]]
    if empty:
        sizes = ", ".join(f"{part} {counts[part]}" for part in PARTS)
        raise DataError(
            f"{table.summary.source}: the split by {split.method} leaves {' and '.join(empty)} "
            f"empty ({sizes})"
        )
    notes = list(notes)
    if table.task == "classification":
        for part in PARTS:
            values = table.targets[split.labels == part]
            if len(np.unique(values[~np.isnan(values)])) < 2:
                notes.append(f"{part} holds a single class")
    if counts["test"] < 20:
        notes.append(f"test has only {counts['test']} sequences: its metrics are rough")
    return replace(split, reason=reason, notes=notes)
