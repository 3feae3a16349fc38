"""The baselines of pretraining: residue frequencies, and a k-mer model of both neighbours' sides.

The k-mer model predicts a residue from the two before and the two after it. Counts are taken with
residues hidden at the rate of the validation, so that it knows what a model sees: a neighbour is a
residue, hidden, or none (an end, a letter such as X). Of molecules' tokens the 20 most frequent are
told apart as neighbours; all are predicted. Estimates are interpolated,

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
from moltide.pretraining.windows import HiddenWindows

Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

# What a neighbour can be: one of 20, none of them, or hidden.
NONE, HIDDEN, _SYMBOLS = 20, 21, 22
_SIDE = 2
_CHUNK = 1 << 22
# Residues counted at most: a table of 22^4 contexts knows little more after that.
_COUNTED = 200_000_000
_GRID = 4.0 ** np.arange(0, 12)


@dataclass(frozen=True)
class NeighbourModel:
    """Attributes:
    frequencies: (n,) of what is predicted. near: (22^2, n) probabilities by the two next
        neighbours. far: (22^4, n) counts by all four. strengths: k1, k2.
    residues: how many were counted. seen: (n + 1,) what each is as a neighbour.
    """

    frequencies: Doubles
    near: Doubles
    far: npt.NDArray[np.int32]
    strengths: tuple[float, float]
    residues: int
    seen: Codes

    def probabilities(self, context: Longs) -> Doubles:
        """(m, n) for m contexts as `contexts` codes them."""
        return _interpolated(self.far[context], self.near[_near_of(context)], self.strengths[1])

    def perplexities(self, windows: HiddenWindows) -> dict[str, float]:
        """Of the residue frequencies ("unigram") and of the whole model ("kmer")."""
        starts, symbols = windows.starts(), windows.corpus.symbols
        single, whole = [], []
        for i in range(len(windows)):
            hidden = windows.hidden[starts[i] : starts[i + 1]]
            codes = symbols.codes[windows.letters(i)]
            true = codes[hidden]
            rows = self.probabilities(contexts(self.seen[codes], hidden)[hidden])
            single.append(np.log(self.frequencies[true]))
            whole.append(np.log(rows[np.arange(len(true)), true]))
        pairs = (("unigram", single), ("kmer", whole))
        return {name: float(np.exp(-np.concatenate(logs).mean())) for name, logs in pairs}


def contexts(codes: Codes, hidden: npt.NDArray[np.bool_]) -> Longs:
    """(n,) the four neighbours of each position, two on each side, as one number; `codes` are what
    each is as a neighbour."""
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
    n = len(corpus.symbols.predicted)
    seen = _neighbours(corpus, records)
    far = np.zeros(_SYMBOLS**4 * n, dtype=np.int32)
    for codes in _chunks(corpus, records):
        known = codes != n
        hidden = (rng.random(len(codes)) < rate) & known
        coded = (contexts(seen[codes], hidden) * n + codes)[known]
        np.add.at(far, coded, 1)
    table = far.reshape(-1, n)
    # Axes: second and first neighbour before, first and second behind, residue.
    sides = (_SYMBOLS,) * 4
    near_counts = table.reshape(*sides, n).sum(axis=(0, 3), dtype=np.int64).reshape(-1, n)
    counts = near_counts.sum(axis=0)
    frequencies = (counts + 1.0) / (counts.sum() + n)
    first = _strength(near_counts, np.broadcast_to(frequencies, near_counts.shape))
    near = _interpolated(near_counts, frequencies[None, :], first)
    used = np.flatnonzero(table.any(axis=1))
    second = _strength(table[used], near[_near_of(used)])
    return NeighbourModel(frequencies, near, table, (first, second), int(counts.sum()), seen)


def _neighbours(corpus: Corpus, records: Longs) -> Codes:
    """(n + 1,) what each predicted symbol is as a neighbour: the 20 most frequent apart."""
    n = len(corpus.symbols.predicted)
    seen = np.full(n + 1, NONE, dtype=np.int64)
    if n <= NONE:
        seen[:n] = np.arange(n)
        return seen
    counts = np.zeros(n + 1, dtype=np.int64)
    for codes in _chunks(corpus, records):
        counts += np.bincount(codes, minlength=n + 1)
    frequent = np.argsort(-counts[:n], kind="stable")[:NONE]
    seen[frequent] = np.arange(NONE)
    return seen


def _chunks(corpus: Corpus, records: Longs) -> Iterator[Codes]:
    """Codes of whole records, with n (no symbol) between them, some millions at a time."""
    between = np.full(_SIDE, len(corpus.symbols.predicted), dtype=np.int64)
    held: list[Codes] = []
    size = 0
    for record in records.tolist():
        letters = corpus.letters[corpus.offsets[record] : corpus.offsets[record + 1]]
        held += [corpus.symbols.codes[letters], between]
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
