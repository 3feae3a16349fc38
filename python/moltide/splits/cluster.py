"""Greedy clustering by sequence identity, for families of variable length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import ConfigError
from moltide.kinds import PROTEIN, RNA

_BATCH = 1000
_CANDIDATES = 32
# Sequences are typically so long or shorter, and k of the k-mers for each.
_LONG = 100
_K = {PROTEIN: (4, 3), RNA: (7, 6)}


def cluster_by_identity(
    sequences: Sequence[str], identity: float = 0.5, kind: str = PROTEIN
) -> npt.NDArray[np.int64]:
    """Cluster sequences so that each is at least `identity` like its cluster's representative.

    Greedy in the manner of CD-HIT (Li & Godzik 2006): sequences from long to short; each joins a
    representative that is similar enough, or becomes one. Representatives are proposed by shared
    k-mers (k = 4, or 3 where the typical sequence is below 100 residues; of RNA 7 or 6; the 32
    that share most, and at least 0.3 of what chance mutations would leave) and checked by
    alignment: identity is 1 - Levenshtein distance / length of the longer one. Unrelated proteins
    of 250 residues reach 0.2, of 50 residues 0.3, so thresholds below 0.4 mean little; unrelated
    RNA reaches 0.5, and thresholds below 0.6 mean little. Members of two clusters may be closer to
    each other than `identity` where both lie at their cluster's edge.

    Args:
        sequences: n residue strings (letters A to Z).
        identity: between 0.3 and 1.
        kind: "protein" or "rna".

    Returns:
        (n,) int64 cluster numbers from 0, numbered by first appearance.

    Raises:
        ConfigError: `identity` outside its range.
    """
    if not 0.3 <= identity <= 1:
        raise ConfigError(f"identity={identity}: expected a share between 0.3 and 1")
    if not len(sequences):
        return np.zeros(0, dtype=np.int64)
    unique, inverse = np.unique(np.array(sequences, dtype=object), return_inverse=True)
    texts: list[str] = unique.tolist()
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(-lengths, kind="stable")
    texts = [texts[i] for i in order]
    lengths = lengths[order]
    k = _K[kind][0 if np.median(lengths) >= _LONG else 1]
    owner = _greedy(texts, lengths, _kmers(texts, k), k, identity)
    of_unique = np.empty(len(texts), dtype=np.int64)
    of_unique[order] = owner
    clusters = of_unique[inverse]
    _, first, numbered = np.unique(clusters, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[numbered].astype(np.int64)


def _kmers(texts: Sequence[str], k: int) -> Any:
    """Which k-mers each sequence has: sparse (n, letters^k) of ones."""
    from scipy import sparse

    lengths = np.array([len(text) for text in texts])
    text = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8)
    known, letters = np.unique(text, return_inverse=True)
    letters, base = letters.reshape(-1).astype(np.int64), len(known)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    codes = np.zeros(max(len(letters) - k + 1, 0), dtype=np.int64)
    for shift in range(k):
        codes = codes * base + letters[shift : shift + len(codes)]
    row = np.repeat(np.arange(len(texts)), lengths)[: len(codes)]
    inside = np.arange(len(codes)) + k <= starts[row + 1]
    pairs = np.sort(row[inside] * base**k + codes[inside])
    # np.unique hashes 64-bit integers, which takes several times as long as this.
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    shape = (len(texts), base**k)
    ones = np.ones(len(pairs), dtype=np.int32)
    return sparse.csr_matrix((ones, (pairs // base**k, pairs % base**k)), shape=shape)


def _greedy(
    texts: list[str], lengths: npt.NDArray[np.int64], kmers: Any, k: int, identity: float
) -> npt.NDArray[np.int64]:
    """For each sequence the index of its representative (itself, if it is one)."""
    n = len(texts)
    owner = np.full(n, -1, dtype=np.int64)
    representatives: list[int] = []
    # A close relative keeps about length * identity^k of its k-mers when changes fall at random.
    needed = np.maximum(1, 0.3 * lengths * identity**k)
    start = 0
    while start < n:
        # Small steps at first: where one family fills the table, its head soon takes everything.
        batch = np.arange(start, min(start + min(_BATCH, 16 + start), n))
        start += len(batch)
        if representatives:
            known = np.array(representatives)
            _join(batch, known, kmers, texts, needed, identity, owner)
        fresh = batch[owner[batch] < 0]
        shared = (kmers[fresh] @ kmers[fresh].T).tocsr()
        for i, sequence in enumerate(fresh.tolist()):
            row = slice(shared.indptr[i], shared.indptr[i + 1])
            before = shared.indices[row] < i
            others, counts = fresh[shared.indices[row][before]], shared.data[row][before]
            leading = owner[others] == others
            found = _best(sequence, others[leading], counts[leading], texts, needed, identity)
            owner[sequence] = sequence if found < 0 else found
            if found < 0:
                representatives.append(sequence)
    return owner


def _join(
    batch: npt.NDArray[np.int64],
    known: npt.NDArray[np.int64],
    kmers: Any,
    texts: list[str],
    needed: npt.NDArray[np.float64],
    identity: float,
    owner: npt.NDArray[np.int64],
) -> None:
    """Let the sequences of `batch` join representatives of earlier batches."""
    shared = (kmers[batch] @ kmers[known].T).tocsr()
    for i, sequence in enumerate(batch.tolist()):
        row = slice(shared.indptr[i], shared.indptr[i + 1])
        candidates = known[shared.indices[row]]
        owner[sequence] = _best(sequence, candidates, shared.data[row], texts, needed, identity)


def _best(
    sequence: int,
    candidates: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int32],
    texts: list[str],
    needed: npt.NDArray[np.float64],
    identity: float,
) -> int:
    """The first of the candidates that share most k-mers and align well enough, or -1."""
    from rapidfuzz.distance import Levenshtein

    enough = np.flatnonzero(counts >= needed[sequence])
    if not len(enough):
        return -1
    candidates, counts = candidates[enough], counts[enough]
    if len(candidates) > _CANDIDATES:
        top = np.argpartition(-counts, _CANDIDATES)[:_CANDIDATES]
        candidates, counts = candidates[top], counts[top]
    text = texts[sequence]
    # Ties go to the earlier representative, so that the result depends on nothing else.
    for candidate in candidates[np.lexsort((candidates, -counts))].tolist():
        if Levenshtein.normalized_similarity(text, texts[candidate], score_cutoff=identity):
            return int(candidate)
    return -1
