"""Fixtures shared by all tests. `tests/` is on the path: `from reference import ...` works."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from moltide import _engine


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes go by their argument's name: gzip writes the time, and all workers must agree."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _same_settings() -> Iterator[None]:
    """A test that changes the number of threads or the instruction set leaves no trace."""
    threads, isa = _engine.num_threads(), _engine.active_isa()
    yield
    _engine.set_num_threads(threads)
    _engine.set_isa(isa)


@pytest.fixture(params=_engine.available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set of this machine in turn."""
    _engine.set_isa(request.param)
    return str(request.param)


@pytest.fixture(params=[i for i in _engine.available_isas() if i in ("portable", "avx2", "avx512")])
def vector_isa(request: pytest.FixtureRequest) -> str:
    """Those of `isa` that every op is compiled for; the rest add products (and attention) alone."""
    _engine.set_isa(request.param)
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
