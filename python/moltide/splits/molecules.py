"""Splits of molecules: by scaffold, by similarity, and twins that share a part in every split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.assay.table import AssayTable
from moltide.splits.butina import cluster_by_similarity
from moltide.splits.parts import PARTS, Labels, fill_at_random, fill_by_group, fill_largest_first
from moltide.splits.skeletons import Skeletons, numbered
from moltide.splits.split import Split

IntArray = npt.NDArray[np.int64]
Shares = tuple[float, float, float]
# Test molecules whose nearest training molecule is looked up.
_PROBES = 2000


def at_random(
    forms: Skeletons, shares: Shares, seed: int, classes: npt.NDArray[np.float64] | None
) -> Labels:
    """Labels drawn at random; stereoisomers share theirs, and count as one where they are drawn."""
    twins = forms.twins
    first = np.unique(twins, return_index=True)[1]
    own = None if classes is None else classes[first]
    return fill_at_random(len(first), shares, seed, own)[twins]


def earliest(table: AssayTable, forms: Skeletons) -> AssayTable:
    """The table with every known time that of the earliest stereoisomer."""
    assert table.time is not None
    twins, known = forms.twins, ~np.isnan(table.time)
    least = np.full(len(table), np.inf)
    np.minimum.at(least, twins[known], table.time[known])
    return replace(table, time=np.where(known, least[twins], np.nan))


def by_structure(
    method: str,
    forms: Skeletons,
    shares: Shares,
    seed: int,
    similarity: float,
    rng: np.random.Generator,
    classes: npt.NDArray[np.float64] | None,
) -> Split | str:
    """ "scaffold", "scaffold_balanced" or "butina", or why the table does not allow it."""
    groups, note = _GROUPS[method](forms, similarity)
    sizes = np.bincount(groups)
    note += f": {len(sizes):,}, the largest with {sizes.max():,} molecules"
    labels: Labels | None
    if method == "scaffold":
        labels = fill_largest_first(groups, shares)
        if len(np.unique(labels)) < len(PARTS):
            labels = None
    else:
        labels = fill_by_group(groups, shares, rng, classes)
    if labels is None:
        return f"by {method}: {note} of {len(groups):,}, too few or too large to deal out"
    dealt = ", ".join(f"{part} {len(np.unique(groups[labels == part])):,}" for part in PARTS)
    return Split(labels, method, "", seed, [f"{note}; in {dealt}"], groups)


def _scaffolds(forms: Skeletons, similarity: float) -> tuple[IntArray, str]:
    """The published convention: molecules without a ring are one group."""
    bare = sum(not one for one in forms.scaffolds)
    aside = f" ({bare:,} molecules without a ring count as one)" if bare else ""
    return numbered(forms.scaffolds), f"scaffolds{aside}"


def _scaffolds_and_clusters(forms: Skeletons, similarity: float) -> tuple[IntArray, str]:
    """Scaffolds, and of molecules without one clusters: as one group they could only be train's."""
    bare = [i for i, one in enumerate(forms.scaffolds) if not one]
    names = list(forms.scaffolds)
    aside = ""
    if bare:
        clusters, _ = cluster_by_similarity([forms.flat[i] for i in bare], similarity)
        for i, cluster in zip(bare, clusters.tolist(), strict=True):
            names[i] = f"cluster {cluster}"  # no SMILES has a blank
        count = len(np.unique(clusters))
        aside = f" ({len(bare):,} molecules without a ring are in {count:,} clusters)"
    return numbered(names), f"scaffolds{aside}"


def _clusters(forms: Skeletons, similarity: float) -> tuple[IntArray, str]:
    groups, how = cluster_by_similarity(forms.flat, similarity)
    return groups, f"{how} clusters at Tanimoto {similarity:g}"


_GROUPS: dict[str, Callable[[Skeletons, float], tuple[IntArray, str]]] = {
    "scaffold": _scaffolds,
    "scaffold_balanced": _scaffolds_and_clusters,
    "butina": _clusters,
}


def described(table: AssayTable, split: Split, forms: Skeletons) -> Split:
    """The split with what a reader should know of its test molecules, as notes and as `facts`:
    scaffolds of each part, the share of test molecules whose scaffold training has, twins of
    training molecules, and Tanimoto similarities to the nearest training molecule."""
    train, test = split.index("train"), split.index("test")
    if not len(train) or not len(test):
        return split
    scaffolds, twins = numbered(forms.scaffolds), forms.twins
    facts: dict[str, Any] = {"scaffolds": {"all": len(np.unique(scaffolds))}}
    for part in PARTS:
        facts["scaffolds"][part] = len(np.unique(scaffolds[split.labels == part]))
    seen = float(np.isin(scaffolds[test], scaffolds[train]).mean())
    repeated = int(np.isin(twins[test], twins[train]).sum())
    low, median, high = _nearest(table, train, test, split.seed)
    facts["test_scaffolds_seen"] = round(seen, 4)
    facts["test_twins_in_train"] = repeated
    facts["nearest_train_similarity"] = {"median": median, "quartiles": [low, high]}
    notes = list(split.notes)
    if split.method not in ("scaffold", "scaffold_balanced"):
        counts = ", ".join(f"{part} {facts['scaffolds'][part]:,}" for part in PARTS)
        notes.append(
            f"scaffolds: {facts['scaffolds']['all']:,}; in {counts}; training has those of "
            f"{seen:.0%} of the test molecules"
        )
    notes.append(
        f"the nearest training molecule of a test molecule: Tanimoto {median:.2f} in the median "
        f"(middle half {low:.2f} to {high:.2f})"
    )
    if repeated:
        notes.append(
            f"test molecules that differ from a training molecule in stereochemistry or isotopes "
            f"alone: {repeated:,}"
        )
    return replace(split, notes=notes, facts=facts)


def _nearest(table: AssayTable, train: IntArray, test: IntArray, seed: int) -> list[float]:
    """Quartiles of the similarity to the nearest training molecule."""
    from moltide.chem.fingerprints import morgan_bits, nearest

    if len(test) > _PROBES:
        test = np.sort(np.random.default_rng(seed).choice(test, _PROBES, replace=False))
    asked, known = (morgan_bits([table.sequences[i] for i in part]) for part in (test, train))
    found = np.quantile(nearest(asked, known)[0].astype(np.float64), [0.25, 0.5, 0.75])
    return [round(float(one), 4) for one in found]
