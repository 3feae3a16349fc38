"""8-bit rows and the product on them: codes as in float32 arithmetic, sums in int64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.matmul import gelu

F32 = NDArray[np.float32]
SMALLEST = np.float32(2.0**-100)


def quantize(x: F32) -> tuple[NDArray[np.int8], F32]:
    """(codes, scale): each row by its largest magnitude, which becomes 127.

    The codes are defined by float32 arithmetic, so that they can be compared exactly.
    """
    x = np.asarray(x, np.float32)
    amax = np.abs(x).max(axis=1, initial=0.0)
    finite = np.isfinite(amax)
    coded = finite & (amax >= SMALLEST)
    safe = np.where(coded, amax, np.float32(1)).astype(np.float32)
    rows = np.where(coded[:, None], x, np.float32(0))
    codes = np.rint(rows * (np.float32(127) / safe)[:, None]).astype(np.int8)
    scale = np.where(coded, safe / np.float32(127), np.float32(0))
    return codes, np.where(finite, scale, np.float32(np.nan)).astype(np.float32)


def sums(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int64]:
    """x (M, K) times w (N, K) transposed, exactly."""
    return x.astype(np.int64) @ w.astype(np.int64).T


def matmul_i8(
    x: NDArray[np.int8], x_scale: F32, w: F32, bias: F32 | None = None
) -> NDArray[np.float64]:
    """What 8-bit rows times a quantised w (N, K) are, in float64."""
    codes, w_scale = quantize(w)
    y = sums(x, codes) * (x_scale.astype(np.float64)[:, None] * w_scale.astype(np.float64))
    return y if bias is None else y + bias


def matmul_i8_bits(
    x: NDArray[np.int8], x_scale: F32, w: F32, bias: F32 | None = None, before: F32 | None = None
) -> F32:
    """The same, step by step in float32: the bits on every instruction set."""
    codes, w_scale = quantize(w)
    y = sums(x, codes).astype(np.float32) * (w_scale * x_scale[:, None])
    y = y + (np.float32(0) if bias is None else bias)
    return y if before is None else before + y


__all__ = ["gelu", "matmul_i8", "matmul_i8_bits", "quantize", "sums"]
