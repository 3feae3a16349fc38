"""Descriptors of a corpus' molecules as what is learned, and how well they are predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.pretraining.corpus import Corpus
from moltide.pretraining.order import Assembler, Longs
from moltide.pretraining.windows import HiddenWindows

Floats = npt.NDArray[np.float32]
# Molecules that the scale of a descriptor is taken from, and where a normal score is cut.
_FITTED, _CUT = 20_000, 3.0
# Share of molecules that may have the same value of a descriptor worth learning.
_SAME = 0.99


def _tells(column: npt.NDArray[np.float64]) -> bool:
    """Whether at least a hundredth of the molecules differ from the commonest value."""
    known = column[~np.isnan(column)]
    if not len(known):
        return False
    return bool(np.unique(known, return_counts=True)[1].max() <= _SAME * len(column))


class DescriptorTargets:
    """Descriptors of a corpus' molecules as normal scores: ranks among training molecules, so that
    no unit and no outlier weighs more than another.

    Raises:
        DataError: the corpus has no descriptors.
    """

    def __init__(self, corpus: Corpus, records: Longs) -> None:
        from sklearn.preprocessing import QuantileTransformer

        molecules = np.unique(corpus.molecule_of[records])
        sample = molecules[:: max(1, len(molecules) // _FITTED)]
        known = np.asarray(corpus.descriptors[sample], dtype=np.float64)
        self._used = np.array([_tells(column) for column in known.T])
        count = min(1000, len(sample))
        self._scale: Any = QuantileTransformer(
            n_quantiles=count, output_distribution="normal", subsample=None
        ).fit(known[:, self._used])
        scores = self._scores(known[:, self._used])
        self._mean, self._deviation = np.nanmean(scores, axis=0), np.nanstd(scores, axis=0)

    def _scores(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.clip(self._scale.transform(values), -_CUT, _CUT))

    def of_molecules(self, corpus: Corpus, molecules: Longs) -> Floats:
        """(n, COUNT) scores, NaN for a descriptor that is unknown, or the same in nearly all."""
        values = np.asarray(corpus.descriptors[molecules], dtype=np.float64)
        scores = np.full(values.shape, np.nan, dtype=np.float32)
        used = self._scores(values[:, self._used])
        scores[:, self._used] = (used - self._mean) / self._deviation
        return scores

    def of_windows(self, corpus: Corpus, begins: Longs, lengths: Longs) -> Floats:
        """(n, COUNT) scores of windows; a piece of a molecule has none of its descriptors."""
        records = np.searchsorted(corpus.offsets, begins, side="right") - 1
        scores = self.of_molecules(corpus, corpus.molecule_of[records])
        scores[np.diff(corpus.offsets)[records] != lengths] = np.nan
        return scores

    def model_r2(self, encoder: Any, windows: HiddenWindows, batch_tokens: int = 8192) -> float:
        """R2 of what the encoder's head says of whole windows."""
        assemble = Assembler(windows.corpus)
        said = []
        for first, stop in windows.runs(batch_tokens):
            tokens, offsets = assemble(windows.begins[first:stop], windows.lengths[first:stop])
            said.append(encoder.model.predict(tokens, offsets.astype(np.int32), None))
        return self.r2(windows, np.concatenate(said))

    def r2(self, windows: HiddenWindows, predictions: npt.NDArray[np.floating]) -> float:
        """1 - squared error / squared deviation from each one's mean, over all descriptors."""
        truth = self.of_windows(windows.corpus, windows.begins, windows.lengths)
        whole = ~np.isnan(truth).all(axis=1)
        truth = truth[whole][:, self._used].astype(np.float64)
        error = truth - predictions[whole][:, self._used]
        return float(1 - np.nansum(error**2) / np.nansum((truth - np.nanmean(truth, axis=0)) ** 2))


def count_tokens(corpus: Corpus, begins: Longs, lengths: Longs) -> npt.NDArray[np.float64]:
    """(n, size) how often each token stands in each window."""
    counts = np.zeros((len(begins), len(corpus.symbols.ids)))
    for i, (begin, length) in enumerate(zip(begins.tolist(), lengths.tolist(), strict=True)):
        counts[i] = np.bincount(corpus.letters[begin : begin + length], minlength=counts.shape[1])
    return counts


def token_count_r2(
    targets: DescriptorTargets, corpus: Corpus, records: Longs, windows: HiddenWindows
) -> float:
    """R2 of the baseline: ridge regression on how often each token stands in the molecule."""
    from sklearn.linear_model import Ridge

    sample = records[:: max(1, len(records) // _FITTED)]
    begins = np.asarray(corpus.offsets[:-1][sample])
    lengths = np.diff(corpus.offsets)[sample]
    truth = np.nan_to_num(targets.of_windows(corpus, begins, lengths))
    model: Any = Ridge(alpha=1.0).fit(count_tokens(corpus, begins, lengths), truth)
    tested = count_tokens(windows.corpus, windows.begins, windows.lengths)
    return targets.r2(windows, model.predict(tested))
