"""What is held out of training: by cluster, or copies of a validation file's sequences."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.atomic import atomic_write_bytes
from moltide.errors import DataError
from moltide.options import option
from moltide.pretraining.corpus import Corpus
from moltide.pretraining.order import Longs

# Clustering by alignment holds all sequences in memory and takes a while.
MOST_CLUSTERED = 250_000


@dataclass(frozen=True)
class Parts:
    """Records of the training corpus by use.

    `held_out` and `clusters`, one a held-out record, are empty where validation has a file of its
    own; `copies` counts training records left out because a validation record is the same.
    """

    train: Longs
    held_out: Longs
    clusters: Longs
    copies: int
    lines: list[str]


def all_clusters(
    corpus: Corpus, identity: float | None, keep: bool = True
) -> npt.NDArray[np.int64]:
    """(N,) cluster of each record: of the column, or by sequence identity.

    Args:
        identity: None: as usual for the kind (`splits.methods.IDENTITY`).
        keep: write what was found beside the corpus.

    Raises:
        DataError: too many records to cluster here.
    """
    if corpus.clusters is not None:
        return np.unique(np.asarray(corpus.clusters), return_inverse=True)[1].astype(np.int64)
    if len(corpus) > MOST_CLUSTERED:
        raise DataError(
            f"{len(corpus):,} sequences are too many to cluster here (at most {MOST_CLUSTERED:,}); "
            f"give their clusters ({option('cluster')}: a column, from MMseqs2 or UniRef, say), or "
            f"a validation file ({option('valid')})"
        )
    from moltide.splits.cluster import cluster_by_identity

    kind = corpus.symbols.kind
    identity = _identity_of(corpus, identity)
    # Beside the corpus, so that a resumed run does not wait for it again.
    kept = corpus.folder / f"identity-{identity:g}.clusters"
    if kept.is_file() and kept.stat().st_size == 8 * len(corpus):
        return np.fromfile(kept, dtype="<i8")
    found = cluster_by_identity([corpus.text(i) for i in range(len(corpus))], identity, kind)
    if keep:
        atomic_write_bytes(kept, found.astype("<i8").tobytes())
    return found


def _identity_of(corpus: Corpus, identity: float | None) -> float:
    from moltide.splits.methods import IDENTITY

    return IDENTITY[corpus.symbols.kind] if identity is None else identity


def hold_out(clusters: npt.NDArray[np.int64], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) which records are held out: whole clusters at random, up to `share` of the records.

    A cluster that would go beyond the share is passed over, so that large families are trained on.

    Raises:
        DataError: no cluster is small enough.
    """
    sizes = np.bincount(clusters)
    order = np.random.Generator(np.random.Philox(key=[seed, 3])).permutation(len(sizes))
    room = max(1, round(share * len(clusters)))
    picked = np.zeros(len(sizes), dtype=bool)
    for cluster, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        if size <= room:
            picked[cluster] = True
            room -= size
        if not room:
            break
    held = picked[clusters]
    if not held.any() or held.all():
        raise DataError(
            f"{len(clusters):,} sequences in {len(sizes):,} clusters (the smallest of "
            f"{sizes.min():,}): none can be held out within {share:.1%}; raise "
            f"{option('holdout')}, or give a validation file ({option('valid')})"
        )
    return held


def split_parts(
    corpus: Corpus,
    valid: Corpus | None,
    share: float,
    identity: float | None,
    seed: int,
    keep: bool = True,
) -> Parts:
    """Training and held-out records; `keep` writes the clusters beside the corpus.

    Raises:
        DataError: nothing can be held out, or nothing is left to train on.
    """
    if valid is not None:
        copies = copies_of(corpus, valid)
        train = np.flatnonzero(~copies)
        if not len(train):
            raise DataError("every training sequence is a copy of a validation sequence")
        what = corpus.symbols.records if corpus.info["written"] == 1 else "SMILES"
        lines = [f"training: {len(train):,} {what}; validation: {len(valid):,} of a file"]
        if copies.any():
            lines.append(
                f"training {what} left out because validation has the same: {copies.sum():,}"
            )
        none = np.zeros(0, dtype=np.int64)
        return Parts(train, none, none, int(copies.sum()), lines)
    clusters = all_clusters(corpus, identity, keep)
    held = hold_out(clusters, share, seed)
    number = len(np.unique(clusters[held]))
    if corpus.clusters is None:
        how = f"clusters at {_identity_of(corpus, identity):.0%} identity"
    else:
        how = "scaffolds" if corpus.info["scaffolds"] else "clusters of the cluster column"
    what = corpus.symbols.records if corpus.info["written"] == 1 else "SMILES"
    line = (
        f"training: {(~held).sum():,} {what}; held out: {held.sum():,} in {number:,} of "
        f"{clusters.max() + 1:,} {how}"
    )
    return Parts(np.flatnonzero(~held), np.flatnonzero(held), clusters[held], 0, [line])


def copies_of(corpus: Corpus, valid: Corpus) -> npt.NDArray[np.bool_]:
    """(N,) which records of `corpus` have the residues of a record of `valid`, or are another
    SMILES of the same molecule."""
    known = {_digest(valid, i) for i in range(len(valid))}
    lengths = np.diff(corpus.offsets)
    candidates = np.flatnonzero(np.isin(lengths, np.unique(np.diff(valid.offsets))))
    found = np.zeros(len(corpus), dtype=bool)
    for record in candidates.tolist():
        found[record] = _digest(corpus, record) in known
    # Every way of writing a molecule stands in its row.
    place = np.asarray(corpus.files, dtype=np.int64) << 48 | np.asarray(corpus.rows)
    return np.asarray(np.isin(place, place[found]))


def _digest(corpus: Corpus, record: int) -> bytes:
    piece = corpus.letters[corpus.offsets[record] : corpus.offsets[record + 1]]
    return hashlib.blake2b(piece.tobytes(), digest_size=16).digest()


def holdout_csv(corpus: Corpus, parts: Parts) -> str:
    """file, row, name and number of the cluster of every held-out record."""
    wanted = np.zeros(len(corpus), dtype=bool)
    wanted[parts.held_out] = True
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", "row", "name", "cluster"])
    sources = corpus.info["sources"]
    for (record, name), cluster in zip(corpus.names(wanted), parts.clusters, strict=True):
        file, row = sources[int(corpus.files[record])], int(corpus.rows[record])
        writer.writerow([file, row, name, int(cluster)])
    return stream.getvalue()
