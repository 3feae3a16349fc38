"""A tiny backbone, an assay and a finished run, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import FAST, call
from tiny_runs import assay, tiny_backbone


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assay(tmp_path_factory.mktemp("assay") / "assay.csv")


@pytest.fixture(scope="session")
def run(table: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert call("finetune", table, "--backbone", backbone, "--out", out, *FAST) == 0
    return out
