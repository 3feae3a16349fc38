"""A regression head that starts at the ridge solution on the frozen representation.

Variants of one protein differ little in their pooled representation, so a head that starts near
zero learns for many epochs before the encoder sees a useful gradient. Probing first and fine-tuning
from there (Kumar et al. 2022, arXiv:2202.10054) skips that, and distorts the representation less.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from moltide.assay_model.preparation import Preparation
from moltide.assay_model.rows import Rows

_MOST_ROWS = 4000
# Penalties tried, as shares of the largest squared singular value.
_PENALTIES = np.logspace(-7, 1, 33)


def start_head(ready: Preparation, train: Rows) -> None:
    """Set weight and bias of the linear head, one ridge a target, the penalty by leaving one out.

    Rows without weight and values that are not measured are left out; bounds enter as values.
    """
    encoder, width = ready.encoder, ready.encoder.width
    rng = np.random.default_rng(int(ready.settings.seed))
    rows = np.arange(len(train))
    if train.weights is not None:
        rows = rows[train.weights > 0]
    if len(rows) > _MOST_ROWS:
        rows = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
    texts = [train.sequences[i] for i in rows]
    table = np.asarray(encoder.embed(texts, ready.settings.pool), np.float64)
    targets = ready.data.targets[rows].astype(np.float64)
    weights = np.ones(len(rows)) if train.weights is None else train.weights[rows]
    out = np.zeros((targets.shape[1], width), np.float32)
    bias = np.zeros(targets.shape[1], np.float32)
    for j in range(targets.shape[1]):
        known = ~np.isnan(targets[:, j])
        slope, offset = ridge(table[known], targets[known, j], weights[known])
        out[j], bias[j] = slope, offset
    encoder.model.set_parameter("head.out.weight", out)
    encoder.model.set_parameter("head.out.bias", bias)


def ridge(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], float]:
    """(slope (C,), intercept) of a weighted ridge of least leave-one-out error."""
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
    best = (np.inf, np.zeros_like(s))
    for penalty in _PENALTIES * s[0] ** 2:
        shrink = s**2 / (s**2 + penalty)
        # The intercept takes one degree of freedom from every row.
        leverage = np.minimum(squared @ shrink + 1 / len(y), 0.999)
        error = float(np.mean(((z - u @ (shrink * projected)) / (1 - leverage)) ** 2))
        if error < best[0]:
            best = (error, s / (s**2 + penalty) * projected)
    slope = vt.T @ best[1]
    return slope, middle - float(slope @ centre)
