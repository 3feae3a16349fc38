"""`import moltide` is light: nothing heavy comes with it, torch never."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import moltide

TINY = Path(__file__).parent.parent / "data" / "esm2_tiny_random"
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


# What `moltide embed one.fasta -o out.npy` from a folder has no use for.
NOT_FOR_EMBEDDING = (
    "torch", "transformers", "pandas", "sklearn", "scipy", "matplotlib", "pyarrow", "rich",
    "huggingface_hub", "tqdm", "rapidfuzz", "jinja2", "moltide.training", "moltide.estimators",
    "moltide.assay_model", "moltide.finetune", "moltide.baselines", "moltide.report",
    "moltide.assay.read", "moltide.assay.source", "moltide.assay.columns",
    "moltide.assay.mutations", "moltide.cli.finetune", "moltide.cli.predict",
)  # fmt: skip


def test_the_embed_command_imports_what_it_needs(tmp_path):
    fasta, out = tmp_path / "one.fasta", tmp_path / "out.npy"
    fasta.write_text(">a\nMKTVRQERL\n")
    command = ["embed", str(fasta), "-o", str(out), "--backbone", str(TINY)]
    loaded = modules_after(f"from moltide.cli import main; assert main({command!r}) == 0")
    assert out.is_file()
    assert not loaded.intersection(NOT_FOR_EMBEDDING)


def test_help_needs_no_arrays():
    loaded = modules_after("from moltide.cli import main; main(['--help'])")
    assert loaded.isdisjoint({"numpy", "pandas", "sklearn", "moltide._engine"})


@pytest.mark.parametrize(
    ("call", "seen"),
    [
        ("sys.argv = ['moltide', '--version']; main()", "False True True"),
        ("main(['--version'])", "True True False"),
    ],
)
def test_garbage_is_collected_once_the_command_works(call, seen):
    """In a process of its own not while it imports, nor among what it imported; called from
    Python it leaves the collector alone."""
    code = f"""
import gc, sys
from moltide.cli import app, main
build, seen = app.build, []
app.build = lambda first: (seen.append(gc.isenabled()), build(first))[1]
{call}
print(*seen, gc.isenabled(), gc.get_freeze_count() > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == seen
