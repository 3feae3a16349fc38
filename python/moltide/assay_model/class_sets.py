"""Which classes a prediction leaves possible: class-conditional conformal sets.

A class is ruled out where hardly any validation row of that class was given as low a probability of
it (Vovk, Gammerman & Shafer 2005; Mondrian categories, so that rare classes are covered as well as
frequent ones). Of rows like the validation rows, a set of level 0.9 holds the true class in 90 of
100, in each class. It may hold both classes, where the model cannot tell, or none, where the row is
like neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay_model.spec import FloatArray


@dataclass
class ClassSets:
    """`given`: for each target and class the probabilities, ascending, that validation rows of the
    class were given of it; nothing for targets that are numbers."""

    given: list[list[FloatArray]]

    @classmethod
    def fit(cls, probabilities: FloatArray, targets: FloatArray) -> ClassSets:
        """From calibrated probabilities (m, k, classes) of validation rows (NaN: of numbers) and
        their class indices (m, k), NaN = not measured."""
        given = []
        for j in range(targets.shape[1]):
            own = probabilities[:, j]
            of_class = [targets[:, j] == c for c in range(probabilities.shape[2])]
            numbers = bool(np.isnan(own).all())
            given.append(
                [] if numbers else [np.sort(own[rows, c]) for c, rows in enumerate(of_class)]
            )
        return cls(given)

    def possible(self, probabilities: FloatArray, level: float) -> npt.NDArray[np.bool_]:
        """(n, k, classes): whether each class stays possible at this level; False for numbers. A
        class with too few validation rows always does."""
        sets = np.zeros(probabilities.shape, dtype=bool)
        for j, classes in enumerate(self.given):
            for c, given in enumerate(classes):
                below = np.searchsorted(given, probabilities[:, j, c], side="right")
                sets[:, j, c] = (below + 1) / (len(given) + 1) > 1 - level + 1e-12
        return sets

    def suffices(self, target: int, level: float) -> bool:
        """Whether each class has the validation rows that it takes to rule it out."""
        return all(1 / (len(given) + 1) <= 1 - level + 1e-12 for given in self.given[target])

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file; `from_arrays` is the way back."""
        flat = [given for classes in self.given for given in classes]
        return {
            "given": np.concatenate(flat) if flat else np.zeros(0),
            "counts": np.array([len(given) for given in flat], np.int64),
            "classes": np.array([len(classes) for classes in self.given], np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> ClassSets:
        parts = iter(np.split(arrays["given"], np.cumsum(arrays["counts"])[:-1]))
        return cls([[next(parts) for _ in range(n)] for n in arrays["classes"].tolist()])
