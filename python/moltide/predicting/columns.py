"""The columns that a prediction adds to a table, and what rows are ordered by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moltide.assay_model.molecule_domain import MoleculeDomain
from moltide.assay_model.uncertainty import INTERVAL
from moltide.finetune.results import (
    NEAREST,
    nearest_cells,
    number,
    predicted_cells,
    prediction_columns,
)
from moltide.panel import PanelView, Threshold

if TYPE_CHECKING:
    import numpy as np

    from moltide.assay_model import AssayModel, Prediction
    from moltide.panel import Verdicts

RANK, DOMAIN, NOTE = "rank", "in_domain", "domain_note"


class Columns:
    """Names and cells of the columns added; the last three are rank, in_domain and domain_note.

    Of molecules the two before these tell of the nearest training molecule. With several targets,
    or thresholds (by target), these are looked at together: see `moltide.panel.lights`.

    Args:
        uncertainty: also std and intervals, where the model has them.
        ascending: rank 1 is the lowest.
    """

    def __init__(
        self,
        model: AssayModel,
        thresholds: Mapping[int, Threshold],
        uncertainty: bool,
        ascending: bool,
    ) -> None:
        spec = model.spec
        self.model, self.spec, self.thresholds = model, spec, dict(thresholds)
        self.ascending = ascending
        self.several = len(spec.target_names) > 1
        self.named = self.several or spec.transformed
        view = PanelView(model, thresholds, ascending)
        self.view = view if thresholds or (self.several and view.can_rank) else None
        known = model.uncertainty is not None if spec.of_numbers else model.sets is not None
        # Single classes have no column for their set.
        wanted = bool(spec.of_numbers) or self.view is not None
        self.interval = INTERVAL if uncertainty and known and wanted else None
        self.added = self._names()

    def _names(self) -> list[str]:
        names: list[str] = []
        self.lights_at: dict[int, int] = {}
        # Of classes the probability of the last.
        self.values_at: list[int] = []
        for j, name in enumerate(self.spec.target_names):
            classes = self.spec.classes_of(j)
            self.values_at.append(len(names) + len(classes))
            names += prediction_columns(name, classes, self.several, self.named, measured=False)
            suffix = f"_{name}" if self.named else ""
            names += [f"in_domain{suffix}"] if j in self.model.target_domains.targets else []
            if j in self.thresholds:
                self.lights_at[j] = len(names)
                names += [f"light{suffix}", f"meets{suffix}"]
            elif self.view is not None and not self.thresholds:
                names.append(f"percentile{suffix}")
        if self.view is not None:
            names.append("overall")
        if self.thresholds:
            names.append("liabilities")
        if isinstance(self.model.domain, MoleculeDomain):
            names += NEAREST
        return [*names, RANK, DOMAIN, NOTE]

    @property
    def ranked_by(self) -> tuple[str, str]:
        """(the column that ranks go by, the same in words)."""
        spec, first = self.spec, "lowest" if self.ascending else "highest"
        if self.thresholds:
            words = "'overall', the probability that all thresholds are met; rows outside the "
            return "overall", f"{words}training domain come after the others"
        if self.view is not None:
            words = f"the mean percentile among the training values of {len(spec.target_names)}"
            return "overall", f"'overall', {words} targets; 1 is the {first}"
        suffix = f"_{spec.target_names[0]}" if self.named else ""
        column, words = f"predicted{suffix}", ""
        if spec.task_of(0) == "classification":
            last = spec.classes_of(0)[-1]
            column, words = f"p_{last}{suffix}", f", the probability of {last!r}"
        if self.several:
            words += f", the first of {len(spec.target_names)} targets"
        return column, f"{column!r}{words}; 1 is the {first}"

    def predict(self, sequences: list[str]) -> tuple[Prediction, Verdicts | None]:
        """Predictions with what the columns need."""
        found = self.model.predict(sequences, interval=self.interval, domain=True)
        return found, None if self.view is None else self.view.look(found, INTERVAL)

    def cells(
        self, found: Prediction, verdicts: Verdicts | None, at: int, remark: str
    ) -> list[Any]:
        """The cells of one row, its rank left empty; `remark` joins the note."""
        cells: list[Any] = []
        for j in range(len(self.spec.target_names)):
            cells += predicted_cells(found, at, j, self.spec.classes_of(j), self.several)
            if j in found.target_notes:
                cells.append("no" if found.target_notes[j][at] else "yes")
            if verdicts is None:
                continue
            if j in verdicts.lights:
                meets = float(verdicts.meets[j][at])
                cells += [verdicts.lights[j][at], number(meets)]
            elif j in verdicts.percentiles:
                cells.append(f"{verdicts.percentiles[j][at]:.1f}")
        if verdicts is not None:
            cells.append(number(float(verdicts.overall[at])))
            if self.thresholds:
                cells.append(verdicts.liabilities(at, self.spec.target_names))
        cells += nearest_cells(found, at)
        note = found.notes[at] if found.notes else ""
        return [*cells, "", "no" if note else "yes", "; ".join(filter(None, (note, remark)))]

    def empty(self, reason: str) -> list[Any]:
        """The cells of a row that could not be predicted."""
        return [""] * (len(self.added) - 1) + [f"not predicted: {reason}"]

    def order(
        self, found: Prediction, verdicts: Verdicts | None, at: int
    ) -> tuple[float | None, float | None]:
        """What the row is ranked by, the largest first; None: not ranked."""
        if verdicts is not None:
            first, second = verdicts.order[at].tolist()
            return _or_none(first), _or_none(second)
        sign = -1.0 if self.ascending else 1.0
        own: np.ndarray = found.of(self.spec, 0)[at]
        return _or_none(sign * float(own if own.ndim == 0 else own[-1])), 0.0


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
