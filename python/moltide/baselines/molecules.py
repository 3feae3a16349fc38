"""Baselines of molecules: what chemists would try before a neural network."""

from __future__ import annotations

from collections.abc import Callable

from moltide.baselines.boosting import fit_boosting
from moltide.baselines.dense import fit_standardised
from moltide.baselines.forest import fit_forest
from moltide.baselines.inputs import Inputs
from moltide.baselines.neighbour import between_molecules, fit_neighbours
from moltide.baselines.result import TargetFit
from moltide.chem.fingerprints import RADIUS, SIZE, packed_bits

_FINGERPRINT = f"; Morgan fingerprint of radius {RADIUS}, {SIZE:,} columns"


def _forest(inputs: Inputs) -> list[TargetFit]:
    known, test = inputs.molecules("counts")
    fits = [fit_forest(known, test, one) for one in inputs.problems]
    for fit in fits:
        fit.settings["rows"] = len(inputs.known)
    return _noted(fits, _FINGERPRINT)


def _boosting(inputs: Inputs) -> list[TargetFit]:
    known, test = inputs.molecules("counts")
    return _noted(fit_boosting(known, test, inputs.problems), _FINGERPRINT)


def _neighbours(inputs: Inputs) -> list[TargetFit]:
    known, test = (packed_bits(table) for table in inputs.molecules("counts"))
    metric = between_molecules()
    fits = [fit_neighbours(known, test, one, metric) for one in inputs.problems]
    return _noted(fits, _FINGERPRINT)


def _descriptors(inputs: Inputs) -> list[TargetFit]:
    known, test = inputs.molecules("descriptors")
    return fit_standardised(known, test, inputs.problems, "descriptors")


def _noted(fits: list[TargetFit], text: str) -> list[TargetFit]:
    for fit in fits:
        fit.note += text
    return fits


#: How each is fitted, a fit per target.
FITS: dict[str, Callable[[Inputs], list[TargetFit]]] = {
    "morgan_forest": _forest,
    "morgan_boosting": _boosting,
    "descriptors_ridge": _descriptors,
    "nearest_neighbour": _neighbours,
}


def bytes_a_row(name: str, targets: int) -> int:
    """Bytes that a baseline's table takes for each row it is fitted to."""
    from moltide._engine import num_threads

    if name == "morgan_forest":
        return 4 * SIZE
    if name == "morgan_boosting":
        # float64 and binned, once as given and once as checked, for every target at a time.
        return 17 * SIZE * min(targets, num_threads())
    return 0
