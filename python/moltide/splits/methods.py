"""Each way of splitting, or a sentence on why a table does not allow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay.table import AssayTable
from moltide.kinds import MOLECULE, PROTEIN, RNA
from moltide.options import option
from moltide.pairs import BREAK
from moltide.splits.cluster import cluster_by_identity
from moltide.splits.molecules import at_random, by_structure, earliest
from moltide.splits.parts import PARTS, fill_at_random, fill_by_group
from moltide.splits.skeletons import Skeletons
from moltide.splits.split import Split
from moltide.splits.variants import VariantSplit, split_by_mutations, split_by_position

_OF_RESIDUES = ("random", "cluster", "position", "mutations", "time")
#: The methods for each kind of sequence.
METHODS = {
    PROTEIN: _OF_RESIDUES,
    RNA: _OF_RESIDUES,
    MOLECULE: ("random", "scaffold", "scaffold_balanced", "butina", "time"),
}
# Unrelated sequences of four letters are already alike in half of them.
IDENTITY = {PROTEIN: 0.5, RNA: 0.8}
# Frameworks are alike in all antibodies: those to unrelated targets share 53 to 78 % of their
# residues (trastuzumab, bevacizumab, adalimumab and rituximab, variable domains of both chains).
PAIR_IDENTITY = 0.8
SIMILARITY = 0.4


@dataclass(frozen=True)
class Dealing:
    """Attributes:
    shares: of train, valid and test. rng: for draws of groups.
    identity: of "cluster"; similarity: of "butina"; None: as usual for the kind.
    """

    seed: int
    shares: tuple[float, float, float]
    rng: np.random.Generator
    identity: float | None = None
    similarity: float | None = None


def split_by_method(
    table: AssayTable, method: str, how: Dealing, forms: Skeletons | None
) -> Split | str:
    """The split, or a sentence on why the table does not allow it; `forms` are those of molecules.

    Raises:
        ConfigError: an identity or similarity outside its range.
    """
    seed, shares = how.seed, how.shares
    classes = table.targets[:, 0] if table.task == "classification" else None
    if method == "column":
        return _by_column(table, seed, shares, classes)
    if method != "groups" and method not in METHODS[table.kind]:
        return (
            f"by {method}: this table holds sequences of kind {table.kind!r}; what suits them: "
            f"{', '.join(METHODS[table.kind])}"
        )
    if table.paired and method in ("position", "mutations"):
        return f"by {method}: pairs of chains have no wild type; random, cluster or time suit them"
    if method == "random":
        if forms is not None:
            return Split(at_random(forms, shares, seed, classes), method, "", seed)
        return Split(fill_at_random(len(table), shares, seed, classes), method, "", seed)
    if method == "time":
        return _by_time(table, seed, shares, forms)
    if forms is not None and method != "groups":
        similarity = SIMILARITY if how.similarity is None else how.similarity
        return by_structure(method, forms, shares, seed, similarity, how.rng, classes)
    if method in ("cluster", "groups"):
        if method == "cluster":
            usual = PAIR_IDENTITY if table.paired else IDENTITY[table.kind]
            identity = usual if how.identity is None else how.identity
            texts = [one.replace(BREAK, "") if table.paired else one for one in table.sequences]
            groups = cluster_by_identity(texts, identity, table.kind)
        elif table.groups is None:
            return "by groups: no column of groups"
        else:
            groups = np.unique(table.groups, return_inverse=True)[1].astype(np.int64)
        labels = fill_by_group(groups, shares, how.rng, classes)
        sizes = np.bincount(groups)
        what = "groups"
        if method == "cluster":
            over = " over both chains" if table.paired else ""
            what = f"clusters at {identity:.0%} identity{over}"
        note = f"{what}: {len(sizes):,}, the largest with {sizes.max():,} sequences"
        if labels is None:
            return f"by {method}: {note} of {len(table):,}, too few or too large to deal out"
        dealt = ", ".join(f"{part} {len(np.unique(groups[labels == part])):,}" for part in PARTS)
        return Split(labels, method, "", seed, [f"{note}; in {dealt}"], groups)
    return _by_substitutions(table, method, seed, shares, how.rng)


def _by_substitutions(
    table: AssayTable,
    method: str,
    seed: int,
    shares: tuple[float, float, float],
    rng: np.random.Generator,
) -> Split | str:
    """By position or mutations; sequences of another length than the wild type's are unused."""
    if table.substitutions is None:
        lengths = np.array([len(one) for one in table.sequences])
        if table.wildtype is None:
            return (
                f"by {method}: it needs one wild type as long as the sequences "
                f"({option('wildtype')}, or {option('mutations')})"
            )
        fitting = int((lengths == len(table.wildtype)).sum())
        return (
            f"by {method}: only {fitting:,} of {len(table):,} sequences are as long as the wild "
            f"type ({len(table.wildtype)})"
        )
    known = {i: one for i, one in enumerate(table.substitutions) if one is not None}
    variants = list(known.values())
    found: VariantSplit | None
    if method == "position":
        found = split_by_position(variants, shares, rng, table.numbering)
        why = "too few positions, or every position is mutated in too many variants to hold out"
    else:
        counts = np.array([len(one) for one in variants])
        found = split_by_mutations(counts, shares, rng)
        why = "all variants carry the same number of mutations"
    if found is None:
        return f"by {method}: {why}"
    # Among train they would leak test positions and turn one-hot baselines into k-mers.
    labels = np.full(len(table), "", dtype="<U5")
    labels[list(known)] = found.labels
    notes = [found.said]
    others = len(table) - len(known)
    if others:
        notes.append(f"sequences longer or shorter than the wild type, not used: {others:,}")
    return Split(labels, method, "", seed, notes)


def _by_column(
    table: AssayTable,
    seed: int,
    shares: tuple[float, float, float],
    classes: npt.NDArray[np.float64] | None,
) -> Split | str:
    if table.split is None:
        return "by column: there is none"
    labels = table.split.copy()
    notes = []
    if not (labels == "test").any():
        labels[labels == "valid"] = "test"
        notes.append(f"column {table.split_name!r} has no test part: its valid part is the test")
    if not (labels == "valid").any():
        train = np.flatnonzero(labels == "train")
        share = shares[1] / (shares[0] + shares[1])
        if len(train) < 2:
            return f"by column: {table.split_name!r} leaves {len(train)} sequences to train on"
        size = min(max(1, round(share * len(train))), len(train) - 1)
        from sklearn.model_selection import train_test_split

        stratify = None
        if classes is not None and not np.isnan(classes[train]).any():
            counts = np.unique(classes[train], return_counts=True)[1]
            stratify = classes[train] if counts.min() >= 2 and size >= len(counts) else None
        _, valid = train_test_split(train, test_size=size, random_state=seed, stratify=stratify)
        labels[valid] = "valid"
        notes.append(f"valid: {size:,} sequences drawn at random from its train part")
    unused = int((labels == "").sum())
    if unused:
        notes.append(f"sequences without a part in it, not used: {unused:,}")
    return Split(labels, "column", "", seed, notes)


def _by_time(
    table: AssayTable, seed: int, shares: tuple[float, float, float], forms: Skeletons | None
) -> Split | str:
    if table.time is None:
        return f"by time: it needs a column of times ({option('time')})"
    if forms is not None:
        table = earliest(table, forms)
    assert table.time is not None
    known = np.flatnonzero(~np.isnan(table.time))
    moments, counts = np.unique(table.time[known], return_counts=True)
    if len(moments) < 3:
        return f"by time: it needs three different times, found {len(moments)}"
    # Cuts lie between moments: what was measured together stays together.
    before = np.cumsum(counts)[:-1] / len(known)
    valid_from = int(np.argmin(np.abs(before[:-1] - shares[0])))
    later = before[valid_from + 1 :]
    test_from = valid_from + 1 + int(np.argmin(np.abs(later - (shares[0] + shares[1]))))
    labels = np.full(len(table), "", dtype="<U5")
    moment = np.searchsorted(moments, table.time[known])
    labels[known] = np.where(
        moment <= valid_from, "train", np.where(moment <= test_from, "valid", "test")
    )
    last, first = moments[[valid_from, test_from]], moments[[valid_from + 1, test_from + 1]]
    until, start, end, since = (
        _moment(float(one), table.dates) for one in (last[0], first[0], last[1], first[1])
    )
    span = start if start == end else f"{start} to {end}"
    notes = [f"train up to {until}, valid {span}, test from {since}"]
    if len(known) < len(table):
        notes.append(f"sequences without a time, not used: {len(table) - len(known):,}")
    return Split(labels, "time", "", seed, notes)


def _moment(time: float, date: bool) -> str:
    """A number, or a date with its time of day if that is not midnight."""
    if not date:
        return f"{time:.10g}"
    return str(np.datetime64(round(time), "s")).removesuffix("T00:00:00")
