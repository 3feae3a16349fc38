"""`import moltide` is light: nothing heavy comes with it, torch never."""

from __future__ import annotations

import subprocess
import sys

import pytest

import moltide

HEAVY = (
    "torch", "transformers", "numpy", "pandas", "sklearn", "scipy", "matplotlib", "pyarrow",
    "huggingface_hub", "safetensors", "typer", "rich", "moltide._engine",
)  # fmt: skip


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_import_brings_nothing_heavy():
    assert modules_after("import moltide").isdisjoint(HEAVY)


def test_embedding_needs_no_torch():
    code = "from moltide.random_init import *; random_encoder(esm2_config(1, 16, 2)).embed(['MKT'])"
    assert modules_after(code).isdisjoint({"torch", "transformers", "sklearn", "matplotlib"})


@pytest.mark.parametrize("name", moltide.__all__)
def test_every_public_name_is_there(name):
    assert getattr(moltide, name) is not None


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = moltide.nonsense
