"""How far a prediction may be off: a last-layer Gaussian model scaled by validation residuals.

Shape. The head is linear in the pooled representation z of the fine-tuned encoder. In Bayesian
linear regression on z the variance of a new value is proportional to 1 + h(z), with
h(z) = z' (Z'Z + penalty I)^-1 z over the training rows: it grows with the distance from them. Here
the variance is s^2 (1 + ratio h(z)); penalty and ratio are those under which the validation
residuals are likeliest, and ratio 0 (the same everywhere) stays unless another is clearly better.

Scale. s comes from the validation residuals, which training has not fitted; only the choice of the
best epoch has seen them. Intervals are split-conformal (Papadopoulos et al. 2002, normalised
residuals): quantiles of |residual| / sd on validation rows, with the correction for their number.
They cover as promised for rows that resemble the validation rows, and make no promise beyond.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moltide.assay_model.spec import FloatArray

#: Coverage of the intervals that runs and predictions report.
INTERVAL = 0.9
# Fewer residuals than this set a scale but no shape; fewer than the second set nothing.
_ENOUGH_FOR_SHAPE, _ENOUGH = 40, 5
_PENALTIES = tuple(10.0**p for p in range(-4, 3))
_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# Gain in log likelihood that a shape (two more parameters) has to show.
_NEEDED_GAIN = 3.0


@dataclass
class Uncertainty:
    """Attributes:
    centre, scale: (C,) standardisation of the representation.
    projection: (C, r): h(z) is the squared length of z @ projection.
    ratio, sd: (k,): the variance of target j is sd[j]^2 (1 + ratio[j] h).
    residuals: k ascending arrays of |residual| / sd on the validation rows.
    """

    centre: FloatArray
    scale: FloatArray
    projection: FloatArray
    ratio: FloatArray
    sd: FloatArray
    residuals: list[FloatArray]

    @classmethod
    def fit(
        cls,
        train: npt.NDArray[np.float32],
        valid: npt.NDArray[np.float32],
        residuals: FloatArray,
    ) -> Uncertainty:
        """From representations of training (n, C) and validation rows (m, C), and the validation
        residuals (m, k), NaN where not measured."""
        z = train.astype(np.float64)
        centre, scale = z.mean(axis=0), z.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        z = (z - centre) / scale
        values, vectors = np.linalg.eigh(z.T @ z)
        values = np.maximum(values, 0.0)
        rotated = ((valid.astype(np.float64) - centre) / scale @ vectors) ** 2
        unit = max(float(values.mean()), 1e-12)
        best: tuple[float, float, list[tuple[float, float]]] | None = None
        for penalty in _PENALTIES:
            leverage = rotated @ (1.0 / (values + penalty * unit))
            shapes = [_best_shape(column, leverage) for column in residuals.T]
            gain = sum(shape[0] for shape in shapes)
            if best is None or gain > best[0]:
                best = (gain, penalty * unit, [(shape[1], shape[2]) for shape in shapes])
        assert best is not None
        keep = values > values.max(initial=0.0) * 1e-12
        projection = vectors[:, keep] / np.sqrt(values[keep] + best[1])
        # As a file keeps it, so that a loaded model gives the same bits.
        projection = projection.astype(np.float32).astype(np.float64)
        model = cls(
            centre,
            scale,
            projection,
            np.array([ratio for ratio, _ in best[2]]),
            np.array([sd for _, sd in best[2]]),
            [],
        )
        spread = model.std(valid)
        for j, column in enumerate(residuals.T):
            known = ~np.isnan(column)
            # Too few for a scale: kept as they are, so that their number is known.
            scale = spread[known, j] if model.sd[j] > 0 else 1.0
            model.residuals.append(np.sort(np.abs(column[known]) / scale))
        return model

    def leverage(self, representation: npt.NDArray[np.float32]) -> FloatArray:
        """h of each row (n,)."""
        z = (representation.astype(np.float64) - self.centre) / self.scale
        # A row at a time: the bits of a row must not depend on how many are asked for.
        return np.array([float(np.sum((row @ self.projection) ** 2)) for row in z])

    def std(self, representation: npt.NDArray[np.float32]) -> FloatArray:
        """(n, k) standard deviation; NaN for a target with too few validation rows."""
        h = self.leverage(representation)[:, None]
        spread: FloatArray = self.sd * np.sqrt(1.0 + self.ratio * h)
        return spread

    def width(self, level: float) -> FloatArray:
        """(k,) half width of the interval of coverage `level`, in units of `std`; NaN where the
        validation rows are too few for it."""
        widths = np.full(len(self.sd), np.nan)
        for j, residuals in enumerate(self.residuals):
            if _suffice(len(residuals), level):
                widths[j] = residuals[_rank(len(residuals), level) - 1]
        return widths

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file; `from_arrays` is the way back."""
        flat = np.concatenate(self.residuals) if self.residuals else np.zeros(0)
        return {
            "centre": self.centre,
            "scale": self.scale,
            "projection": self.projection.astype(np.float32),
            "ratio": self.ratio,
            "sd": self.sd,
            "residuals": flat,
            "residual_counts": np.array([len(r) for r in self.residuals], np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Uncertainty:
        ends = np.cumsum(arrays["residual_counts"])[:-1]
        return cls(
            arrays["centre"],
            arrays["scale"],
            arrays["projection"].astype(np.float64),
            arrays["ratio"],
            arrays["sd"],
            list(np.split(arrays["residuals"], ends)),
        )


def missing_intervals(
    uncertainty: Uncertainty | None, names: Sequence[str], level: float
) -> list[str]:
    """A line for each target of numbers that has no intervals: why.

    Args:
        names: of the targets, "" for those that are classes.
    """
    if not any(names):
        return []
    if uncertainty is None:
        return [
            f"no std and no {level:.0%} intervals: the model was fitted without validation rows"
        ]
    needed = next(n for n in itertools.count(_ENOUGH) if _suffice(n, level))
    lines = []
    for name, residuals in zip(names, uncertainty.residuals, strict=True):
        n = len(residuals)
        if n >= needed or not name:
            continue
        what = f"{level:.0%} intervals" if n >= _ENOUGH else f"std and no {level:.0%} intervals"
        whose = f" for {name}" if len(names) > 1 else ""
        rows = "validation row has" if n == 1 else "validation rows have"
        lines.append(f"no {what}{whose}: {n} {rows} an exact value, {needed} are needed")
    return lines


def _rank(n: int, level: float) -> int:
    """Which of n ascending residuals is the half width of a split-conformal interval."""
    return int(np.ceil((n + 1) * level))


def _suffice(n: int, level: float) -> bool:
    return n >= _ENOUGH and _rank(n, level) <= n


def _best_shape(residuals: FloatArray, leverage: FloatArray) -> tuple[float, float, float]:
    """(gain in log likelihood over a constant variance, ratio, sd) for one target."""
    known = ~np.isnan(residuals)
    squared, h = residuals[known] ** 2, leverage[known]
    n = len(squared)
    if n < _ENOUGH:
        return 0.0, 0.0, float("nan")
    constant = max(float(squared.mean()), 1e-30)
    found = (0.0, 0.0, float(np.sqrt(constant)))
    if n < _ENOUGH_FOR_SHAPE:
        return found
    for ratio in _RATIOS:
        shape = 1.0 + ratio * h
        variance = max(float((squared / shape).mean()), 1e-30)
        gain = 0.5 * (n * np.log(constant) - n * np.log(variance) - float(np.log(shape).sum()))
        if gain > max(found[0], _NEEDED_GAIN):
            found = (gain, ratio, float(np.sqrt(variance)))
    return found


def fit_temperature(logits: FloatArray, labels: FloatArray, binary: bool) -> float:
    """The factor on validation logits under which the labels are likeliest (Guo et al. 2017); 1
    with fewer than 20 labels. `logits` (m,) or (m, classes), `labels` (m,) class indices."""
    from scipy.optimize import minimize_scalar

    if len(labels) < 20 or len(np.unique(labels)) < 2:
        return 1.0

    def loss(log_scale: float) -> float:
        scaled = logits * np.exp(log_scale)
        if binary:
            return float(np.mean(np.logaddexp(0.0, scaled) - labels * scaled))
        top = scaled.max(axis=1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))
        return float(np.mean(total - scaled[np.arange(len(labels)), labels.astype(np.int64)]))

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
