"""A linear head that starts at the ridge solution on the frozen representation.

Variants of one protein differ little in their pooled representation, so a head that starts near
zero learns for many epochs before the encoder sees a useful gradient. Probing first and fine-tuning
from there (Kumar et al. 2022, arXiv:2202.10054) skips that, and distorts the representation less.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moltide.assay_model.preparation import Preparation
from moltide.assay_model.rows import Rows
from moltide.baselines.linear import Problem, choose_penalty, logistic_fits
from moltide.kinds import MOLECULE
from moltide.tasks import REGRESSION

# Penalties tried, as shares of the largest squared singular value.
_PENALTIES = np.logspace(-7, 1, 33)
# Penalties of the logistic ridge, for columns of unit variance.
_LOGISTIC_PENALTIES = np.logspace(0, 4, 5)
_FEWEST_OF_A_CLASS = 3
# Molecules that are predicted have other scaffolds than those left out one by one: among penalties
# whose errors differ by chance the strongest carries over best.
_STANDARD_ERRORS = {MOLECULE: 1.0}


def start_head(ready: Preparation, train: Rows, most: int) -> None:
    """Set weight and bias of the linear head: a ridge a target, logistic for classes; from at most
    `most` rows.

    Rows without weight and values that are not measured are left out; bounds enter as values.
    """
    encoder, width = ready.encoder, ready.encoder.width
    rng = np.random.default_rng(int(ready.settings.seed))
    rows = np.arange(len(train))
    if train.weights is not None:
        rows = rows[train.weights > 0]
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    texts = [train.sequences[i] for i in rows]
    table = np.asarray(encoder.embed(texts, ready.settings.pool), np.float64)
    targets = ready.data.targets[rows].astype(np.float64)
    of_rows = np.ones(len(rows)) if train.weights is None else train.weights[rows]
    spec, slack = ready.spec, _STANDARD_ERRORS.get(encoder.tokenizer.kind, 0.0)
    out = np.zeros((spec.outputs, width), np.float32)
    bias = np.zeros(spec.outputs, np.float32)
    for j in range(targets.shape[1]):
        known = ~np.isnan(targets[:, j])
        weights = of_rows * ready.weighting.of_classes(j, targets[:, j])
        x, y, w = table[known], targets[known, j], weights[known]
        if spec.task_of(j) == REGRESSION:
            out[j], bias[j] = ridge(x, y, w, slack)
        elif spec.binary:
            slope, offset = logistic_ridge(x, y.astype(np.int64), w, 2)
            out[j], bias[j] = slope[1] - slope[0], offset[1] - offset[0]
        else:
            slope, offset = logistic_ridge(x, y.astype(np.int64), w, len(spec.classes))
            out[:], bias[:] = slope, offset
    encoder.model.set_parameter("head.out.weight", out)
    encoder.model.set_parameter("head.out.bias", bias)


def ridge(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    slack: float = 0.0,
) -> tuple[npt.NDArray[np.float64], float]:
    """(slope (C,), intercept) of a weighted ridge of least leave-one-out error, or with the
    strongest penalty whose error is at most `slack` standard errors above it (Breiman et al. 1984).
    """
    if len(y) < 3:
        return np.zeros(x.shape[1]), float(y.mean()) if len(y) else 0.0
    total = weights.sum()
    centre, middle = weights @ x / total, float(weights @ y / total)
    root = np.sqrt(weights / weights.mean())
    u, s, vt = np.linalg.svd((x - centre) * root[:, None], full_matrices=False)
    if s[0] <= 0:
        return np.zeros(x.shape[1]), middle
    z = (y - middle) * root
    projected, squared = u.T @ z, u**2
    # What no penalty lets the rows say: of each row's value, and of its own weight in its fit.
    beyond = z - u @ projected
    # The intercept takes one degree of freedom from all rows together.
    apart = 1 - weights / total - squared.sum(axis=1)
    penalties = _PENALTIES * s[0] ** 2
    errors, spread = np.zeros(len(penalties)), np.zeros(len(penalties))
    for i, penalty in enumerate(penalties):
        # Sums of what is left, not what is taken from 1: with more columns than rows both the
        # error and its denominator are next to nothing.
        left = penalty / (s**2 + penalty)
        free = np.maximum(apart + squared @ left, 1e-12)
        of_rows = ((beyond + u @ (left * projected)) / free) ** 2
        errors[i], spread[i] = of_rows.mean(), of_rows.std() / np.sqrt(len(y))
    least = int(errors.argmin())
    chosen = penalties[least]
    if slack:
        chosen = penalties[np.flatnonzero(errors <= errors[least] + slack * spread[least])[-1]]
    slope = vt.T @ (s / (s**2 + chosen) * projected)
    return slope, middle - float(slope @ centre)


def logistic_ridge(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    n_classes: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(slopes (n_classes, C), intercepts (n_classes,)) of a logistic ridge; softmax of the outputs
    gives the shares. The penalty has the least cross-validated log loss.

    With too few rows of a class for that, slopes are 0 and intercepts the log shares.
    """
    counts = np.bincount(y, weights, minlength=n_classes)
    # A class that no row shows keeps half a row, so that its logit is finite.
    slopes, shares = np.zeros((n_classes, x.shape[1])), np.log(np.maximum(counts, 0.5))
    present = np.unique(y)
    if len(present) < 2 or np.bincount(y)[present].min() < _FEWEST_OF_A_CLASS:
        return slopes, shares - shares.mean()
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9 * max(1e-300, float(scale.max())), scale, np.inf)
    z = (x - centre) / scale
    nothing_held_out = np.zeros(len(y), dtype=bool)
    problem = Problem(
        y.astype(np.float64), weights, nothing_held_out, None, "classification", n_classes, 0
    )
    index, _ = choose_penalty(z, problem, _LOGISTIC_PENALTIES)
    best = next(logistic_fits(z, y, weights, _LOGISTIC_PENALTIES[index : index + 1]))
    coefficients, intercepts = best.coef_, best.intercept_
    if len(present) == 2:  # one row, of the second class against the first
        coefficients = np.vstack([-coefficients / 2, coefficients / 2])
        intercepts = np.array([-intercepts[0] / 2, intercepts[0] / 2])
    slopes[present] = coefficients / scale
    offsets = shares - shares[present].mean()
    offsets[present] = intercepts - slopes[present] @ centre
    return slopes, offsets
