"""The validation metric of a head's outputs: rank correlation, AUROC, or accuracy of residues.

Of several targets it is the mean of each one's, on one scale where they are of both kinds:
Spearman's rho and 2 AUROC - 1 are 0 for chance and 1 at best. Targets with few validation rows
would add more noise than they say: those with fewer than 10 values, or 3 of a class, are left out
of the mean, unless no target has more.
"""

from __future__ import annotations

import numpy as np

from moltide.assay_model.spec import FloatArray, ModelSpec
from moltide.metrics import spearman
from moltide.tasks import CLASSIFICATION, MIXED, REGRESSION

# Validation values of a target, and of each of its classes, from which it counts in the mean.
_ENOUGH, _ENOUGH_OF_A_CLASS = 10, 3


def score(spec: ModelSpec, outputs: FloatArray, targets: FloatArray) -> float:
    """Higher is better; NaN where nothing can be compared.

    Args:
        outputs: (n, outputs) of the head. targets: (n, k), NaN = not measured.

    The mean over targets of Spearman's rho (regression), AUROC (one against the rest with more
    than two classes), both on one scale (mixed), or for residues the share of right classes.
    """
    columns = judged(spec, targets)
    if spec.level == "residue" and spec.task == CLASSIFICATION:
        each = [_accuracy(spec, outputs, targets, j) for j in columns]
    elif spec.task != CLASSIFICATION or spec.binary:
        each = [_target_score(spec, j, outputs[:, j], targets[:, j]) for j in columns]
    else:
        labels = targets[:, 0]
        one_hot = (labels[:, None] == np.arange(len(spec.classes))).astype(np.float64)
        one_hot[np.isnan(labels)] = np.nan
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        each = [_auroc(shares[:, c], one_hot[:, c]) for c in range(len(spec.classes))]
    known = [value for value in each if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def judged(spec: ModelSpec, targets: FloatArray) -> list[int]:
    """Targets with validation rows enough to be part of the mean."""
    known = ~np.isnan(targets)
    enough = []
    for j in range(targets.shape[1]):
        few = known[:, j].sum() < _ENOUGH
        if spec.task_of(j) == CLASSIFICATION:
            counts = np.bincount(targets[known[:, j], j].astype(np.int64), minlength=2)
            few = few or counts.min() < _ENOUGH_OF_A_CLASS
        if not few:
            enough.append(j)
    return enough or list(range(targets.shape[1]))


def _target_score(
    spec: ModelSpec, target: int, prediction: FloatArray, measured: FloatArray
) -> float:
    if spec.task_of(target) == REGRESSION:
        return _spearman(prediction, measured)
    area = _auroc(prediction, measured)
    return 2 * area - 1 if spec.task == MIXED else area


def _spearman(prediction: FloatArray, target: FloatArray) -> float:
    known = ~np.isnan(target)
    return spearman(target[known], prediction[known])


def _auroc(prediction: FloatArray, label: FloatArray) -> float:
    """Mann-Whitney's U over the number of pairs; ties count half."""
    from scipy.stats import rankdata

    known = ~np.isnan(label)
    positive = label[known] == 1
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    ranks = rankdata(prediction[known])
    u = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    return u / (n_positive * n_negative)


def _accuracy(spec: ModelSpec, outputs: FloatArray, targets: FloatArray, column: int) -> float:
    known = ~np.isnan(targets[:, column])
    if not known.any():
        return float("nan")
    if spec.binary:
        chosen = (outputs[known, column] > 0).astype(np.float64)
    else:
        chosen = outputs[known].argmax(axis=1).astype(np.float64)
    return float(np.mean(chosen == targets[known, column]))
