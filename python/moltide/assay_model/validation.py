"""The validation metric of a head's outputs: rank correlation, AUROC, or accuracy of residues."""

from __future__ import annotations

import numpy as np

from moltide.assay_model.spec import FloatArray, ModelSpec
from moltide.metrics import spearman


def score(spec: ModelSpec, outputs: FloatArray, targets: FloatArray) -> float:
    """Higher is better; NaN where nothing can be compared.

    Args:
        outputs: (n, outputs) of the head. targets: (n, k), NaN = not measured.

    The mean over targets of Spearman's rho (regression), AUROC (one against the rest with more
    than two classes), or for residues the share of right classes.
    """
    if spec.task == "regression":
        each = [_spearman(outputs[:, j], targets[:, j]) for j in range(targets.shape[1])]
    elif spec.level == "residue":
        each = [_accuracy(spec, outputs, targets, j) for j in range(targets.shape[1])]
    elif spec.binary:
        each = [_auroc(outputs[:, j], targets[:, j]) for j in range(targets.shape[1])]
    else:
        labels = targets[:, 0]
        one_hot = (labels[:, None] == np.arange(len(spec.classes))).astype(np.float64)
        one_hot[np.isnan(labels)] = np.nan
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        each = [_auroc(shares[:, c], one_hot[:, c]) for c in range(len(spec.classes))]
    known = [value for value in each if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


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
