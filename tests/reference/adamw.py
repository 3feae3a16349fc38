"""Float64 AdamW (Loshchilov & Hutter 2019) and clipping by global norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def adamw(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
    grad_scale: float = 1.0,
) -> tuple[Array, Array, Array]:
    """New (w, m, v), each (n,); `step` counts from 1."""
    w, g, m, v = (np.asarray(a, np.float64) for a in (w, g, m, v))
    g = g * grad_scale
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    return w - lr * weight_decay * w - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def clip_scale(gradients: list[Array], max_norm: float) -> float:
    """What every gradient is multiplied by so that their joint norm is at most `max_norm`."""
    total = sum(float((np.asarray(g, np.float64) ** 2).sum()) for g in gradients)
    return min(1.0, max_norm / (np.sqrt(total) + 1e-6))
