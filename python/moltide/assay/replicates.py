"""Repeated measurements of one sequence: merged, their noise pooled, contradictions found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moltide.assay.values import CensorArray, FloatArray

IntArray = npt.NDArray[np.int64]
# A group whose SD exceeds the typical one this many times is called a contradiction.
CONFLICT_SDS = 5.0
_MIN_SPREAD_GROUPS = 5


@dataclass
class Merged:
    """One target after merging; arrays are (groups,).

    `sd` is the pooled SD of one reading (None without repeats), from `sd_groups` groups with
    `sd_freedom` degrees of freedom; `conflicts` are groups whose exact readings contradict each
    other, `bound_conflicts` groups whose bounds do.
    """

    values: FloatArray
    censor: CensorArray
    count: IntArray
    sd: float | None = None
    sd_freedom: int = 0
    sd_groups: int = 0
    conflicts: list[int] = field(default_factory=list)
    bound_conflicts: list[int] = field(default_factory=list)


def merge_readings(
    groups: IntArray,
    n_groups: int,
    values: FloatArray,
    censor: CensorArray,
    how: str = "mean",
    fresh: npt.NDArray[np.bool_] | None = None,
) -> Merged:
    """Merge readings by group.

    Exact readings are averaged (`how` = "mean" or "median"). A group of bounds alone keeps the
    tightest (the largest `>`, the smallest `<`); bounds beside exact readings add nothing unless
    the two contradict, which is reported.

    Args:
        groups: (m,) group of each reading; values: (m,) without NaN; censor: (m,) -1, 0, +1.
        fresh: (m,) False for a copied row, which is no second measurement: it counts neither as a
            reading nor for the noise.
    """
    exact = censor == 0
    g, v = groups[exact], values[exact]
    counted = groups if fresh is None else groups[fresh]
    count = np.bincount(counted, minlength=n_groups)
    n_exact = np.bincount(g, minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(g, weights=v, minlength=n_groups) / n_exact
    centre = _medians(g, v, n_groups) if how == "median" else mean
    result = Merged(centre, np.zeros(n_groups, dtype=np.int8), count.astype(np.int64))
    own, w = (g, v) if fresh is None else (g[fresh[exact]], v[fresh[exact]])
    n_own = np.bincount(own, minlength=n_groups)
    freedom = int((n_own[n_own > 1] - 1).sum())
    if freedom:
        with np.errstate(invalid="ignore", divide="ignore"):
            centres = np.bincount(own, weights=w, minlength=n_groups) / n_own
        residual = w - centres[own]
        # Taking the square root last keeps equal repeats at exactly zero noise.
        result.sd = float(np.sqrt((residual**2).sum() / freedom))
        result.sd_freedom = freedom
        result.sd_groups = int((n_own > 1).sum())
        result.conflicts = _contradictions(own, w, n_own)
    if not exact.all():
        _merge_bounds(result, groups[~exact], values[~exact], censor[~exact], n_exact)
    return result


def _medians(g: IntArray, v: FloatArray, n_groups: int) -> FloatArray:
    import pandas as pd

    medians = pd.Series(v).groupby(g).median()
    result = np.full(n_groups, np.nan)
    result[medians.index.to_numpy()] = medians.to_numpy()
    return result


def _contradictions(g: IntArray, v: FloatArray, n_exact: IntArray) -> list[int]:
    """Groups whose readings scatter far beyond the noise that the others show.

    With too few scattering groups to know the noise, a group contradicts itself when its SD
    exceeds that of all values.
    """
    spread_of_all = float(v.std())
    repeated = n_exact[g] > 1
    g, v = g[repeated], v[repeated]
    groups, index = np.unique(g, return_inverse=True)
    size = np.bincount(index)
    mean = np.bincount(index, weights=v) / size
    sd = np.sqrt(np.bincount(index, weights=(v - mean[index]) ** 2) / (size - 1))
    scattering = sd > 1e-9 * spread_of_all
    limit = spread_of_all
    if scattering.sum() >= _MIN_SPREAD_GROUPS:
        # The median of the groups' SDs, scaled as for pairs of readings (half-normal).
        limit = CONFLICT_SDS * 1.4826 * float(np.median(sd[scattering]))
    return [int(group) for group in groups[scattering & (sd > limit)]]


def _merge_bounds(
    result: Merged, groups: IntArray, values: FloatArray, censor: CensorArray, n_exact: IntArray
) -> None:
    n = len(n_exact)
    above = np.full(n, -np.inf)
    below = np.full(n, np.inf)
    np.maximum.at(above, groups[censor > 0], values[censor > 0])
    np.minimum.at(below, groups[censor < 0], values[censor < 0])
    has_exact = n_exact > 0
    only_above = ~has_exact & np.isfinite(above)
    only_below = ~has_exact & np.isfinite(below) & ~only_above
    result.values[only_above] = above[only_above]
    result.censor[only_above] = 1
    result.values[only_below] = below[only_below]
    result.censor[only_below] = -1
    both = ~has_exact & np.isfinite(above) & np.isfinite(below)
    # Bounds from both sides enclose the value: the middle is the best exact stand-in.
    result.values[both] = (above[both] + below[both]) / 2
    result.censor[both] = 0
    wrong = (has_exact & ((result.values < above) | (result.values > below))) | (
        both & (above > below)
    )
    result.bound_conflicts = [int(group) for group in np.flatnonzero(wrong)]


@dataclass
class MergedLabels:
    """Class indices after merging, (groups,) float64 with NaN; `ties` have no majority."""

    values: FloatArray
    count: IntArray
    conflicts: list[int] = field(default_factory=list)
    ties: list[int] = field(default_factory=list)


def merge_labels(groups: IntArray, n_groups: int, values: FloatArray) -> MergedLabels:
    """Majority class of each group; a tie has no label (NaN) and is reported."""
    count = np.bincount(groups, minlength=n_groups).astype(np.int64)
    n_classes = int(values.max()) + 1 if len(values) else 1
    votes = np.zeros((n_groups, n_classes), dtype=np.int64)
    np.add.at(votes, (groups, values.astype(np.int64)), 1)
    top = votes.max(axis=1)
    merged = np.where(top > 0, votes.argmax(axis=1).astype(np.float64), np.nan)
    conflicts = np.flatnonzero((votes > 0).sum(axis=1) > 1)
    tied = np.flatnonzero(((votes == top[:, None]).sum(axis=1) > 1) & (top > 0))
    merged[tied] = np.nan
    return MergedLabels(merged, count, [int(i) for i in conflicts], [int(i) for i in tied])


def best_correlation(values: FloatArray, count: IntArray, sd: float) -> float | None:
    """Highest Pearson correlation a perfect model could reach with these merged values.

    sqrt(1 - noise / total): noise is `sd`^2 averaged over how many readings stand behind each
    value, total the variance of the values. None when the values do not vary.
    """
    known = ~np.isnan(values) & (count > 0)
    if known.sum() < 2:
        return None
    total = float(values[known].var(ddof=1))
    if total <= 0:
        return None
    noise = sd**2 * float((1 / count[known]).mean())
    return float(np.sqrt(max(0.0, 1 - noise / total)))
