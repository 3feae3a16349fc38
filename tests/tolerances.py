"""How far an op may be from its float64 reference: TOLERANCES[op][dtype] = (relative, absolute).

The absolute part is meant for values of order one; tests of other magnitudes scale it.
"""

from __future__ import annotations

TOLERANCES: dict[str, dict[str, tuple[float, float]]] = {
    "adamw": {"float32": (2e-6, 1e-7)},
    "attention": {"float32": (1e-5, 4e-6), "bf16": (8e-3, 2e-2)},
    "attention_pair_bias": {"float32": (1e-5, 8e-6), "bf16": (8e-3, 2e-2)},
    "attention_probs": {"float32": (2e-6, 1e-8), "bf16": (2e-6, 1e-8)},
    "contact": {"float32": (1e-5, 1e-6)},
    "cross_entropy": {"float32": (2e-6, 5e-7), "bf16": (4e-3, 5e-7)},
    "embedding": {"float32": (3e-7, 5e-7)},
    "linear_attention": {"float32": (1e-5, 1e-4), "bf16": (8e-3, 2e-2)},
    "gate": {"float32": (1e-6, 2e-7), "bf16": (4e-3, 2e-7)},
    "gaussian_basis": {"float32": (2e-5, 2e-7), "bf16": (4e-3, 2e-7)},
    "layernorm_bwd": {"float32": (5e-6, 5e-6)},
    "layernorm_fwd": {"float32": (5e-7, 1e-6), "bf16": (4e-3, 1e-6)},
    "mlp_act": {"float32": (5e-7, 3e-7), "bf16": (4e-3, 3e-7)},
    "pointwise_loss": {"float32": (1e-6, 1e-7)},
    "pool": {"float32": (5e-7, 1e-7)},
    "ranking": {"float32": (1e-6, 1e-7)},
    "residual": {"float32": (1e-6, 2e-7)},
    "rmsnorm_bwd": {"float32": (5e-6, 5e-6)},
    "rmsnorm_fwd": {"float32": (5e-7, 5e-7), "bf16": (4e-3, 5e-7)},
    "rope": {"float32": (5e-7, 2e-7), "bf16": (4e-3, 2e-7)},
    "triangle_product": {"float32": (1e-5, 1e-5)},
    "tobit": {"float32": (1e-6, 1e-7)},
}
