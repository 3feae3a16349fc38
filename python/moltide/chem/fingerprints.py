"""Morgan fingerprints of molecules in NumPy, and Tanimoto similarities of many at once.

Fingerprints (Rogers & Hahn 2010) of radius 2 say which atom neighbourhoods a molecule has, hashed
to `SIZE` places. Counts come as a sparse table; bits as packed rows of uint8, the least significant
bit first, which is also RDKit's binary form. Stereochemistry is no part of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import DataError, MissingDependencyError

PackedBits = npt.NDArray[np.uint8]
RADIUS, SIZE = 2, 2048
# Cells of a block of similarities, and molecules unpacked at a time (8 KiB each).
_BLOCK, _UNPACKED = 16_000_000, 4096
# Rows compared at once when pairs are looked for.
_PAIRED = 1024


def require_rdkit() -> None:
    """Raises MissingDependencyError without RDKit."""
    try:
        import rdkit  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"molecules need RDKit, which is not installed ({error}); pip install 'moltide[chem]'"
        ) from error


def molecules(smiles: Sequence[str]) -> Iterator[Any]:
    """RDKit's molecule of each SMILES, in turn.

    Raises:
        DataError: text that is no molecule; which, and where it stands.
        MissingDependencyError: without RDKit.
    """
    require_rdkit()
    from rdkit import Chem, rdBase

    for index, text in enumerate(smiles):
        with rdBase.BlockLogs():
            molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            raise DataError(f"molecule {index}: {text[:80]!r} is no SMILES that RDKit can read")
        yield molecule


def morgan_counts(smiles: Sequence[str], radius: int = RADIUS, size: int = SIZE) -> Any:
    """How often each neighbourhood of up to `radius` bonds occurs: CSR float32 (n, size).

    Raises:
        DataError, MissingDependencyError: see `molecules`.
    """
    from scipy import sparse

    columns: list[npt.NDArray[np.int32]] = []
    values: list[npt.NDArray[np.float32]] = []
    generator = None
    for molecule in molecules(smiles):
        if generator is None:
            from rdkit.Chem import rdFingerprintGenerator

            generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=size)
        counts = generator.GetCountFingerprintAsNumPy(molecule)
        present = np.flatnonzero(counts)
        columns.append(present.astype(np.int32))
        values.append(counts[present].astype(np.float32))
    starts = np.cumsum([0, *map(len, columns)])
    flat = np.concatenate([np.zeros(0, np.int32), *columns])
    data = np.concatenate([np.zeros(0, np.float32), *values])
    return sparse.csr_matrix((data, flat, starts), (len(columns), size))


def packed_bits(counts: Any) -> PackedBits:
    """(n, size / 8) uint8: which columns of `morgan_counts` are not 0."""
    n, size = counts.shape
    packed = np.zeros((n, size // 8), np.uint8)
    for start in range(0, n, _UNPACKED):
        rows = slice(start, start + _UNPACKED)
        packed[rows] = np.packbits(counts[rows].toarray() > 0, axis=1, bitorder="little")
    return packed


def morgan_bits(smiles: Sequence[str], radius: int = RADIUS, size: int = SIZE) -> PackedBits:
    """`packed_bits` of `morgan_counts`."""
    return packed_bits(morgan_counts(smiles, radius, size))


def bit_vectors(packed: PackedBits) -> list[Any]:
    """RDKit's ExplicitBitVect of every row."""
    from rdkit import DataStructs

    return [DataStructs.CreateFromBinaryText(row.tobytes()) for row in packed]


def tanimoto(query: PackedBits, known: PackedBits) -> npt.NDArray[np.float32]:
    """(m, n) float32: bits that two rows share over bits that either has; 0 where neither has any.

    The same values whatever the block or the number of threads: what is summed are whole numbers.
    """
    out = np.zeros((len(query), len(known)), np.float32)
    asked = _unpacked(query)
    own = asked.sum(axis=1)
    for start in range(0, len(known), _UNPACKED):
        columns = slice(start, start + _UNPACKED)
        other = _unpacked(known[columns])
        shared = asked @ other.T
        either = own[:, None] + other.sum(axis=1) - shared
        np.divide(shared, either, out=out[:, columns], where=either > 0)
    return out


def similarity_blocks(
    query: PackedBits, known: PackedBits
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """(rows of `query`, `tanimoto` of these to all of `known`), in memory that does not grow."""
    size = max(1, min(_UNPACKED, _BLOCK // max(1, len(known))))
    for start in range(0, len(query), size):
        rows = slice(start, min(len(query), start + size))
        yield rows, tanimoto(query[rows], known)


def nearest(
    query: PackedBits, known: PackedBits, leave_out: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """For each query the largest similarity (m,) and the first of `known` that has it (m,).

    Args:
        leave_out: (m,) the number of a known row that does not count: the query itself.
    """
    if not len(known):
        raise ValueError("no molecules to compare with")
    similarity = np.zeros(len(query), np.float32)
    index = np.zeros(len(query), np.int64)
    for rows, block in similarity_blocks(query, known):
        if leave_out is not None:
            block[np.arange(len(block)), leave_out[rows]] = -1
        index[rows] = block.argmax(axis=1)
        similarity[rows] = block[np.arange(len(block)), index[rows]]
    return np.maximum(similarity, 0), index


def similar_pairs(
    packed: PackedBits, similarity: float
) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Every pair of rows that are at least `similarity` (above 0) alike, once, block by block.

    Rows are sorted by their number of bits: the smaller number over the larger one limits how much
    two may be alike, which leaves few blocks to compare.

    Yields:
        (rows compared so far, first row of each pair, the second, larger one, similarities).
    """
    bits = np.concatenate(
        [np.zeros(0, np.float32)]
        + [
            _unpacked(packed[start : start + _UNPACKED]).sum(axis=1)
            for start in range(0, len(packed), _UNPACKED)
        ]
    )
    order = np.argsort(bits, kind="stable")
    sorted_bits, cutoff = bits[order], np.float32(similarity)
    for start in range(0, len(order), _PAIRED):
        rows = order[start : start + _PAIRED]
        most = sorted_bits[start + len(rows) - 1] / cutoff
        # One more bit than can be, for the sake of rounding.
        end = int(np.searchsorted(sorted_bits, most + 1, side="right"))
        firsts, seconds, alike = [], [], []
        for column in range(start, end, _UNPACKED):
            columns = order[column : min(end, column + _UNPACKED)]
            block = tanimoto(packed[rows], packed[columns])
            i, j = np.nonzero(block >= cutoff)
            later = column + j > start + i
            i, j = i[later], j[later]
            firsts.append(np.minimum(rows[i], columns[j]))
            seconds.append(np.maximum(rows[i], columns[j]))
            alike.append(block[i, j])
        done = start + len(rows)
        yield done, np.concatenate(firsts), np.concatenate(seconds), np.concatenate(alike)


def _unpacked(packed: PackedBits) -> npt.NDArray[np.float32]:
    return np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32)
