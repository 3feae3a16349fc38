"""The recipe of the bundled `protein-mini`, with the options of `moltide pretrain`.

    python examples/pretrain_protein_mini.py --train train.fasta.gz valid.fasta.gz --out mini/

The sequences are named in the model card of `protein-mini`; 2 % of them are held out by cluster.
Same files in the same order, same seed, same kind of processor: the same bits, on any number of
threads. Interrupted, the same command goes on. The model, its card and a report are in the folder;
`moltide.load("mini/")` reads it.
"""

from __future__ import annotations

import argparse

from moltide.cli.voice import TerminalVoice
from moltide.pretraining import PretrainOptions, pretrain

RECIPE = {
    "layers": 6,
    "width": 256,
    "heads": 8,
    "longest": 512,
    "mask_rate": 0.3,
    "batch_tokens": 4096,
    "steps": 9000,
    "lr": 1e-3,
    "warmup": 300,
    "valid_every": 500,
    "dtype": "bf16",
    "save_dtype": "bf16",
    "seed": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", required=True, nargs="+")
    parser.add_argument("--valid", help="a file in place of held-out clusters")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int, default=RECIPE["steps"], help="fewer for a trial")
    given = vars(parser.parse_args())
    pretrain(PretrainOptions(**{**RECIPE, **given}), TerminalVoice())


if __name__ == "__main__":
    main()
