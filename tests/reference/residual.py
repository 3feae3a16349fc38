"""Float64 sums of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def add(x: Array, branch: Array, scale: float = 1.0) -> Array:
    return np.asarray(x, np.float64) + scale * np.asarray(branch, np.float64)
