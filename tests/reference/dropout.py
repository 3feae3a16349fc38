"""Dropout by the counter-based generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.philox import uniform

Array = NDArray[np.float32]


def dropout(x: Array, p: float, seed: int, stream: int) -> Array:
    """x (T, C) with dropped elements at zero and the others times 1 / (1 - p), in float32."""
    keep = uniform(seed, stream, np.arange(len(x)), x.shape[1]) >= np.float32(p)
    scale = np.float32(1) / (np.float32(1) - np.float32(p))
    return np.where(keep, x * scale, np.float32(0))
