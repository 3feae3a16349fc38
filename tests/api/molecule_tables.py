"""Small published tables of molecules, and tables made of SMILES."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moltide.assay import AssayTable
from moltide.assay.summary import DataSummary
from moltide.kinds import MOLECULE
from moltide.random_init import esm2_config, random_encoder
from moltide.smiles_tokenizer import SMILES_VOCABULARY, SmilesTokenizer

DATA = Path(__file__).parent.parent / "data" / "molecules"


def esol() -> tuple[list[str], npt.NDArray[np.float64]]:
    """200 molecules and their solubility."""
    table = pd.read_csv(DATA / "esol_200.csv")
    return table["smiles"].tolist(), table["logS"].to_numpy(float)


def bbbp() -> tuple[list[str], npt.NDArray[np.float64]]:
    """200 molecules, and 1 for the 156 that pass into the brain, in mixed order."""
    table = pd.read_csv(DATA / "bbbp_200.csv").sample(frac=1, random_state=0)
    return table["smiles"].tolist(), table["bbb_permeable"].to_numpy(float)


def tiny_backbone(folder: Path) -> Path:
    """One layer of width 16 over SMILES, random weights, in the published format."""
    tokenizer = SmilesTokenizer()
    config = {
        **esm2_config(1, 16, 2, 32),
        "vocab": len(SMILES_VOCABULARY),
        "mask_token": tokenizer.mask_id,
        "token_dropout": False,
        "contact_head": False,
    }
    random_encoder(config, tokenizer=tokenizer).save(folder)
    return folder


def table_of(
    sequences: Sequence[str],
    y: npt.ArrayLike,
    task: str = "regression",
    kind: str = MOLECULE,
    **given: Any,
) -> AssayTable:
    """An assay table, as reading would make it of distinct sequences."""
    n = len(sequences)
    targets = np.asarray(y, np.float64).reshape(n, -1)
    lengths = [len(one) for one in sequences] or [0]
    summary = DataSummary(
        "made.csv", n, n, 2, "CSV", n, {}, [], [], [], task, min(lengths),
        float(np.median(lengths)), max(lengths),
    )  # fmt: skip
    return AssayTable(
        list(sequences),
        targets,
        np.zeros(targets.shape, np.int8),
        [f"y{j}" for j in range(targets.shape[1])],
        task,
        ["0", "1"] if task == "classification" else None,
        [[i + 2] for i in range(n)],
        np.ones(targets.shape, np.int64),
        [None] * targets.shape[1],
        summary,
        kind=kind,
        **given,
    )
