"""What each measured value weighs in the loss, where endpoints or classes differ in number.

Endpoints. One with fifty times the values of another would have fifty times its say. Values of
endpoint c weigh n_c^-1/2 ("root"): then it has seven times its say; with n_c^-1 ("equal") each has
the same, and single values of a small endpoint weigh so much that it is learned by heart; "rows"
leaves them alike.

Classes. "balanced" weighs the values of a class by 1 / its number, no more than 20 to 1. Training
then sees both classes alike and its logits are those of such a table: their shift,
log(w_1 / w_0), is taken off again, so that probabilities keep the frequencies of the classes.

Terms of both kinds of loss are in nats: half a squared error stands beside a cross entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay_model.spec import FloatArray, ModelSpec
from moltide.tasks import MIXED
from moltide.training import TrainSettings

_POWER = {"rows": 0.0, "root": 0.5, "equal": 1.0}
#: The most that a value of one class may weigh beside one of another.
MOST = 20.0


@dataclass(frozen=True)
class Weighting:
    """Attributes:
    counts: (k,) training values of each target, those of rows without weight left out.
    endpoint: (k,) what a value of each target weighs; the mean over all values is 1.
    classes: for each target what values of its classes weigh ((classes,); the mean over the
        target's values is 1), () for numbers.
    shift: (outputs,) what balanced classes add to the logits.
    nats: (k,) factors that bring the losses of a table of both kinds to one unit.
    """

    counts: npt.NDArray[np.int64]
    endpoint: FloatArray
    classes: list[FloatArray]
    shift: FloatArray
    nats: FloatArray

    @classmethod
    def fit(
        cls, spec: ModelSpec, settings: TrainSettings, targets: FloatArray, rows: FloatArray | None
    ) -> Weighting:
        """From training targets (n, k), NaN = not measured, and the weights of rows (n,)."""
        used = ~np.isnan(targets)
        if rows is not None:
            used &= (rows > 0)[:, None]
        counts = used.sum(axis=0).astype(np.int64)
        endpoint = np.maximum(counts, 1.0) ** -_POWER[settings.endpoint_weights]
        endpoint *= counts.sum() / max(1e-300, float(counts @ endpoint))
        # Equal numbers weigh exactly 1, which rounding would miss.
        if len(set(counts.tolist())) == 1:
            endpoint = np.ones(len(counts))
        shift = np.zeros(spec.outputs)
        classes = [np.zeros(0)] * len(counts)
        for j in spec.of_classes:
            n = len(spec.classes_of(j))
            found = np.bincount(targets[used[:, j], j].astype(np.int64), minlength=n)
            classes[j] = _balanced(found) if settings.class_weight == "balanced" else np.ones(n)
            logs = np.log(classes[j])
            if spec.binary:
                shift[j] = logs[1] - logs[0]
            else:
                shift[:] = logs
        nats = np.ones(len(counts))
        if spec.task == MIXED and settings.loss == "mse":
            nats[spec.of_numbers] = 0.5
        return cls(counts, endpoint, classes, shift, nats)

    def of_classes(self, target: int, values: FloatArray) -> FloatArray:
        """(n,) what values (class indices, NaN = not measured) of a target weigh by their class; 1
        for numbers."""
        table = self.classes[target]
        if not len(table):
            return np.ones(len(values))
        weights: FloatArray = table[np.nan_to_num(values).astype(np.int64)]
        return weights

    @property
    def alike(self) -> bool:
        """Whether all values weigh the same."""
        return bool(np.all(self.endpoint == 1) and np.all(self.nats == 1) and not self.shift.any())

    def terms(self, targets: FloatArray, rows: FloatArray | None) -> npt.NDArray[np.float32]:
        """(n, k) weights of single values."""
        weights = np.ones(targets.shape)
        for j in range(targets.shape[1]):
            own = self.of_classes(j, targets[:, j]) * self.endpoint[j] * self.nats[j]
            weights[:, j] = own if rows is None else own * rows
        return weights.astype(np.float32)


def _balanced(counts: npt.NDArray[np.int64]) -> FloatArray:
    """(classes,) weights, the largest `MOST` times the smallest, of mean 1 over the values; 1 for
    all where a class has no value."""
    if not counts.all():
        return np.ones(len(counts))
    weights = np.minimum(counts.max() / counts, MOST)
    scaled: FloatArray = weights * (counts.sum() / (counts @ weights))
    return scaled
