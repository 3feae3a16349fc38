"""Central differences in float64, the judge of every reference gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def gradient(
    f: Callable[[NDArray[np.float64]], float], x: NDArray[np.float64], step: float = 1e-5
) -> NDArray[np.float64]:
    """Gradient of the scalar `f` at `x`, of any shape; error about step**2 * |f'''|."""
    x = np.array(x, np.float64)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        here = x[index]
        x[index] = here + step
        above = f(x)
        x[index] = here - step
        result[index] = (above - f(x)) / (2 * step)
        x[index] = here
    return result
