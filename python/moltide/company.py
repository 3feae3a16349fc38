"""Whether a target gains by being fitted together with others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moltide.verdict import METRIC_LABELS, MIN_TEST, fixed, interval_text


@dataclass(frozen=True)
class Comparison:
    """One target fitted with the others and alone, on the test rows.

    `difference` is together less alone, with the paired bootstrap's 95 % interval; `better` is True
    where company helps, False where it harms, None where that cannot be told. `metrics` are those
    of the model of this target alone.
    """

    name: str
    metric: str
    together: float
    alone: float
    difference: float
    low: float
    high: float
    better: bool | None
    n_train: int
    n_test: int
    metrics: dict[str, float]

    @property
    def text(self) -> str:
        """A sentence."""
        label = METRIC_LABELS[self.metric]
        if self.n_test < MIN_TEST:
            return f"Too few test rows ({self.n_test}) to compare with a model of it alone."
        own = f"{fixed(self.alone, 3)} {label}"
        if self.better is None:
            apart = interval_text(self.difference, self.low, self.high)
            return (
                f"A model of it alone ({own}) cannot be told from this one: {apart} {label} apart."
            )
        if self.better:
            gain = interval_text(self.difference, self.low, self.high)
            return f"It gains {gain} {label} over a model of it alone ({own})."
        loss = interval_text(-self.difference, -self.high, -self.low)
        return f"It loses {loss} {label} to a model of it alone ({own})."

    def to_dict(self) -> dict[str, Any]:
        """For metrics.json."""
        values = dataclasses.asdict(self)
        for left_out in ("name", "together", "n_test"):
            del values[left_out]
        return {**values, "text": self.text}


def company_verdict(compared: Sequence[Comparison | None], n_targets: int) -> str:
    """One sentence over all targets that were fitted alone too."""
    done = [one for one in compared if one is not None]
    gains = sum(one.better is True for one in done)
    losses = sum(one.better is False for one in done)
    text = f"Fitted together, {gains} of {n_targets} targets gain over a model of each alone"
    text += f", {losses} lose" + (f", {len(done) - gains - losses} cannot be told apart")
    if len(done) < n_targets:
        text += f"; {n_targets - len(done)} were not compared"
    return text + "."
