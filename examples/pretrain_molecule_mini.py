"""The recipe of the bundled `molecule-mini`, with the options of `moltide pretrain`.

    python examples/pretrain_molecule_mini.py --train train.csv.gz --valid valid.csv.gz --out mini/

Tables of drug-like SMILES (column `smiles`), named in the model card of `molecule-mini`. Hidden
tokens and RDKit's descriptors are learned in one pass. Same files in the same order, same seed,
same kind of processor: the same bits, on any number of threads. Interrupted, the same command goes
on. The model, its card and a report are in the folder; `moltide.load("mini/")` reads it.
"""

from __future__ import annotations

import argparse

from moltide.cli.voice import TerminalVoice
from moltide.pretraining import PretrainOptions, pretrain

RECIPE = {
    "kind": "molecule",
    "sequence": "smiles",
    "augment": 4,
    "descriptors": True,
    "layers": 6,
    "width": 256,
    "heads": 8,
    "longest": 512,
    "mask_rate": 0.2,
    "batch_tokens": 4096,
    "steps": 8000,
    "lr": 1e-3,
    "warmup": 300,
    "valid_every": 500,
    "dtype": "bf16",
    "save_dtype": "bf16",
    "keep": "last",
    "seed": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", required=True, nargs="+")
    parser.add_argument("--valid", help="a table in place of held-out scaffolds")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=RECIPE["steps"], help="fewer for a trial")
    given = vars(parser.parse_args())
    pretrain(PretrainOptions(**{**RECIPE, **given}), TerminalVoice())


if __name__ == "__main__":
    main()
