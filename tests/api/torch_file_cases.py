"""What the committed PyTorch files hold; written by make_goldens.py, read without torch."""

from __future__ import annotations

import numpy as np


def arrays() -> dict[str, np.ndarray]:
    """Name -> float32 values of every tensor; the file stores some in other types and as views."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6) - 7.5
    return {
        "plain": base,
        "half": np.array([0.5, -2.0, 65504.0], np.float32),
        "brain": np.array([1.0, -3.140625, 2.0**100], np.float32),
        "double": np.array([[1.25], [-2.5]], np.float32),
        "transposed": base.T,
        "rows": base[1:3],
        "column": base[:, 2],
        "every_second": base.reshape(-1)[::2],
        "scalar": np.array(4.25, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": base[:2] * 2,
    }
