"""AssayRegressor: measured values from sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin

from moltide.errors import ConfigError
from moltide.estimators.base import AssayEstimator
from moltide.estimators.inputs import (
    as_censor,
    as_residue_labels,
    as_sequences,
    as_targets,
    as_weights,
    strata,
)

FloatArray = npt.NDArray[np.float64]


class AssayRegressor(RegressorMixin, AssayEstimator):  # type: ignore[misc]
    """Fine-tune an encoder to predict measured values; a scikit-learn regressor.

    X is a list, array or column of residue strings, or of SMILES for an encoder of molecules (or a
    table of one column); pairs of chains are a table or array of two. Fine-tuning stops at the
    epoch with the best rank correlation on validation rows, which are taken from the data
    (`validation_fraction`; groups stay together) and give `predict` its uncertainty.

    Args:
        backbone: a bundled name, folder or Hub id, or an `Encoder` (copied, never changed).
        adapter: "lora", "full", or "head".
        validation_fraction: share of rows held back to choose the epoch; 0: the last epoch stays
            and there is no uncertainty.
        level: "sequence", or "residue": one value a residue; y is a list of arrays.
        device: see `moltide.load`. dtype: see `moltide.training.arithmetic.training_dtype`.
        verbose: 1 shows progress.
        rank, alpha, dropout, targets, pool, head_hidden, head_start, head_dropout, loss,
            endpoint_weights, class_weight, lr, head_lr_scale, weight_decay, epochs, batch_size,
            warmup, schedule, clip_norm, huber_delta, patience, max_minutes, max_tokens, recompute,
            seed, augment: see `moltide.training.TrainSettings`.

    Attributes:
        model_: the fitted `AssayModel`.
        n_targets_: number of target columns.
        history_: one dict an epoch. best_epoch_, best_score_: the epoch kept (0: the start), and
            its score.
    """

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        censor: Any = None,
    ) -> AssayRegressor:
        """Fine-tune.

        Args:
            X: n sequences; SMILES where the backbone is a model of molecules.
            y: (n,) or (n, targets); NaN = not measured. With level="residue" n arrays of (L_i,)
                or (L_i, targets).
            groups: (n,) labels of rows that must not straddle training and validation.
            sample_weight: (n,) weights of rows in the loss.
            censor: like y: -1 the true value is below y, +1 above, 0 exact.

        Raises:
            DataError: an empty or illegal sequence; y, weights or groups that do not fit.
            ConfigError: a parameter outside what is allowed.
            MemoryPlanError: a training step does not fit into memory.
        """
        from moltide.assay_model import ModelSpec, Rows

        settings = self._settings()
        encoder = self._open()
        sequences = as_sequences(X, encoder.tokenizer.kind)
        weights = as_weights(sample_weight, len(sequences))
        targets: Any
        if self.level == "residue":
            if censor is not None:
                raise ConfigError("censor goes with level='sequence'")
            rows = as_residue_labels(y, sequences)
            columns = [as_targets(one, len(one)) for one in rows]
            targets, flat = [one for one, _ in columns], all(was_flat for _, was_flat in columns)
            k = targets[0].shape[1] if targets else 1
            bounds = None
        else:
            targets, flat = as_targets(y, len(sequences))
            k = targets.shape[1]
            bounds = as_censor(censor, targets)
        self._flat_ = flat
        self.n_targets_ = k
        names = tuple(f"y{j}" for j in range(k)) if k > 1 else ("y",)
        spec = ModelSpec("regression", self.level, names)
        labels = strata(targets, False) if self.level == "sequence" else None
        given = Rows(sequences, targets, bounds, weights)
        self._fit(encoder, given, spec, settings, groups, labels)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predicted values, (n,) or (n, targets); with level="residue" a list of them.

        Args:
            return_std: also the standard deviation of the prediction error: the spread of
                validation residuals, larger far from the training sequences (see
                `moltide.assay_model.uncertainty`).

        Returns:
            values, or (values, std).

        Raises:
            DataError: an empty or illegal sequence.
            ConfigError: `return_std` of a model fitted without validation rows.
        """
        sequences = self._sequences(X)
        if self.level == "residue":
            if return_std:
                raise ConfigError("return_std goes with level='sequence'")
            rows = self.model_.predict_residues(sequences)
            return [row[:, 0] if self._flat_ else row for row in rows]
        result = self.model_.predict(sequences, std=return_std)
        values = result.values[:, 0] if self._flat_ else result.values
        if not return_std:
            return values
        assert result.std is not None
        return values, result.std[:, 0] if self._flat_ else result.std

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """(low, high) of split-conformal intervals: rows like the validation rows lie inside with
        a probability of at least `coverage`. NaN where the validation rows are too few for it.

        Raises:
            DataError, ConfigError: as `predict`.
        """
        result = self.model_.predict(self._sequences(X), interval=coverage)
        assert result.low is not None
        assert result.high is not None
        if self._flat_:
            return result.low[:, 0], result.high[:, 0]
        return result.low, result.high

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R squared over the measured values, the mean over targets.

        Raises:
            DataError: as `fit`.
        """
        predicted = self.predict(X)
        if self.level == "residue":
            predicted = np.concatenate(predicted)
            measured = np.concatenate([np.asarray(one, np.float64) for one in y])
            weights = None
        else:
            measured, _ = as_targets(y, len(predicted))
            weights = as_weights(sample_weight, len(predicted))
        predicted = np.asarray(predicted).reshape(len(predicted), -1)
        measured = np.asarray(measured).reshape(len(measured), -1)
        return float(
            np.mean(
                [_r2(measured[:, j], predicted[:, j], weights) for j in range(measured.shape[1])]
            )
        )


def _r2(y: FloatArray, predicted: FloatArray, weights: FloatArray | None) -> float:
    from sklearn.metrics import r2_score

    known = ~np.isnan(y)
    used = None if weights is None else weights[known]
    return float(r2_score(y[known], predicted[known], sample_weight=used))
