"""--max-minutes: the time of a whole run, and what of it goes where."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.atomic import atomic_write_text
from moltide.options import option

if TYPE_CHECKING:
    from moltide.splits import Split

# Shares of the time left: for all that is done with validation and test rows, for the baselines
# (which is part of it), for training (alone, and before a learning curve; it may take 1.15 times
# its own).
_TEST_ROWS, _BASELINES = 0.5, 0.6
_TRAINING, _TRAINING_WITH_CURVE = 0.8, 0.55
# Training, where each target is then trained alone as well; and what these get of the rest.
_TRAINING_BEFORE_ALONE, _ALONE, _ALONE_WITH_CURVE = 0.4, 0.9, 0.65
# Drawing and writing the report.
_REPORT_SECONDS, _REPORT_SHARE = 4.0, 0.15
_FEWEST_ROWS = 100
# Training may outlast its time by this factor; with less time than this it is left out.
_OVERTIME, _LEAST_SECONDS = 1.15, 1.0
# Passes: what a prediction takes with all that follows; two baselines take one each.
_A_PREDICTION, _ALL_PASSES = 1.3, 3.3
# The baseline of the learning curve is cross-validated, and so fitted more often than beside it.
CURVE_FITS = 6


class Budget:
    """The time of a run from its start to its report; without `minutes` there is no end to it.

    `a_pass`: seconds of the encoder for one sequence, as measured here.
    """

    def __init__(self, minutes: float | None, started: float) -> None:
        self.limited = minutes is not None
        self.seconds = float("inf") if minutes is None else 60 * minutes
        self.started = started
        self.a_pass = 0.0
        self.rows = 0  # validation and test rows, to be predicted

    @property
    def used(self) -> float:
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds until the report has to be written."""
        return self.seconds - min(_REPORT_SECONDS, _REPORT_SHARE * self.seconds) - self.used

    @property
    def for_predicting(self) -> float:
        """What the predictions of the validation and test rows take."""
        return _A_PREDICTION * self.a_pass * self.rows

    @property
    def for_baselines(self) -> float:
        return max(0.0, _BASELINES * (self.left - self.for_predicting))

    def training_minutes(self, n_uncertain: int, with_curve: bool, with_alone: bool) -> float:
        """For training, after which `n_uncertain` rows are seen once more."""
        left = self.left - self.for_predicting
        left -= min(0.2 * left, self.a_pass * n_uncertain)
        share = _TRAINING_WITH_CURVE if with_curve else _TRAINING
        return max(0.01, left * (_TRAINING_BEFORE_ALONE if with_alone else share) / 60)

    def alone_minutes(self, n_targets: int, with_curve: bool) -> float | None:
        """For training the next of `n_targets` that are still to be trained alone; None: as long
        as it takes."""
        if not self.limited:
            return None
        share = _ALONE_WITH_CURVE if with_curve else _ALONE
        left = share * (self.left - self.for_predicting) / max(1, n_targets)
        return left / 60 / _OVERTIME if left > _LEAST_SECONDS else 0.0

    def fitting(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Rows of each part that can be looked at in time: all, or the same share of each."""
        passes = _TEST_ROWS * self.left / max(1e-9, _ALL_PASSES * self.a_pass)
        share = passes / max(1, sum(counts.values()))
        if share >= 1:
            return dict(counts)
        return {part: min(n, max(_FEWEST_ROWS, int(share * n))) for part, n in counts.items()}

    def overrun(self) -> list[str]:
        """A line if the run took longer than it was to."""
        if self.used <= 1.05 * self.seconds:
            return []
        return [
            f"the run took {self.used / 60:.2f} minutes, above {option('max_minutes')} "
            f"{self.seconds / 60:g}"
        ]


def rows_in_time(split: Split, budget: Budget, kept: Path, fingerprint: str) -> tuple[Split, str]:
    """The split with as many validation and test rows as there is time for, and what was left out.

    A run that goes on keeps the rows it began with; their numbers are in the file `kept`.
    """
    counts = {part: len(split.index(part)) for part in ("valid", "test")}
    fitting = _stored(kept, fingerprint)
    if fitting is None:
        fitting = budget.fitting(counts)
        document = {"fingerprint": fingerprint, "rows": fitting}
        atomic_write_text(kept, json.dumps(document) + "\n")
    budget.rows = sum(fitting.values())
    if fitting == counts:
        return split, ""
    labels = split.labels.copy()
    rng = np.random.default_rng(split.seed)
    for part, n in fitting.items():
        labels[rng.permutation(split.index(part))[n:]] = ""
    listed = " and ".join(
        f"{fitting[part]:,} of {counts[part]:,} {part} rows"
        for part in counts
        if fitting[part] < counts[part]
    )
    cut = f"{listed} are predicted, drawn at random"
    return dataclasses.replace(split, labels=labels, notes=[*split.notes, cut]), cut


def _stored(kept: Path, fingerprint: str) -> dict[str, int] | None:
    try:
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return dict(found["rows"]) if found.get("fingerprint") == fingerprint else None
