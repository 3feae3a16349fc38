"""The baselines of pretraining: residue frequencies, and a k-mer model of both neighbours' sides.

The k-mer model predicts a residue from the two before and the two after it. Counts are taken with
residues hidden at the rate of the validation, so that it knows what a model sees: a neighbour is a
residue, hidden, or none (an end, a letter such as X). Estimates are interpolated,

    p2(x | a b . c d) = (n(a b x c d) + k2 p1(x | b . c)) / (n(a b . c d) + k2)
    p1(x | b . c)     = (n(b x c) + k1 p0(x)) / (n(b . c) + k1),   p0 = residue frequencies,

with k1 and k2 chosen from a grid by the likelihood of the counted residues, each left out once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.pretraining.corpus import Corpus
from moltide.pretraining.order import Longs
from moltide.pretraining.windows import CODES, NONE, HiddenWindows

Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]

HIDDEN, _SYMBOLS = 21, 22
_SIDE = 2
_CHUNK = 1 << 22
# Residues counted at most: a table of 22^4 contexts knows little more after that.
_COUNTED = 200_000_000
_GRID = 4.0 ** np.arange(0, 12)


@dataclass(frozen=True)
class NeighbourModel:
    """Attributes:
    frequencies: (20,) of residues. near: (22^2, 20) probabilities by the two next neighbours.
    far: (22^4, 20) counts by all four. strengths: k1, k2. residues: how many were counted.
    """

    frequencies: Doubles
    near: Doubles
    far: npt.NDArray[np.int32]
    strengths: tuple[float, float]
    residues: int

    def probabilities(self, context: Longs) -> Doubles:
        """(n, 20) for contexts as `contexts` codes them."""
        return _interpolated(self.far[context], self.near[_near_of(context)], self.strengths[1])

    def perplexities(self, windows: HiddenWindows) -> dict[str, float]:
        """Of the residue frequencies ("unigram") and of the whole model ("kmer")."""
        starts = windows.starts()
        single, whole = [], []
        for i in range(len(windows)):
            hidden = windows.hidden[starts[i] : starts[i + 1]]
            codes = CODES[windows.letters(i)]
            true = codes[hidden]
            rows = self.probabilities(contexts(codes, hidden)[hidden])
            single.append(np.log(self.frequencies[true]))
            whole.append(np.log(rows[np.arange(len(true)), true]))
        pairs = (("unigram", single), ("kmer", whole))
        return {name: float(np.exp(-np.concatenate(logs).mean())) for name, logs in pairs}


def contexts(codes: Codes, hidden: npt.NDArray[np.bool_]) -> Longs:
    """(n,) the four neighbours of each position, two on each side, as one number."""
    n = len(codes)
    seen = np.full(n + 2 * _SIDE, NONE, dtype=np.int64)
    seen[_SIDE : n + _SIDE] = np.where(hidden, HIDDEN, codes)
    coded = np.zeros(n, dtype=np.int64)
    for shift in (0, 1, 3, 4):
        coded = coded * _SYMBOLS + seen[shift : shift + n]
    return coded


def fit_neighbours(corpus: Corpus, records: Longs, rate: float, seed: int) -> NeighbourModel:
    """Count over `records` (a random part of them beyond 200 million residues)."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
    lengths = corpus.offsets[1:][records] - corpus.offsets[:-1][records]
    if lengths.sum() > _COUNTED:
        order = rng.permutation(len(records))
        kept = order[: int(np.searchsorted(np.cumsum(lengths[order]), _COUNTED)) + 1]
        records = records[np.sort(kept)]
    far = np.zeros(_SYMBOLS**4 * NONE, dtype=np.int32)
    for codes in _chunks(corpus, records):
        known = codes != NONE
        hidden = (rng.random(len(codes)) < rate) & known
        coded = (contexts(codes, hidden) * NONE + codes)[known]
        far += np.bincount(coded, minlength=len(far)).astype(np.int32)
    table = far.reshape(-1, NONE)
    # Axes: second and first neighbour before, first and second behind, residue.
    sides = (_SYMBOLS,) * 4
    near_counts = table.reshape(*sides, NONE).sum(axis=(0, 3), dtype=np.int64).reshape(-1, NONE)
    counts = near_counts.sum(axis=0)
    frequencies = (counts + 1.0) / (counts.sum() + NONE)
    first = _strength(near_counts, np.broadcast_to(frequencies, near_counts.shape))
    near = _interpolated(near_counts, frequencies[None, :], first)
    used = np.flatnonzero(table.any(axis=1))
    second = _strength(table[used], near[_near_of(used)])
    return NeighbourModel(frequencies, near, table, (first, second), int(counts.sum()))


def _chunks(corpus: Corpus, records: Longs) -> Iterator[Codes]:
    """Codes of whole records, with NONE between them, some millions at a time."""
    between = np.full(_SIDE, NONE, dtype=np.uint8)
    held: list[Codes] = []
    size = 0
    for record in records.tolist():
        letters = corpus.letters[corpus.offsets[record] : corpus.offsets[record + 1]]
        held += [CODES[letters], between]
        size += len(letters)
        if size >= _CHUNK:
            yield np.concatenate(held)
            held, size = [], 0
    if held:
        yield np.concatenate(held)


def _near_of(context: Longs) -> Longs:
    """The two next neighbours, out of all four."""
    return context // _SYMBOLS % _SYMBOLS**2


def _interpolated(counts: npt.NDArray[np.integer], backed: Doubles, strength: float) -> Doubles:
    total = counts.sum(axis=-1, keepdims=True)
    return np.asarray((counts + strength * backed) / (total + strength))


def _strength(counts: npt.NDArray[np.integer], backed: Doubles) -> float:
    """The k of the grid that makes each counted residue, itself left out, most likely."""
    row, residue = np.nonzero(counts)
    n = counts[row, residue].astype(np.float64)
    total = counts.sum(axis=1)[row].astype(np.float64)
    q = backed[row, residue]
    scores = [float((n * np.log((n - 1 + k * q) / (total - 1 + k))).sum()) for k in _GRID]
    return float(_GRID[int(np.argmax(scores))])
