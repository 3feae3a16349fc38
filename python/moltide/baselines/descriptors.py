"""Physicochemical descriptors of molecules by RDKit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moltide.baselines.result import FloatArray
from moltide.chem.fingerprints import molecules, require_rdkit

# Slow (more than all others together), or without bounds: an information content that grows
# exponentially with the atoms.
_LEFT_OUT = (
    "qed", "SPS", "Ipc", "AvgIpc", "BCUT2D_", "BertzCT", "MaxAbsEStateIndex", "MinAbsEStateIndex",
)  # fmt: skip
# Molecules from which several processes are worth starting, and how many each gets at a time.
_MANY, _SHARE = 4000, 500


def descriptor_names() -> list[str]:
    """About 200 names: sizes, charges, surfaces, polarity, rings, counts of groups."""
    return [name for name, _ in _functions()]


def descriptors(smiles: Sequence[str]) -> FloatArray:
    """(n, p) float64; NaN where RDKit finds no value. The same whatever the number of processes.

    Raises:
        DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
    """
    from moltide._engine import num_threads

    processes = min(num_threads(), len(smiles) // _SHARE)
    if len(smiles) < _MANY or processes < 2:
        return _computed(smiles)
    # RDKit computes descriptors one at a time, whatever the number of threads.
    from joblib import Parallel, delayed

    parts = [smiles[i : i + _SHARE] for i in range(0, len(smiles), _SHARE)]
    found = Parallel(n_jobs=processes)(delayed(_computed)(part) for part in parts)
    return np.concatenate(list(found))


def _functions() -> list[tuple[str, Any]]:
    require_rdkit()
    from rdkit.Chem import Descriptors

    return [(name, f) for name, f in Descriptors.descList if not name.startswith(_LEFT_OUT)]


def _computed(smiles: Sequence[str]) -> FloatArray:
    functions = _functions()
    rows = [_row(molecule, functions) for molecule in molecules(smiles)]
    return np.array(rows, np.float64).reshape(len(rows), len(functions))


def _row(molecule: Any, functions: list[tuple[str, Any]]) -> list[float]:
    from rdkit import rdBase

    row = []
    with rdBase.BlockLogs():
        for _, function in functions:
            try:
                row.append(float(function(molecule)))
            except (ValueError, RuntimeError, ZeroDivisionError, OverflowError):
                row.append(float("nan"))
    return row
