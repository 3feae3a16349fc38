"""Shares of a table: how many sequences each part gets, and groups that stay together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moltide.assay.options import MIN_SEQUENCES
from moltide.errors import ConfigError, DataError

Index = npt.NDArray[np.int64]
Labels = npt.NDArray[np.str_]
PARTS = ("train", "valid", "test")
_SMALL_TABLE = 100


def checked_fractions(
    fractions: tuple[float, float, float] | None, n: int
) -> tuple[float, float, float]:
    """The shares of train, valid and test: as given, else 0.8/0.1/0.1 (0.6/0.2/0.2 below 100).

    Raises:
        ConfigError: not three positive shares that add up to 1.
        DataError: fewer than 10 sequences.
    """
    if n < MIN_SEQUENCES:
        raise DataError(
            f"{n} usable sequences: train, valid and test need at least {MIN_SEQUENCES} together"
        )
    if fractions is None:
        return (0.6, 0.2, 0.2) if n < _SMALL_TABLE else (0.8, 0.1, 0.1)
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"fractions={fractions}: expected three positive shares that sum to 1")
    return fractions


def fill_by_group(
    groups: npt.NDArray[np.int64],
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
    classes: npt.NDArray[np.float64] | None = None,
) -> Labels | None:
    """Labels that keep groups together; None if there are too few groups, or too large ones.

    Groups are drawn at random; each fills test, then valid, as long as it fits, and stays in
    train otherwise. With `classes` (class index, NaN = unknown) up to 100 draws are tried for one
    in which every part holds every class.
    """
    sizes = np.bincount(groups)
    if len(sizes) < 3:
        return None
    best: Labels | None = None
    for _ in range(100 if classes is not None else 1):
        labels = _draw(groups, sizes, fractions, rng)
        if labels is None:
            return best
        if classes is None or every_class_everywhere(labels, classes):
            return labels
        best = labels if best is None else best
    return best


def _draw(
    groups: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> Labels | None:
    n = len(groups)
    part_of = np.full(len(sizes), "train", dtype="<U5")
    free = rng.permutation(len(sizes)).tolist()
    for part, share in (("test", fractions[2]), ("valid", fractions[1])):
        aim, filled, left = share * n, 0, []
        for group in free:
            # A group may overshoot the aim by a quarter; a larger one is train's.
            if filled < aim and filled + sizes[group] <= max(1.25 * aim, 1):
                part_of[group] = part
                filled += int(sizes[group])
            else:
                left.append(group)
        if not filled:
            smallest = min(left, key=lambda group: (sizes[group], group))
            part_of[smallest] = part
            left.remove(smallest)
        free = left
    labels = part_of[groups]
    # Where whole families dominate, a part may swallow too much: then there is no such split.
    if (labels == "train").mean() < 0.5 * fractions[0]:
        return None
    return labels


def fill_largest_first(
    groups: npt.NDArray[np.int64], fractions: tuple[float, float, float]
) -> Labels:
    """Labels by the convention of MoleculeNet (Wu 2018): groups from the largest to the smallest
    (of two alike, the one that appears later) go to train while they fit in, then to valid, and
    all others to test. The same whatever the seed; a part may stay empty."""
    n = len(groups)
    sizes = np.bincount(groups)
    first = np.full(len(sizes), n)
    np.minimum.at(first, groups, np.arange(n))
    train = valid = 0
    part_of = np.full(len(sizes), "test", dtype="<U5")
    for group in np.lexsort((-first, -sizes)).tolist():
        size = int(sizes[group])
        if train + size <= fractions[0] * n:
            part_of[group] = "train"
            train += size
        elif train + valid + size <= (fractions[0] + fractions[1]) * n:
            part_of[group] = "valid"
            valid += size
    return part_of[groups]


def every_class_everywhere(labels: Labels, classes: npt.NDArray[np.float64]) -> bool:
    known = np.unique(classes[~np.isnan(classes)])
    return all(
        len(np.unique(classes[(labels == part) & ~np.isnan(classes)])) == len(known)
        for part in PARTS
    )


def fill_at_random(
    n: int,
    fractions: tuple[float, float, float],
    seed: int,
    classes: npt.NDArray[np.float64] | None = None,
) -> Labels:
    """Labels drawn at random, classes in equal shares where each has enough members."""
    from sklearn.model_selection import train_test_split

    def halves(index: npt.NDArray[np.int64], size: int) -> tuple[Index, Index]:
        stratify = None
        if classes is not None:
            counts = np.unique(classes[index], return_counts=True)[1]
            if np.isnan(classes[index]).sum() == 0 and counts.min() >= 2 and size >= len(counts):
                stratify = classes[index]
        first, second = train_test_split(
            index, test_size=size, random_state=seed, stratify=stratify
        )
        return first, second

    rest, test = halves(np.arange(n), max(1, round(fractions[2] * n)))
    train, valid = halves(rest, max(1, round(fractions[1] * n)))
    labels = np.empty(n, dtype="<U5")
    labels[train], labels[valid], labels[test] = PARTS
    return labels
