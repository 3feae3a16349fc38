"""Sparse sequence features: one-hot for equal lengths, k-mer counts for ragged ones.

Both are stored as differences from a reference row (the commonest residue at each position, the
median k-mer count). A fitted intercept and every distance between rows are unchanged by that
shift, and variants of one wild type become almost empty rows, which is where the speed is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.kinds import PROTEIN, RNA
from moltide.pairs import BREAK
from moltide.pairs import lengths as chain_lengths

IntArray = npt.NDArray[np.int64]
_CHUNK = 4096  # sequences whose k-mers are in memory at once
_LIGHT = np.uint32(1 << 16)  # added to code points of light chains
RESIDUE_KMERS, NUCLEOTIDE_KMERS = (1, 2, 3), (1, 2, 3, 4)


def encode(sequences: Sequence[str]) -> tuple[npt.NDArray[np.uint32], IntArray]:
    """All characters end to end as code points (sum L,), and offsets (n + 1,). Residues of the
    light chain of a pair are letters of their own, so that features tell the chains apart."""
    lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    text = "".join(sequences)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if BREAK in text:
        breaks = np.cumsum(points == ord(BREAK))
        before = np.repeat(np.concatenate([[0], breaks])[offsets[:-1]], lengths)
        light = (breaks > before) & (points != ord(BREAK))
        points = points + _LIGHT * light.astype(np.uint32)
    return points, offsets


class _Alphabet:
    """Characters of the training sequences as 0..size-1; any other character is `size`."""

    def __init__(self, points: npt.NDArray[np.uint32]) -> None:
        self.known = np.unique(points)
        self.size = len(self.known)

    def codes(self, points: npt.NDArray[np.uint32]) -> IntArray:
        if self.size == 0:
            return np.zeros(len(points), np.int64)
        at = np.minimum(np.searchsorted(self.known, points), self.size - 1).astype(np.int64)
        return np.where(self.known[at] == points, at, self.size)


class OneHot:
    """One-hot of sequences of one length L, minus the reference row.

    Columns are the (position, residue) pairs seen in fitting plus, per position, one for residues
    not seen there. Squared Euclidean distance between two rows is twice the Hamming distance
    (residues unseen at one position count as one and the same residue).
    """

    description = "one-hot"

    def fit(self, sequences: Sequence[str]) -> OneHot:
        points, offsets = encode(sequences)
        n, length = len(sequences), int(offsets[1]) if len(offsets) > 1 else 0
        self.alphabet_ = _Alphabet(points)
        codes = self.alphabet_.codes(points).reshape(n, length)
        width = self.alphabet_.size + 1
        counts = np.zeros((length, width), np.int64)
        for start in range(0, n, 4096):
            flat = codes[start : start + 4096] + np.arange(length) * width
            counts += np.bincount(flat.ravel(), minlength=length * width).reshape(length, width)
        self.reference_ = counts.argmax(axis=1)
        seen = counts > 0
        seen[:, -1] = True
        self.column_ = np.full((length, width), -1, np.int64)
        self.column_[seen] = np.arange(int(seen.sum()))
        unseen = np.broadcast_to(self.column_[:, -1:], (length, width))
        self.column_ = np.where(seen, self.column_, unseen)
        self.n_columns_ = int(seen.sum())
        self.n_variable_ = int((counts > 0)[(counts > 0).sum(axis=1) > 1].sum())
        return self

    def transform(self, sequences: Sequence[str]) -> Any:
        """CSR float32 (n, n_columns_): +1 for the residue and -1 for the reference it replaces."""
        from scipy import sparse

        points, _ = encode(sequences)
        codes = self.alphabet_.codes(points).reshape(len(sequences), len(self.reference_))
        row, position = np.nonzero(codes != self.reference_)
        added = self.column_[position, codes[row, position]]
        removed = self.column_[position, self.reference_[position]]
        value = np.ones(len(row), np.float32)
        return sparse.csr_matrix(
            (np.r_[value, -value], (np.r_[row, row], np.r_[added, removed])),
            shape=(len(sequences), self.n_columns_),
        )


class Kmers:
    """Counts of k-mers of some lengths (here 1, 2 and 3; of nucleotides also 4), minus the median
    row of a sample of the fitted sequences.

    k-mers not seen in fitting share one column per length. Half the squared distance between two
    rows behaves like an edit distance: a substitution changes at most k k-mers of each length.
    Of pairs each chain has k-mers of its own, and none reaches from one into the other.
    """

    description = "k-mers"

    def __init__(self, lengths: tuple[int, ...] = RESIDUE_KMERS) -> None:
        self.lengths = lengths

    def fit(self, sequences: Sequence[str]) -> Kmers:
        points, _ = encode(sequences)
        self.alphabet_ = _Alphabet(points)
        self.keys_: list[IntArray] = []
        for k in self.lengths:
            keys = [np.zeros(0, np.int64)]
            for start in range(0, len(sequences), _CHUNK):
                keys.append(np.unique(self._keys(sequences[start : start + _CHUNK], k)[1]))
            self.keys_.append(np.unique(np.concatenate(keys)))
        starts = np.cumsum([0] + [len(keys) + 1 for keys in self.keys_])
        self.starts_, self.n_columns_ = starts[:-1], int(starts[-1])
        sample = sequences[:: max(1, len(sequences) // 256)]
        self.reference_ = np.zeros(self.n_columns_, np.float32)
        self.reference_ = np.median(self._counts(sample).toarray(), axis=0).round()
        self.reference_ = self.reference_.astype(np.float32)
        self.n_variable_ = self.n_columns_ - len(self.lengths)
        return self

    def transform(self, sequences: Sequence[str]) -> Any:
        """CSR float32 (n, n_columns_)."""
        from scipy import sparse

        parts = [
            self._counts(sequences[start : start + _CHUNK])
            for start in range(0, len(sequences), _CHUNK)
        ]
        if not parts:
            return sparse.csr_matrix((0, self.n_columns_), dtype=np.float32)
        return sparse.vstack(parts, format="csr")

    def _keys(self, sequences: Sequence[str], k: int) -> tuple[IntArray, IntArray]:
        """Row number and integer key of every k-mer."""
        points, offsets = encode(sequences)
        codes, base = self.alphabet_.codes(points), self.alphabet_.size + 1
        lengths = np.diff(offsets)
        row = np.repeat(np.arange(len(sequences)), lengths)
        within = np.arange(len(codes)) - offsets[row]
        fits, broken = within + k <= lengths[row], points == ord(BREAK)
        if broken.any():
            for shift in range(k):
                fits[: len(fits) - shift] &= ~broken[shift:]
        start = np.flatnonzero(fits)
        key = np.zeros(len(start), np.int64)
        for shift in range(k):
            key = key * base + codes[start + shift]
        return row[start], key

    def _counts(self, sequences: Sequence[str]) -> Any:
        """CSR float32 counts, minus the reference, without zeros."""
        from scipy import sparse

        n = len(sequences)
        usual = np.flatnonzero(self.reference_)
        rows, columns = [np.repeat(np.arange(n), len(usual))], [np.tile(usual, n)]
        values = [np.tile(-self.reference_[usual], n)]
        for k, known, first in zip(self.lengths, self.keys_, self.starts_, strict=True):
            row, key = self._keys(sequences, k)
            at = np.searchsorted(known, key)
            found = np.zeros(len(key), np.bool_)
            inside = at < len(known)
            found[inside] = known[at[inside]] == key[inside]
            rows.append(row)
            columns.append(first + np.where(found, at, len(known)))
            values.append(np.ones(len(key), np.float32))
        cells = (np.concatenate(rows), np.concatenate(columns))
        # Equal cells are added up: whole numbers, so in any order.
        table = sparse.csr_matrix((np.concatenate(values), cells), (n, self.n_columns_))
        table.eliminate_zeros()
        table.sort_indices()
        return table


def make_features(
    train: Sequence[str], other: Sequence[str], kind: str = PROTEIN
) -> OneHot | Kmers:
    """Features fitted to `train`: one-hot if `train` and `other` share one length (pairs one of
    each chain), else k-mers."""
    made = features_for(train, other)
    return OneHot().fit(train) if made is OneHot else kmers(kind).fit(train)


def features_for(train: Sequence[str], other: Sequence[str]) -> type[OneHot] | type[Kmers]:
    """What `make_features` makes."""
    lengths = {chain_lengths(s) for s in train} | {chain_lengths(s) for s in other}
    return OneHot if len(lengths) == 1 else Kmers


def kmers(kind: str) -> Kmers:
    """k-mers of a length that suits the number of letters."""
    return Kmers(NUCLEOTIDE_KMERS if kind == RNA else RESIDUE_KMERS)
