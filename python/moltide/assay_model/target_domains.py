"""Domains of targets that few of the training rows have: what those rows look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moltide.assay_model.domain import Domain
from moltide.assay_model.molecule_domain import MoleculeDomain
from moltide.assay_model.rows import Rows

# A target measured in less than this share of the training rows has a domain of its own, from this
# many rows on.
_SPARSE, _FEWEST = 0.5, 20
# As of all molecules: 95 of 100 are at least as near to another one.
_QUANTILE = 0.05


@dataclass
class TargetDomains:
    """By the number of the target: `residues` are domains of their own; of `molecules` it is known
    which training molecules they are (rows of the fingerprints of `whole`), and the usual
    similarity among them."""

    residues: dict[int, Domain] = field(default_factory=dict)
    molecules: dict[int, tuple[npt.NDArray[np.int64], float]] = field(default_factory=dict)
    whole: MoleculeDomain | None = None

    @classmethod
    def fit(
        cls, whole: Domain | MoleculeDomain, train: Rows, seed: int, numbering: int
    ) -> TargetDomains:
        """From the training rows and their domain; nothing where there is one target."""
        known = ~np.isnan(train.flat_targets())
        counts = known.sum(axis=0)
        few = np.flatnonzero((counts >= _FEWEST) & (counts < _SPARSE * len(train)))
        if known.shape[1] == 1:
            return cls()
        if isinstance(whole, Domain):
            return cls(
                {
                    int(j): Domain.fit(
                        [train.sequences[i] for i in np.flatnonzero(known[:, j])], seed, numbering
                    )
                    for j in few
                }
            )
        names = train.names or [str(i) for i in range(len(train))]
        found = {}
        for j in few.tolist():
            measured = {names[i] for i in np.flatnonzero(known[:, j])}
            index = np.array(
                [i for i, name in enumerate(whole.names) if name in measured], np.int64
            )
            if len(index) >= _FEWEST:
                found[j] = (index, _usual(whole, index, seed))
        return cls({}, found, whole)

    @property
    def targets(self) -> list[int]:
        """Targets with a domain of their own."""
        return [*self.residues, *self.molecules]

    def check(self, sequences: Sequence[str]) -> dict[int, list[str]]:
        """By target, for each sequence "" if it resembles the rows that have the target, else what
        sets it apart."""
        found = {j: domain.check(sequences) for j, domain in self.residues.items()}
        if not self.molecules or self.whole is None:
            return found
        from moltide.chem.fingerprints import morgan_bits, nearest

        bits = morgan_bits(sequences)
        for j, (index, limit) in self.molecules.items():
            similarity, _ = nearest(bits, self.whole.bits[index])
            usual = f"molecules it was measured for: mostly {limit:.2f} or more"
            found[j] = [
                "" if one >= limit else f"{one:.2f} like the nearest molecule ({usual})"
                for one in similarity.astype(np.float64).tolist()
            ]
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file; `from_arrays` is the way back."""
        arrays = {
            f"{j}.{name}": array
            for j, domain in self.residues.items()
            for name, array in domain.arrays().items()
        }
        for j, (index, limit) in self.molecules.items():
            arrays |= {f"{j}.molecules": index, f"{j}.similarity_limit": np.array([limit])}
        return arrays

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], whole: Domain | MoleculeDomain | None
    ) -> TargetDomains:
        by_target: dict[int, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            target, _, part = name.partition(".")
            by_target.setdefault(int(target), {})[part] = array
        residues, molecules = {}, {}
        for j, parts in sorted(by_target.items()):
            if "molecules" in parts:
                molecules[j] = (parts["molecules"], float(parts["similarity_limit"][0]))
            else:
                residues[j] = Domain.from_arrays(parts)
        return cls(residues, molecules, whole if isinstance(whole, MoleculeDomain) else None)


def _usual(whole: MoleculeDomain, index: npt.NDArray[np.int64], seed: int) -> float:
    """The similarity to the nearest other one that 95 of 100 of these molecules have."""
    from moltide.chem.fingerprints import nearest

    own = whole.bits[index]
    probes = np.sort(np.random.default_rng(seed).choice(len(own), min(2000, len(own)), False))
    similarity, _ = nearest(own[probes], own, leave_out=probes)
    return float(np.quantile(similarity.astype(np.float64), _QUANTILE))
