"""AssayPanel: a fine-tuned model some of whose targets are numbers and some classes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide.errors import ConfigError
from moltide.estimators.inputs import as_sequences

if TYPE_CHECKING:
    from moltide.assay_model import AssayModel

FloatArray = npt.NDArray[np.float64]


class AssayPanel:
    """What `moltide.load_assay_model` makes of a run on a table of numbers and classes.

    scikit-learn has no estimator that predicts numbers and classes at once, so this is none: it
    predicts, and is fitted by `moltide finetune` alone.

    Attributes:
        target_names_: k names. tasks_: "regression" or "classification" for each.
        classes_: for each target its classes, None for numbers.
        model_: the fitted `AssayModel`.
    """

    def __init__(self, model: AssayModel) -> None:
        spec = model.spec
        self.model_ = model
        self.target_names_ = list(spec.target_names)
        self.tasks_ = [spec.task_of(j) for j in range(len(spec.target_names))]
        self.classes_ = [
            np.array(spec.classes_of(j)) if spec.classes_of(j) else None
            for j in range(len(spec.target_names))
        ]

    def _sequences(self, X: Any) -> list[str]:
        kind, chemistry = self.model_.encoder.tokenizer.kind, self.model_.chemistry
        sequences = as_sequences(X, kind, chemistry)
        self.model_.check_pairs(sequences)
        return sequences

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """(n, k): values of targets that are numbers, and of classes the probability of the second.

        Args:
            return_std: also the standard deviation of the prediction error, NaN for classes.

        Raises:
            DataError: an empty or illegal sequence.
            ConfigError: `return_std` of a model fitted without validation rows.
        """
        found = self.model_.predict(self._sequences(X), std=return_std)
        values = found.values.copy()
        assert found.probabilities is not None
        for j in self.model_.spec.of_classes:
            values[:, j] = found.probabilities[:, j, 1]
        return (values, found.std) if return_std else values

    def predict_proba(self, X: Any) -> list[FloatArray | None]:
        """For each target (n, classes) calibrated probabilities, None for numbers.

        Raises:
            DataError: as `predict`.
        """
        found = self.model_.predict(self._sequences(X)).probabilities
        assert found is not None
        return [None if one is None else found[:, j] for j, one in enumerate(self.classes_)]

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """(low, high), each (n, k), NaN for classes; see `AssayRegressor.predict_interval`.

        Raises:
            DataError, ConfigError: as `predict`.
        """
        found = self.model_.predict(self._sequences(X), interval=coverage)
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    def in_domain(self, X: Any) -> npt.NDArray[np.bool_]:
        """(n,) True where a sequence resembles the training sequences."""
        return np.array([not note for note in self.domain_notes(X)], dtype=bool)

    def domain_notes(self, X: Any) -> list[str]:
        """For each sequence "", or what sets it apart from the training sequences."""
        if self.model_.domain is None:
            raise ConfigError("this model keeps no training sequences to compare with")
        return list(self.model_.domain.check(self._sequences(X)))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model; `moltide.load_assay_model(folder)` reads it back.

        Raises:
            ConfigError: the folder holds other files.
            OSError: folder not writable, disk full; no file is left half written.
        """
        from moltide.assay_model.files import save

        save(self.model_, folder)
