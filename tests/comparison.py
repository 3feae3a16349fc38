"""What the op tests compare with: tolerances by op, bits, rounding to bf16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import moltide._engine as engine
from tolerances import TOLERANCES

Array = NDArray[np.float32]


def round_bf16(x: Any) -> Array:
    """`x` as float32 rounded to the nearest bf16, ties to even."""
    with np.errstate(invalid="ignore"):  # NaN may come, and stays
        return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def representable(x: Any, dtype: str) -> Array:
    """`x` as float32, with values that `dtype` holds exactly."""
    return round_bf16(x) if dtype == "bf16" else np.asarray(x, np.float32)


def relative_error(actual: Any, expected: Any) -> float:
    """Length of the difference over that of `expected`."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def assert_close(actual: Any, expected: Any, relative: float) -> None:
    """The largest difference, relative to the largest of the expected values."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= relative * np.abs(expected).max()


def assert_within(actual: Any, expected: Any, op: str, dtype: str = "float32") -> None:
    relative, absolute = TOLERANCES[op][dtype]
    np.testing.assert_allclose(actual, expected, rtol=relative, atol=absolute)


def assert_same_bits(actual: Any, expected: Any) -> None:
    """Equal bit by bit: NaN equals NaN, -0.0 does not equal 0.0."""
    a, b = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    different = np.flatnonzero(a.view(np.uint32) != b.view(np.uint32))
    assert not different.size, f"{different.size} of {a.size} differ, first at {different[0]}"


def assert_rows_alone(f: Callable[[slice], Array], rows: int) -> None:
    """`f(rows)` gives the same bits for a row alone, in any batch, on any number of threads."""
    engine.set_num_threads(1)
    together = f(slice(0, rows))
    assert len(together) == rows
    for threads in (2, 3):
        engine.set_num_threads(threads)
        assert_same_bits(f(slice(0, rows)), together)
    for begin, end in ((0, 1), (1, 2), (rows - 1, rows), (rows // 3, rows // 2)):
        assert_same_bits(f(slice(begin, end)), together[begin:end])


def assert_any_threads(f: Callable[[], Array]) -> None:
    """`f()` gives the same bits on any number of threads."""
    engine.set_num_threads(1)
    alone = f()
    for threads in (2, 3, 5):
        engine.set_num_threads(threads)
        assert_same_bits(f(), alone)
