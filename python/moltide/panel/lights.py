"""Traffic lights and the overall order: how surely each endpoint is as it is wanted.

A light heeds the calibrated interval, not the prediction alone: green where all of it meets the
threshold, red where none of it does, amber where it holds both, and grey where the sequence is
unlike the training sequences (those that the endpoint was measured for, where these are less than
half of them), for then the interval promises nothing. Of classes it heeds the set that stays
possible, and the likeliest one must agree: sets hold for each class by itself, and may rule out the
likelier one where the other is rare.

`meets` is the probability that the threshold is met: for numbers from the validation residuals,
taken as symmetric and scaled as the interval is; for classes the calibrated probability of the
wanted one. Their product, each to the power of its weight, is the overall score: the probability
that all are met, if the errors were independent. Rows of the training domain rank before others;
among equals the sum of the distances to the thresholds in standard deviations decides, since with
few validation rows many probabilities are the same.

Without thresholds nothing is wanted. Rows are then ordered by the mean over endpoints of the
percentile that the prediction would have among the training values (of classes, the probability of
the second one), and among equals by the mean standard score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moltide.assay_model.distribution import percentile
from moltide.panel.thresholds import Threshold

if TYPE_CHECKING:
    from moltide.assay_model import AssayModel, Prediction
    from moltide.assay_model.spec import FloatArray

GREEN, AMBER, RED, GREY = LIGHTS = ("green", "amber", "red", "grey")
# Stands for a probability that is not known.
_UNKNOWN = 0.5
# Takes a row behind all of the training domain.
_OUTSIDE = 1e9


@dataclass
class Verdicts:
    """Of n sequences.

    Attributes:
        lights: for each target with a threshold n words of `LIGHTS`.
        meets: for these targets (n,) probability that the threshold is met; NaN: not known.
        percentiles: without thresholds for each target (n,) percent, else empty.
        overall: (n,) the score by which rows are ordered; NaN: none.
        order: (n, 2): rows are ordered by these, the largest first.
    """

    lights: dict[int, list[str]]
    meets: dict[int, FloatArray]
    percentiles: dict[int, FloatArray]
    overall: FloatArray
    order: FloatArray

    def liabilities(self, row: int, names: tuple[str, ...]) -> str:
        """The endpoints of a row that are not green, the least likely to be met first."""

        def probability(target: int) -> float:
            value = float(self.meets[target][row])
            return _UNKNOWN if math.isnan(value) else value

        told = [j for j in self.lights if self.lights[j][row] != GREEN]
        told.sort(key=lambda j: (probability(j), j))
        return "; ".join(
            f"{names[j]} {self.lights[j][row]}"
            + ("" if math.isnan(self.meets[j][row]) else f" {self.meets[j][row]:.0%}")
            for j in told
        )


class PanelView:
    """Looks at predictions of `model` with thresholds by target (none: percentiles).

    Args:
        ascending: without thresholds, the lowest percentiles rank first.
    """

    def __init__(
        self, model: AssayModel, thresholds: Mapping[int, Threshold], ascending: bool = False
    ) -> None:
        self.model, self.thresholds, self.ascending = model, dict(thresholds), ascending

    @property
    def can_rank(self) -> bool:
        """Whether there is something to order rows by."""
        return bool(self.thresholds) or self.model.distribution is not None

    def look(self, found: Prediction, level: float) -> Verdicts:
        """Verdicts on a prediction made with intervals of `level` and domain notes."""
        if not self.thresholds:
            return self._by_percentile(found)
        n = len(found.values)
        inside = np.array([not note for note in found.notes] or [True] * n, dtype=bool)
        lights, meets = {}, {}
        total, margin = np.zeros(n), np.zeros(n)
        for j, threshold in self.thresholds.items():
            lights[j] = self._lights(found, j, threshold, level, inside)
            meets[j] = self._meets(found, j, threshold)
            known = np.where(np.isnan(meets[j]), _UNKNOWN, meets[j])
            total += threshold.weight * np.log(np.maximum(known, 1e-300))
            margin += threshold.weight * self._margin(found, j, threshold)
        order = np.stack([np.where(inside, total, total - _OUTSIDE), margin], axis=1)
        return Verdicts(lights, meets, {}, np.exp(total), order)

    def _lights(
        self, found: Prediction, j: int, threshold: Threshold, level: float, inside: np.ndarray
    ) -> list[str]:
        n = len(found.values)
        good, bad = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        if threshold.wanted:
            if found.sets is not None:
                classes = self.model.spec.classes_of(j)
                wanted = classes.index(threshold.wanted)
                possible = found.sets[:, j, : len(classes)]
                others = np.delete(possible, wanted, axis=1).any(axis=1)
                assert found.probabilities is not None
                likely = found.probabilities[:, j, : len(classes)].argmax(axis=1) == wanted
                good = possible[:, wanted] & ~others & likely
                bad = ~possible[:, wanted] & others & ~likely
        elif found.low is not None and found.high is not None:
            low, high = found.low[:, j], found.high[:, j]
            # Comparisons with NaN are false: without an interval a light is amber.
            good = (low > threshold.above) & (high < threshold.below)
            bad = (high <= threshold.above) | (low >= threshold.below)
        words = np.where(good, GREEN, np.where(bad, RED, AMBER))
        if j in found.target_notes:
            inside = inside & np.array([not note for note in found.target_notes[j]], dtype=bool)
        listed: list[str] = np.where(inside, words, GREY).tolist()
        return listed

    def _meets(self, found: Prediction, j: int, threshold: Threshold) -> FloatArray:
        if threshold.wanted:
            assert found.probabilities is not None
            classes = self.model.spec.classes_of(j)
            own: FloatArray = found.probabilities[:, j, classes.index(threshold.wanted)]
            return own
        unknown = np.full(len(found.values), np.nan)
        if found.std is None or self.model.uncertainty is None:
            return unknown
        residuals = self.model.uncertainty.residuals[j]
        std = found.std[:, j]
        if not len(residuals) or np.isnan(std).all():
            return unknown
        met = np.ones(len(std))
        for limit, side in ((threshold.below, 1.0), (threshold.above, -1.0)):
            if math.isfinite(limit):
                met -= 1.0 - _below(residuals, side * (limit - found.values[:, j]) / std)
        return np.where(np.isnan(std), np.nan, np.clip(met, 0.0, 1.0))

    def _margin(self, found: Prediction, j: int, threshold: Threshold) -> FloatArray:
        """How far each value is within its limits, in standard deviations; of classes the logit of
        the wanted one."""
        if threshold.wanted:
            share = np.clip(self._meets(found, j, threshold), 1e-12, 1 - 1e-12)
            logit: FloatArray = np.log(share / (1 - share))
            return logit
        values, sd = found.values[:, j], np.full(len(found.values), self.model.scaling.sd[j])
        if found.std is not None:
            sd = np.where(np.isnan(found.std[:, j]), sd, found.std[:, j])
        within = np.minimum(threshold.below - values, values - threshold.above)
        return np.asarray(within / np.maximum(sd, 1e-300), np.float64)

    def _by_percentile(self, found: Prediction) -> Verdicts:
        model, spec = self.model, self.model.spec
        percentiles: dict[int, FloatArray] = {}
        scores = []
        if model.distribution is None:
            nothing = np.full(len(found.values), np.nan)
            return Verdicts({}, {}, {}, nothing, np.stack([nothing, nothing], axis=1))
        for j in range(len(spec.target_names)):
            if spec.classes_of(j):
                assert found.probabilities is not None
                share = found.probabilities[:, j, len(spec.classes_of(j)) - 1]
                percentiles[j] = 100.0 * share
                scores.append(share)
            else:
                values = found.values[:, j]
                percentiles[j] = percentile(model.distribution, j, values)
                scores.append((values - model.scaling.mean[j]) / model.scaling.sd[j])
        overall = np.mean(list(percentiles.values()), axis=0)
        order = np.stack([overall, np.mean(scores, axis=0)], axis=1)
        return Verdicts({}, {}, percentiles, overall, -order if self.ascending else order)


def _below(residuals: FloatArray, z: FloatArray) -> FloatArray:
    """Probability that an error is below z standard deviations, from ascending |residuals| of
    validation rows and the assumption that errors of both signs are alike."""
    n = len(residuals)
    beyond = n - np.searchsorted(residuals, np.abs(z), side="left")
    tail = 0.5 * (beyond + 1) / (n + 1)
    share: FloatArray = np.where(z > 0, 1.0 - tail, tail)
    return share
