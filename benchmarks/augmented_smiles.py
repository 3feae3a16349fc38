"""What other SMILES of the training molecules are good for, on ESOL from random weights.

    python benchmarks/augmented_smiles.py esol.csv

The table has columns `smiles` and `logS`. Three layers of width 96, all weights trained, 1/5 of the
molecules drawn for testing, with and without random spellings: test RMSE and Spearman, and how far
(root mean square) predictions of five spellings of the test molecules, which training has not seen,
lie from those of the canonical ones.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

LAYERS, WIDTH, HEADS = 3, 96, 6
SPELLINGS = 5


def backbone(seed: int) -> Any:
    """Random weights over SMILES."""
    from moltide.random_init import esm2_config, random_encoder
    from moltide.smiles_tokenizer import SMILES_VOCABULARY, SmilesTokenizer

    config = {**esm2_config(LAYERS, WIDTH, HEADS, 4 * WIDTH), "vocab": len(SMILES_VOCABULARY)}
    config = {**config, "token_dropout": False, "contact_head": False}
    return random_encoder(config, seed=seed, tokenizer=SmilesTokenizer())


def one_fit(smiles: list[str], y: np.ndarray, augment: int, seed: int, epochs: int) -> list[float]:
    """[RMSE, Spearman, spread over spellings, epoch kept, seconds]."""
    from rdkit import Chem
    from scipy.stats import spearmanr

    import moltide as mt

    order = np.random.default_rng(seed).permutation(len(y))
    test, train = np.split(order, [len(y) // 5 + 1])
    molecules = [Chem.MolFromSmiles(smiles[i]) for i in test]
    other = [Chem.MolToRandomSmilesVect(one, SPELLINGS, 99) for one in molecules]
    model = mt.AssayRegressor(
        backbone(seed),
        adapter="full",
        lr=1e-3,
        head_start="random",
        epochs=epochs,
        patience=epochs,
        seed=seed,
        augment=augment,
        dtype="float32",
    )
    start = time.perf_counter()
    model.fit([smiles[i] for i in train], y[train])
    seconds = time.perf_counter() - start
    found = model.predict([smiles[i] for i in test])
    # The estimator would bring every spelling back to the canonical one.
    columns = [[one[k] for one in other] for k in range(SPELLINGS)]
    spelled = np.array([model.model_.predict(column).values[:, 0] for column in columns])
    error = float(np.sqrt(np.mean((found - y[test]) ** 2)))
    spread = float(np.sqrt(np.mean((spelled - found) ** 2)))
    return [error, float(spearmanr(found, y[test])[0]), spread, model.best_epoch_, seconds]


def main() -> None:
    import pandas as pd

    from moltide.chem.standardise import standardise_all

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("--augment", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    table = pd.read_csv(options.table)
    smiles = [one.smiles for one in standardise_all(table["smiles"].tolist()).molecules]
    y = table["logS"].to_numpy(float)
    print("seed  augment  RMSE   Spearman  spread  epoch  seconds")
    for seed in range(options.seeds):
        for augment in (0, options.augment):
            row = one_fit(smiles, y, augment, seed, options.epochs)
            print("{:4}  {:7}  {:.3f}  {:8.3f}  {:6.3f}  {:5}  {:7.0f}".format(seed, augment, *row))


if __name__ == "__main__":
    main()
