"""Baselines of RNA beside those that it shares with proteins: composition, k-mer frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moltide.baselines.dense import fit_standardised
from moltide.baselines.features import Kmers, encode
from moltide.baselines.inputs import Inputs
from moltide.baselines.result import FloatArray, TargetFit


def composition(sequences: Sequence[str]) -> FloatArray:
    """(n, 2): the share of G and C, and the natural logarithm of the length."""
    points, offsets = encode(sequences)
    counts = np.concatenate([[0], np.cumsum(np.isin(points, [ord("G"), ord("C")]))])
    lengths = np.maximum(1, np.diff(offsets))
    return np.stack([np.diff(counts[offsets]) / lengths, np.log(lengths)], axis=1)


class Frequencies:
    """k-mers for each nucleotide of length (k = 1, 2, 3), and the logarithm of the length: what
    long and short sequences can be compared by."""

    def fit(self, sequences: Sequence[str]) -> Frequencies:
        self.kmers_ = Kmers().fit(sequences)
        return self

    def transform(self, sequences: Sequence[str]) -> FloatArray:
        """(n, k-mers + 1) float64."""
        lengths = np.array([max(1, len(one)) for one in sequences], np.float64)
        counts = self.kmers_.transform(sequences).toarray() + self.kmers_.reference_
        return np.column_stack([counts / lengths[:, None], np.log(lengths)])


def fit_composition(inputs: Inputs) -> list[TargetFit]:
    """Ridge on the share of G and C and the length."""
    known, test = composition(inputs.known), composition(inputs.test)
    return fit_standardised(known, test, inputs.problems, "columns")


def fit_frequencies(inputs: Inputs) -> list[TargetFit]:
    """Ridge on k-mer frequencies and the length."""
    made = Frequencies().fit(inputs.known)
    known, test = made.transform(inputs.known), made.transform(inputs.test)
    return fit_standardised(known, test, inputs.problems, "columns")
