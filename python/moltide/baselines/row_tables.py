"""Tables of molecules that are expensive to compute: a row at its first use, and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from moltide.baselines.descriptors import descriptors
from moltide.baselines.linear import IntArray
from moltide.chem.fingerprints import morgan_counts

_COMPUTED: dict[str, Callable[[Sequence[str]], Any]] = {
    "counts": morgan_counts,
    "descriptors": descriptors,
}


class MoleculeTables:
    """Morgan counts (CSR) and descriptors (dense) of n molecules, by name."""

    def __init__(self, smiles: Sequence[str]) -> None:
        self._smiles = list(smiles)
        self._tables: dict[str, Any] = {}
        self._at: dict[str, IntArray] = {}

    def __len__(self) -> int:
        return len(self._smiles)

    def of(self, name: str, rows: IntArray) -> Any:
        """The rows (m, columns) of "counts" or "descriptors", in this order.

        Raises:
            DataError, MissingDependencyError: see `chem.fingerprints.molecules`.
        """
        from scipy import sparse

        at = self._at.setdefault(name, np.full(len(self), -1, np.int64))
        missing = np.unique(rows[at[rows] < 0])
        if len(missing) or name not in self._tables:
            made = _COMPUTED[name]([self._smiles[i] for i in missing])
            table = self._tables.get(name)
            start = 0 if table is None else table.shape[0]
            at[missing] = start + np.arange(len(missing))
            if table is not None:
                stack = sparse.vstack if sparse.issparse(made) else np.vstack
                made = stack([table, made])
            self._tables[name] = made.tocsr() if sparse.issparse(made) else made
        return self._tables[name][at[rows]]
