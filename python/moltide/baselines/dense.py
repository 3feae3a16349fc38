"""Linear models on dense columns of any scale: descriptors, frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moltide.baselines.linear import Problem, fit_linear
from moltide.baselines.result import FloatArray, TargetFit

#: For columns of standard deviation 1.
PENALTIES = np.logspace(-1, 6, 15)
LOGISTIC_PENALTIES = np.logspace(-1, 4, 6)
# Larger numbers are accidents of a formula.
_LARGEST = 1e6
# Standard deviations: what lies beyond is taken to lie there.
CLIP = 5.0


class Standardised:
    """Columns of mean 0 and standard deviation 1 over the fitted rows, within `CLIP` of 0.

    What is not finite, or beyond all reason, becomes the column's median; columns that do not vary
    are left out.
    """

    def fit(self, table: FloatArray) -> Standardised:
        """Learn from (n, p) rows, n at least 1."""
        table = _sane(table)
        self.usable_ = np.flatnonzero(np.isfinite(table).any(axis=0))
        table = table[:, self.usable_]
        self.median_ = np.nanmedian(table, axis=0)
        table = np.where(np.isnan(table), self.median_, table)
        self.mean_, sd = table.mean(axis=0), table.std(axis=0)
        varied = sd > 1e-9 * np.maximum(1.0, np.abs(self.mean_))
        self.usable_, self.median_ = self.usable_[varied], self.median_[varied]
        self.mean_, self.sd_ = self.mean_[varied], sd[varied]
        return self

    def transform(self, table: FloatArray) -> FloatArray:
        """(m, usable columns) float64, finite."""
        table = _sane(table)[:, self.usable_]
        table = np.where(np.isnan(table), self.median_, table)
        clipped: FloatArray = np.clip((table - self.mean_) / self.sd_, -CLIP, CLIP)
        return clipped


def _sane(table: FloatArray) -> FloatArray:
    return np.where(np.abs(table) <= _LARGEST, table, np.nan)


def fit_standardised(
    known: FloatArray, test: FloatArray, problems: Sequence[Problem], what: str
) -> list[TargetFit]:
    """Ridge or logistic ridge for each target, on columns standardised over all known rows; `what`
    the columns are."""
    made = Standardised().fit(known)
    known, test = made.transform(known), made.transform(test)
    penalties = PENALTIES if problems[0].task == "regression" else LOGISTIC_PENALTIES
    fits = [fit_linear(known, test, one, penalties) for one in problems]
    for fit in fits:
        fit.note += f"; {known.shape[1]:,} standardised {what}, cut off at {CLIP:g} deviations"
    return fits
