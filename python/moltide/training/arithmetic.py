"""The arithmetic that training computes in."""

from __future__ import annotations

from moltide.errors import ConfigError
from moltide.options import option


def training_dtype(dtype: str) -> str:
    """What `dtype` stands for in training; "auto": "bf16" where the processor has instructions for
    it (AVX512-BF16, AMX) that this process uses, else "float32".

    Raises:
        ConfigError: int8, which has no backward pass.
    """
    from moltide._engine import active_isa

    if dtype == "int8":
        raise ConfigError(
            f"{option('dtype')} 'int8' is for inference; train in 'float32' or 'bf16'"
        )
    if dtype != "auto":
        return dtype
    return "bf16" if active_isa() in ("avx512_bf16", "amx") else "float32"
