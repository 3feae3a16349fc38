"""Labelled sequences, as training and validation take them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.assay_model.spec import FloatArray


@dataclass
class Rows:
    """n labelled sequences.

    Attributes:
        sequences: n residue strings.
        targets: (n, k) float64 with NaN = not measured, class indices for classification; or for
            residues one (L_i, k) array a sequence.
        censor: (n, k) int8: -1 the true value is below, +1 above, 0 exact; or None.
        weights: (n,) or None.
        names: what the rows are called where a prediction refers to them, or None.
    """

    sequences: list[str]
    targets: FloatArray | list[FloatArray]
    censor: npt.NDArray[np.int8] | None = None
    weights: FloatArray | None = None
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def flat_targets(self) -> FloatArray:
        """(n, k), or (all residues, k)."""
        if isinstance(self.targets, list):
            return np.concatenate([np.asarray(t, np.float64) for t in self.targets])
        return self.targets

    def take(self, index: npt.ArrayLike) -> Rows:
        """The rows at these integers, in that order."""
        chosen = np.asarray(index, np.int64)
        targets: Any = self.targets
        return Rows(
            [self.sequences[i] for i in chosen],
            [targets[i] for i in chosen] if isinstance(targets, list) else targets[chosen],
            None if self.censor is None else self.censor[chosen],
            None if self.weights is None else self.weights[chosen],
            None if self.names is None else [self.names[i] for i in chosen],
        )

    def fingerprint(self) -> str:
        """SHA-256 over sequences, targets, bounds and weights."""
        digest = hashlib.sha256("\n".join(self.sequences).encode())
        for array in (self.flat_targets(), self.censor, self.weights):
            digest.update(b"|" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def censored(self) -> bool:
        return self.censor is not None and bool(np.any(self.censor))
