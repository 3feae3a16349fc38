"""How far an op may be from its float64 reference: TOLERANCES[op][dtype] = (relative, absolute).

The absolute part is meant for values of order one; tests of other magnitudes scale it.
"""

from __future__ import annotations

TOLERANCES: dict[str, dict[str, tuple[float, float]]] = {
    "adamw": {"float32": (2e-6, 1e-7)},
    "cross_entropy": {"float32": (2e-6, 5e-7), "bf16": (4e-3, 5e-7)},
    "pointwise_loss": {"float32": (1e-6, 1e-7)},
    "ranking": {"float32": (1e-6, 1e-7)},
    "tobit": {"float32": (1e-6, 1e-7)},
}
