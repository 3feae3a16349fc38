"""Whether a molecule resembles what a model was trained on, and which of it most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.array_file import read_arrays, write_arrays
from moltide.chem.fingerprints import PackedBits, morgan_bits, nearest

#: In the folder of a model; the fingerprints are read when they are first needed.
FILE = "domain.safetensors"
# Training molecules kept (256 bytes each), and those from which the usual similarity is learned.
_MOST_KEPT, _PROBES = 100_000, 2000
_QUANTILE = 0.05


@dataclass(frozen=True)
class Closeness:
    """For n sequences.

    Attributes:
        notes: what sets each apart from the training sequences, "" for nothing.
        similarity: (n,) float64 Tanimoto similarity to the nearest training molecule, or None.
        nearest: what that molecule is called (its rows in the training table), or None.
    """

    notes: list[str]
    similarity: npt.NDArray[np.float64] | None = None
    nearest: list[str] | None = None


class MoleculeDomain:
    """The training molecules as Morgan fingerprints of radius 2, and how alike they usually are.

    A molecule is inside if its nearest training molecule is as similar (Tanimoto) as 95 of 100
    training molecules are to the nearest other one: `limit` or more. Of two that are as near, the
    first counts. Stereoisomers are one molecule here.
    """

    def __init__(self, bits: PackedBits | Path, names: Sequence[str], limit: float) -> None:
        self._bits = bits
        self._names = list(names)
        self.limit = limit

    @classmethod
    def fit(
        cls, smiles: Sequence[str], seed: int = 0, names: Sequence[str] | None = None
    ) -> MoleculeDomain:
        """Learn from the training molecules; `names` are what they are called, by default their
        numbers from 0.

        Raises:
            DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
        """
        called = [str(i) for i in range(len(smiles))] if names is None else list(names)
        first: dict[str, int] = {}
        for i, text in enumerate(smiles):
            first.setdefault(text, i)
        kept = np.array(list(first.values()), np.int64)
        rng = np.random.default_rng(seed)
        if len(kept) > _MOST_KEPT:
            kept = np.sort(rng.choice(kept, _MOST_KEPT, replace=False))
        bits = morgan_bits([smiles[i] for i in kept])
        limit = 0.0
        if len(kept) > 1:
            probes = np.sort(rng.choice(len(kept), min(_PROBES, len(kept)), replace=False))
            similarity, _ = nearest(bits[probes], bits, leave_out=probes)
            limit = float(np.quantile(similarity.astype(np.float64), _QUANTILE))
        return cls(bits, [called[i] for i in kept], limit)

    def __len__(self) -> int:
        """Training molecules kept."""
        return len(self.bits)

    @property
    def bits(self) -> PackedBits:
        """(n, 256) uint8, packed fingerprints of the training molecules."""
        self._load()
        assert not isinstance(self._bits, Path)
        return self._bits

    @property
    def names(self) -> list[str]:
        """What the n training molecules are called."""
        self._load()
        return self._names

    def score(self, smiles: Sequence[str]) -> Closeness:
        """Compare molecules with the training molecules.

        Raises:
            DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
            CheckpointError: the file of fingerprints is gone or damaged.
        """
        similarity, index = nearest(morgan_bits(smiles), self.bits)
        found = similarity.astype(np.float64)
        usual = f"training molecules: mostly {self.limit:.2f} or more"
        notes = [
            "" if one >= self.limit else f"{one:.2f} like the nearest training molecule ({usual})"
            for one in found.tolist()
        ]
        return Closeness(notes, found, [self.names[i] for i in index.tolist()])

    def check(self, smiles: Sequence[str]) -> list[str]:
        """The notes of `score`."""
        return self.score(smiles).notes

    def arrays(self) -> dict[str, np.ndarray]:
        """What is small; `write` puts the rest beside it, and `read` is the way back."""
        return {"similarity_limit": np.array([self.limit])}

    def write(self, folder: Path) -> None:
        """Write `FILE` into `folder`, whole or not at all.

        Raises:
            OSError: folder not writable, disk full.
        """
        ends = np.cumsum([len(one.encode()) for one in self.names], dtype=np.int64)
        text = np.frombuffer("".join(self.names).encode(), np.uint8)
        if not len(text):
            text = np.zeros(1, np.uint8)
        called: dict[str, np.ndarray] = {"names": text, "name_ends": ends}
        write_arrays(folder / FILE, {"fingerprints": self.bits, **called})

    @classmethod
    def read(cls, folder: Path, arrays: dict[str, np.ndarray]) -> MoleculeDomain:
        """From `arrays` and what `write` wrote, which is opened at the first use."""
        return cls(folder / FILE, [], float(arrays["similarity_limit"][0]))

    def _load(self) -> None:
        if isinstance(self._bits, Path):
            stored, _ = read_arrays(self._bits)
            text, ends = stored["names"].tobytes(), stored["name_ends"].tolist()
            starts = [0, *ends[:-1]]
            names = [text[a:b].decode() for a, b in zip(starts, ends, strict=True)]
            self._bits, self._names = stored["fingerprints"], names

    def __getstate__(self) -> dict[str, Any]:
        self._load()  # the folder may be gone where this is unpickled
        return self.__dict__
