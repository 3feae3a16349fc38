"""Whether a sequence resembles what a model was trained on, and if not, in what respect.

`fit_domain` and `load_domain` give the domain that suits a kind of sequence: `Domain` for residues
and nucleotides, `MoleculeDomain` for molecules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide import pairs
from moltide.assay_model.molecule_domain import FILE, Closeness, MoleculeDomain
from moltide.assay_model.rows import Rows
from moltide.assay_model.spec import FloatArray
from moltide.kinds import MOLECULE

# Training rows kept for distances, and rows from which the usual distance is learned.
_MOST_KEPT, _PROBES = 20_000, 1000
_QUANTILE = 0.99
_SHOWN = 3


@dataclass
class Domain:
    """The training sequences, and how far they lie from each other.

    With sequences of one length, distance is the number of differing residues, and a position that
    never varied in training is outside whatever the distance. Otherwise it is half the squared
    distance between counts of 1-, 2- and 3-mers. Pairs of chains have one length where either chain
    has, and positions are those of the chain, from 1.

    Attributes:
        sequences: training sequences (at most 20,000, evenly drawn).
        limit: the largest nearest distance that is still inside: the 99th percentile of each
            training sequence's distance to its nearest other one, at least one substitution.
        numbering: what the first residue is called in messages.
    """

    sequences: list[str]
    limit: float
    numbering: int = 1
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, sequences: Sequence[str], seed: int = 0, numbering: int = 1) -> Domain:
        """Learn from the training sequences."""
        kept = list(dict.fromkeys(sequences))
        rng = np.random.default_rng(seed)
        if len(kept) > _MOST_KEPT:
            kept = [kept[i] for i in np.sort(rng.choice(len(kept), _MOST_KEPT, replace=False))]
        domain = cls(kept, 1.0, numbering)
        if len(kept) > 1:
            probes = np.sort(rng.choice(len(kept), min(_PROBES, len(kept)), replace=False))
            nearest = domain._nearest([kept[i] for i in probes], leave_out=probes)
            floor = 1.0 if domain.length else 6.0  # one substitution changes up to six k-mers
            domain.limit = max(floor, float(np.quantile(nearest, _QUANTILE)))
        return domain

    @property
    def length(self) -> int | None:
        """The length all training sequences share, or None."""
        if "length" not in self._cache:
            alike = len(set(map(pairs.lengths, self.sequences))) == 1
            self._cache["length"] = len(self.sequences[0]) if alike else None
        return self._cache["length"]  # type: ignore[no-any-return]

    @property
    def _lengths(self) -> tuple[int, ...]:
        """Of the chains of a training sequence."""
        return pairs.lengths(self.sequences[0])

    def score(self, sequences: Sequence[str]) -> Closeness:
        """`check`, as `MoleculeDomain` has it too."""
        return Closeness(self.check(sequences))

    def check(self, sequences: Sequence[str]) -> list[str]:
        """For each sequence "" if it is inside, else what sets it apart."""
        notes = [""] * len(sequences)
        inside = list(range(len(sequences)))
        if self.length is not None:
            for i, text in enumerate(sequences):
                notes[i] = self._unlike(text)
            inside = [i for i in inside if pairs.lengths(sequences[i]) == self._lengths]
        distances = self._nearest([sequences[i] for i in inside])
        for i, distance in zip(inside, distances.tolist(), strict=True):
            if distance > self.limit and not notes[i]:
                what = "pair" if pairs.is_pair(sequences[i]) else "sequence"
                if self.length is None:
                    notes[i] = f"unlike any training {what}"
                else:
                    notes[i] = f"{distance:.0f} substitutions from the nearest training {what}"
        return notes

    def _unlike(self, text: str) -> str:
        lengths = pairs.lengths(text)
        if len(lengths) == 2 and lengths != self._lengths:
            listed = " and ".join(map(str, self._lengths))
            return f"chains of {lengths[0]} and {lengths[1]} residues; in training {listed}"
        if len(text) != self.length:
            return f"length {len(text)}; training sequences have {self.length}"
        row = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
        never = np.flatnonzero(self._fixed & (row != self._common))
        if not len(never):
            return ""
        if len(lengths) == 2:
            shown = ", ".join(pairs.place(int(i), lengths[0]) for i in never[:_SHOWN])
        else:
            shown = ", ".join(str(i + self.numbering) for i in never[:_SHOWN])
        more = "" if len(never) <= _SHOWN else f" and {len(never) - _SHOWN} more"
        plural = "positions" if len(never) > 1 else "position"
        return f"{plural} {shown}{more} never varied in training"

    @property
    def _common(self) -> npt.NDArray[np.uint8]:
        self._profile()
        return self._cache["common"]  # type: ignore[no-any-return]

    @property
    def _fixed(self) -> npt.NDArray[np.bool_]:
        self._profile()
        return self._cache["fixed"]  # type: ignore[no-any-return]

    def _profile(self) -> None:
        if "common" in self._cache:
            return
        text = "".join(self.sequences).encode("ascii", "replace")
        table = np.frombuffer(text, np.uint8).reshape(len(self.sequences), -1)
        self._cache["common"] = table[0]
        self._cache["fixed"] = (table == table[0]).all(axis=0)

    def _nearest(
        self, queries: Sequence[str], leave_out: npt.NDArray[np.int64] | None = None
    ) -> FloatArray:
        """Distance of each query to the nearest training sequence."""
        from moltide.baselines.features import Kmers, OneHot
        from moltide.baselines.neighbour import Distances

        nearest = np.zeros(len(queries))
        if not queries:
            return nearest
        if "features" not in self._cache:
            made = (OneHot() if self.length else Kmers()).fit(self.sequences)
            self._cache["features"] = (made, made.transform(self.sequences))
        made, known = self._cache["features"]
        for rows, distance in Distances(made.transform(queries), known).blocks():
            if leave_out is not None:
                distance[np.arange(len(distance)), leave_out[rows]] = np.inf
            nearest[rows] = distance.min(axis=1)
        return nearest

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file; `from_arrays` is the way back."""
        text = "".join(self.sequences).encode("ascii")
        return {
            "residues": np.frombuffer(text, np.uint8),
            "lengths": np.array([len(one) for one in self.sequences], np.int64),
            "limit": np.array([self.limit]),
            "numbering": np.array([self.numbering], np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Domain:
        text = arrays["residues"].tobytes().decode("ascii")
        ends = np.cumsum(arrays["lengths"]).tolist()
        starts = [0, *ends[:-1]]
        sequences = [text[a:b] for a, b in zip(starts, ends, strict=True)]
        return cls(sequences, float(arrays["limit"][0]), int(arrays["numbering"][0]))


def fit_domain(kind: str, train: Rows, seed: int, numbering: int) -> Domain | MoleculeDomain:
    """The domain of the training rows.

    Raises:
        DataError, MissingDependencyError: molecules that RDKit cannot read, or no RDKit.
    """
    if kind == MOLECULE:
        return MoleculeDomain.fit(train.sequences, seed, train.names)
    return Domain.fit(train.sequences, seed, numbering)


def save_domain(domain: Domain | MoleculeDomain | None, folder: Path) -> dict[str, np.ndarray]:
    """Write what has a file of its own, and return what belongs to the model's other arrays."""
    if isinstance(domain, MoleculeDomain):
        domain.write(folder)
    else:
        (folder / FILE).unlink(missing_ok=True)
    return {} if domain is None else domain.arrays()


def load_domain(arrays: dict[str, np.ndarray], folder: Path) -> Domain | MoleculeDomain | None:
    """From the arrays that `save_domain` returned."""
    if not arrays:
        return None
    if "similarity_limit" in arrays:
        return MoleculeDomain.read(folder, arrays)
    return Domain.from_arrays(arrays)
