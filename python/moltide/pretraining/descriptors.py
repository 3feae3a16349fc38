"""Descriptors that a molecule model learns to predict beside masked tokens.

Ahmad et al. 2022 (ChemBERTa-2, arXiv:2209.01712) found encoders trained on such properties better
at assays than masked-token ones. Values are RDKit's: counts, topology (Hall and Kier 1991), polar
surface, Crippen logP and refractivity, surface by logP, refractivity and charge, and MQN counts
(Nguyen et al. 2009, 10.1002/cmdc.200900317).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import DataError

# RDKit's vectors, and how long each is.
_VECTORS = (("SlogP_VSA_", 12), ("SMR_VSA_", 10), ("PEOE_VSA_", 14), ("MQNs_", 42))
_SCALARS = 43
COUNT = _SCALARS + sum(size for _, size in _VECTORS)


@lru_cache(maxsize=1)
def _functions() -> tuple[Any, list[Any]]:
    from rdkit.Chem import rdMolDescriptors

    return rdMolDescriptors.Properties(), [getattr(rdMolDescriptors, n) for n, _ in _VECTORS]


def descriptors(molecule: Any) -> npt.NDArray[np.float64]:
    """(COUNT,) descriptors of an RDKit molecule; NaN where RDKit has no value."""
    scalars, vectors = _functions()
    values = np.array(
        [*scalars.ComputeProperties(molecule), *(v for f in vectors for v in f(molecule))]
    )
    if values.shape != (COUNT,):
        raise DataError(f"this RDKit gives {len(values)} descriptors, {COUNT} are expected")
    values[~np.isfinite(values)] = np.nan
    return values
