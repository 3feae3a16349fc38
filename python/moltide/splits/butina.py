"""Clusters of similar molecules, in memory that grows with their number and not with its square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from moltide.chem.fingerprints import (
    PackedBits,
    bit_vectors,
    morgan_bits,
    nearest,
    similarity_blocks,
    tanimoto,
)
from moltide.errors import ConfigError

IntArray = npt.NDArray[np.int64]

#: Up to this many distinct molecules every pair is compared; of more, each with centres alone.
EVERY_PAIR = 20_000
_CENTRES = 256


def cluster_by_similarity(smiles: Sequence[str], similarity: float = 0.4) -> tuple[IntArray, str]:
    """Clusters whose members are at least `similarity` (Tanimoto) like their cluster's centre.

    Up to 20,000 distinct molecules: Taylor-Butina (Taylor 1995, Butina 1999). The molecule with
    most neighbours takes them all, then the next of those left, by the numbers of neighbours that
    they had at first. More molecules: sphere exclusion (RDKit's LeaderPicker): the first molecule
    becomes a centre, then each that is like no centre before it; members go to their nearest one.
    Equal numbers go by SMILES, so the order of the molecules does not matter. Members of two
    clusters may be closer to each other than `similarity` where both lie at their cluster's edge.

    Args:
        smiles: n molecules; equal ones share a cluster.
        similarity: above 0 and at most 1, of Morgan fingerprints of radius 2.

    Returns:
        (n,) int64 cluster numbers from 0, by first appearance, and the name of the method.

    Raises:
        ConfigError: `similarity` outside its range.
        DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
    """
    if not 0 < similarity <= 1:
        raise ConfigError(f"similarity={similarity}: expected a share above 0, up to 1")
    unique, inverse = np.unique(np.array(smiles, dtype=object), return_inverse=True)
    packed = morgan_bits(unique.tolist())
    if len(unique) <= EVERY_PAIR:
        centres, how = _taylor_butina(packed, similarity), "Taylor-Butina"
    else:
        centres, how = _leaders(packed, similarity), "sphere exclusion"
    clusters = centres[inverse.reshape(-1)]
    _, first, numbers = np.unique(clusters, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return rank[numbers.reshape(-1)].astype(np.int64), how


def _taylor_butina(packed: PackedBits, similarity: float) -> IntArray:
    """(n,) the centre of each. Neighbours are counted, then looked up anew for centres alone: no
    list of pairs is kept."""
    n, cutoff = len(packed), np.float32(similarity)
    counts = np.zeros(n, np.int64)
    for rows, block in similarity_blocks(packed, packed):
        counts[rows] = (block >= cutoff).sum(axis=1)
    waiting = np.argsort(-counts, kind="stable")
    centre = np.full(n, -1, np.int64)
    while len(waiting):
        if counts[waiting[0]] <= 1:  # from here on each is its only neighbour
            centre[waiting] = waiting
            break
        asked, left = waiting[:_CENTRES], np.flatnonzero(centre < 0)
        for one, row in zip(asked, tanimoto(packed[asked], packed[left]), strict=True):
            if centre[one] < 0:
                members = left[row >= cutoff]
                centre[members[centre[members] < 0]] = one
        waiting = waiting[centre[waiting] < 0]
    return centre


def _leaders(packed: PackedBits, similarity: float) -> IntArray:
    """(n,) the nearest of the centres that sphere exclusion picks."""
    from rdkit.SimDivFilters.rdSimDivPickers import LeaderPicker

    picked = LeaderPicker().LazyBitVectorPick(bit_vectors(packed), len(packed), 1 - similarity)
    centres = np.array(list(picked), np.int64)
    return centres[nearest(packed, packed[centres])[1]]
