"""The global norm and the factor that clips it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import moltide._engine as engine
from reference.adamw import clip_scale as reference

ops = engine.ops


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 16383, 16384, 16385, 100_001])
def test_sum_squares(n, isa, rng):
    g = rng.normal(size=n).astype(np.float32)
    exact = math.fsum(float(x) * float(x) for x in g)
    assert ops.sum_squares(g) == pytest.approx(exact, rel=1e-13)


def test_bits_do_not_depend_on_threads_or_instruction_set(rng):
    g = rng.normal(size=300_007).astype(np.float32)
    seen = set()
    for isa in engine.available_isas():
        engine.set_isa(isa)
        for threads in (1, 2, 7):
            engine.set_num_threads(threads)
            seen.add(ops.sum_squares(g))
    assert len(seen) == 1


def test_no_finite_gradient_overflows(isa):
    g = np.full(20, 3e38, np.float32)
    assert ops.sum_squares(g) == pytest.approx(20 * float(g[0]) ** 2)
    tiny = np.full(20, 1e-40, np.float32)
    assert ops.sum_squares(tiny) == pytest.approx(20 * float(tiny[0]) ** 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 16, 20])
def test_bad_values_come_through(bad, place, isa):
    g = np.ones(21, np.float32)
    g[place] = bad
    total = ops.sum_squares(g)
    assert np.isnan(total) if np.isnan(bad) else np.isinf(total)


def test_clip_scale(rng):
    g = rng.normal(size=1000).astype(np.float32)
    total = ops.sum_squares(g)
    for max_norm in (0.1, 1.0, 1e3):
        want = reference([g.astype(float)], max_norm)
        assert ops.clip_scale(total, max_norm) == pytest.approx(want, rel=1e-6)
    assert ops.clip_scale(total, 1e3) == 1
    assert ops.clip_scale(total, 0.0) == 1
    assert ops.clip_scale(0.0, 1.0) == 1
    assert ops.clip_scale(math.inf, 1.0) == 0
    assert math.isnan(ops.clip_scale(math.nan, 1.0))
    with pytest.raises(ValueError, match="clip_norm: got -1"):
        ops.clip_scale(total, -1.0)
