"""Fixtures shared by all tests. `tests/` is on the path: `from reference import ...` works."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from moltide import _engine


@pytest.fixture(params=_engine.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn; the one before is restored."""
    before = _engine.active_isa()
    _engine.set_isa(request.param)
    yield request.param
    _engine.set_isa(before)


@pytest.fixture(params=[i for i in _engine.available_isas() if i in ("portable", "avx2", "avx512")])
def vector_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `isa`, without those that have instructions for products of bf16 alone."""
    before = _engine.active_isa()
    _engine.set_isa(request.param)
    yield request.param
    _engine.set_isa(before)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """A test that changes the number of threads leaves no trace."""
    before = _engine.num_threads()
    yield
    _engine.set_num_threads(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
