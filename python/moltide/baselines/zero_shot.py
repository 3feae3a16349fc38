"""A zero-shot score put on the scale of a target without touching the order it gives."""

from __future__ import annotations

import numpy as np

from moltide.baselines.linear import IntArray, Problem
from moltide.baselines.result import FloatArray, TargetFit


def fit_zero_shot(
    known_rows: IntArray, known_scores: FloatArray, test: FloatArray, problem: Problem
) -> TargetFit:
    """Offset and a slope of zero or more from the measured rows among `known_rows`.

    The slope is |covariance| / variance: labels never turn the score round, so a score that
    runs against the target is reported as such. Validation rows, where their scores are in
    `known_scores`, get the same map.
    """
    y = problem.y[known_rows]
    used = ~np.isnan(y)
    binary = problem.task != "regression"
    scores, labels = known_scores[used], y[used]
    weights = problem.weights[known_rows][used]
    note = "rank of the raw score; offset and slope on the target's scale from labelled rows"
    if len(labels) < 2 or np.ptp(scores) == 0:
        centre, slope, base = float(test.mean()) if len(test) else 0.0, 1.0, 0.0
        note = "raw score, centred: too few labelled rows to put it on the target's scale"
    else:
        centre = float(np.average(scores, weights=weights))
        base = float(np.average(labels, weights=weights))
        spread = float(np.average((scores - centre) ** 2, weights=weights))
        covariance = float(np.average((scores - centre) * (labels - base), weights=weights))
        if covariance < 0:
            note += "; the score runs against the target"
        slope = max(abs(covariance) / spread, 1e-12)
        if binary:
            # Linear discriminant in one dimension: log-odds slope = mean difference / variance.
            slope = max(slope / max(base * (1 - base), 1e-6), 1e-12)
            base = float(np.log(np.clip(base, 1e-6, 1 - 1e-6) / np.clip(1 - base, 1e-6, 1)))

    def apply(values: FloatArray) -> FloatArray:
        linear = base + slope * (values - centre)
        if not binary:
            return linear
        positive = 0.5 * (1.0 + np.tanh(0.5 * linear))
        return np.stack([1.0 - positive, positive], axis=1)

    return TargetFit(apply(test), None, note, {"slope": slope, "apply": apply})
