"""The notebooks of examples/ run from their first cell to their last, as they are committed."""

from __future__ import annotations

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> str:
    """What the code cells wrote."""
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    return "".join(one.text for one in outputs if one.output_type == "stream")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    committed = printed(notebook)
    assert committed, f"{path.name} was committed without its results"
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell["outputs"] = []
    where = {"metadata": {"path": str(EXAMPLES)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=where).execute()
    plots = sum("image/png" in json.dumps(cell.get("outputs", [])) for cell in notebook.cells)
    assert plots >= 2
    # What was read depends on the table alone: the same lines as in the committed results.
    first = committed.splitlines()[0]
    assert first in printed(notebook)


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"admet", "proteins", "rna"}
