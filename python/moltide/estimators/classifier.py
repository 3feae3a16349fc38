"""AssayClassifier: classes from sequences, or for each residue."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from moltide.errors import DataError
from moltide.estimators.base import AssayEstimator
from moltide.estimators.inputs import (
    as_classes,
    as_residue_labels,
    as_sequences,
    as_weights,
    strata,
)


class AssayClassifier(ClassifierMixin, AssayEstimator):  # type: ignore[misc]
    """Fine-tune an encoder to tell classes apart; a scikit-learn classifier.

    Parameters are those of `AssayRegressor`. The epoch with the best validation AUROC is kept
    (residues: accuracy), and probabilities are calibrated by one temperature on the validation
    rows.

    With y of shape (n, targets) every target has two classes of its own, and missing labels are
    left out of it alone. As in scikit-learn's multi-output classifiers, `classes_` and
    `predict_proba` are then lists, one entry a target.

    Attributes:
        classes_: the classes in the order of the columns of `predict_proba`.
        model_, n_targets_, history_, best_epoch_, best_score_: as `AssayRegressor`.
    """

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> AssayClassifier:
        """Fine-tune.

        Args:
            X: n sequences; SMILES where the backbone is a model of molecules.
            y: (n,) labels, or (n, targets) of two classes each; None or NaN = not measured.
                With level="residue" n strings or arrays with one label a residue.
            groups: (n,) labels of rows that must not straddle training and validation.
            sample_weight: (n,) weights of rows in the loss.

        Raises:
            DataError: an empty or illegal sequence; y that does not fit or has one class only.
            ConfigError: a parameter outside what is allowed; more than two classes with several
                targets.
            MemoryPlanError: a training step does not fit into memory.
        """
        from moltide.assay_model import Rows

        settings = self._settings()
        encoder = self._open()
        sequences = as_sequences(X, encoder.tokenizer.kind)
        weights = as_weights(sample_weight, len(sequences))
        targets: Any
        stratify = None
        if self.level == "residue":
            labels = as_residue_labels(y, sequences)
            if any(one.ndim != 1 for one in labels):
                raise DataError("y: labels of residues are one a residue")
            joined = np.concatenate(labels) if labels else np.zeros(0)
            indices, listed, _ = as_classes(joined, len(joined))
            flat, k = True, 1
            targets = np.split(indices, np.cumsum([len(one) for one in labels])[:-1])
        else:
            targets, listed, flat = as_classes(y, len(sequences))
            k = targets.shape[1]
            stratify = strata(targets, True)
        self.classes_ = listed[0] if k == 1 else listed
        self.n_targets_ = k
        self._flat_ = flat
        names = tuple(f"y{j}" for j in range(k)) if k > 1 else ("y",)
        spec = _spec(self.level, names, [tuple(map(str, one.tolist())) for one in listed])
        given = Rows(sequences, targets, None, weights)
        self._fit(encoder, given, spec, settings, groups, stratify)
        return self

    def predict_proba(self, X: Any) -> Any:
        """(n, classes); with several targets a list of (n, 2); with level="residue" a list of
        (L_i, classes).

        Raises:
            DataError: an empty or illegal sequence.
        """
        sequences = self._sequences(X)
        if self.level == "residue":
            return [row[:, 0] for row in self.model_.predict_residues(sequences)]
        probabilities = self.model_.predict(sequences).probabilities
        assert probabilities is not None
        if self.n_targets_ > 1:
            return [probabilities[:, j] for j in range(self.n_targets_)]
        return probabilities[:, 0]

    def predict(self, X: Any) -> Any:
        """The likeliest class: (n,), (n, targets), or for residues a list of (L_i,).

        Raises:
            DataError: an empty or illegal sequence.
        """
        probabilities = self.predict_proba(X)
        if self.level == "residue":
            return [self.classes_[row.argmax(axis=-1)] for row in probabilities]
        if self.n_targets_ == 1:
            found = self.classes_[probabilities.argmax(axis=-1)]
            return found if self._flat_ else found[:, None]
        columns = [
            classes[own.argmax(axis=-1)]
            for classes, own in zip(self.classes_, probabilities, strict=True)
        ]
        # Words beside numbers stay what they are.
        alike = len({one.dtype.kind for one in columns}) == 1
        return np.stack([one if alike else one.astype(object) for one in columns], axis=1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of labels predicted right, missing ones left out.

        Raises:
            DataError: as `fit`.
        """
        predicted = self.predict(X)
        if self.level == "residue":
            measured = np.concatenate(as_residue_labels(y, self._sequences(X)))
            right = np.concatenate(predicted).astype(str) == measured.astype(str)
            known = np.array([one is not None and one == one for one in measured.tolist()])
            return float(np.mean(right[known]))
        table = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y, dtype=object)
        known = np.array([one is not None and one == one for one in table.ravel()])
        right = (np.asarray(predicted).reshape(table.shape) == table).ravel()
        weights = as_weights(sample_weight, len(table))
        if weights is None:
            return float(np.mean(right[known].astype(float)))
        spread = np.repeat(weights, table.size // max(1, len(table)))
        return float(np.average(right[known].astype(float), weights=spread[known]))


def _spec(level: str, names: tuple[str, ...], classes: list[tuple[str, ...]]) -> Any:
    from moltide.assay_model import ModelSpec

    if len(set(classes)) == 1:
        return ModelSpec("classification", level, names, classes[0])
    return ModelSpec("classification", level, names, (), tuple(classes))
