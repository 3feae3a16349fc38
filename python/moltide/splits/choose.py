"""The split that answers the question a table is measured for, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moltide.assay.table import AssayTable
from moltide.kinds import MOLECULE
from moltide.splits.variants import mutation_threshold


@dataclass(frozen=True)
class Choice:
    """A split method and the sentence that defends it."""

    method: str
    reason: str


def candidates(table: AssayTable, fractions: tuple[float, float, float]) -> list[Choice]:
    """Methods that suit the table, the most honest first; `random` is always the last resort.

    A split the user brought or asked for by naming a time or group column wins. Otherwise the
    question is what a random split would leak:

    - A scan of single substitutions: every test position has been seen in training with other
      residues, and a model that knows nothing but the average of each position looks good. Whole
      positions are held out.
    - Variants with several substitutions, in varied number: a random test variant shares most of
      its substitutions with training variants, while a designer asks about variants further out.
      Training sees few substitutions, test more. Where the numbers do not vary enough, positions
      are held out if that leaves enough to train on.
    - Molecules: a random test molecule has analogues of its own series in training, while a
      project asks about the next series. Whole scaffolds are held out, and where scaffolds cannot
      be dealt out, clusters of similar molecules.
    - A family of different sequences: near-identical relatives would straddle. Clusters by
      identity are held out.
    - Pairs of chains: the same, by identity over both chains.
    - A library over a few sites, or nothing known: random, with a warning.
    """
    if table.split is not None:
        return [Choice("column", f"the table brings its own split, column {table.split_name!r}")]
    if table.groups is not None:
        reason = f"groups of column {table.split_name!r} stay together, as asked"
        return [Choice("groups", reason)]
    found: list[Choice] = []
    if table.time is not None:
        found.append(Choice("time", "the model will be used on what is measured later"))
    if table.kind == MOLECULE:
        found += _for_molecules()
    elif table.paired:
        lineage = "antibodies of one lineage differ in a few residues, and siblings of a test pair"
        found.append(Choice("cluster", f"{lineage} in training would flatter the model"))
    elif table.substitutions is not None:
        found += _for_variants(table, fractions)
    else:
        found.append(
            Choice(
                "cluster",
                "the sequences are relatives of one another, and relatives of a test sequence in "
                "training would flatter the model",
            )
        )
    warning = (
        "nothing in the table allows a harder test; near-identical sequences stand in train and "
        "test, so expect less on new positions or new families"
    )
    if table.kind == MOLECULE:
        warning = (
            "nothing in the table allows a harder test; analogues of test molecules stand in "
            "train, so expect less on new series"
        )
    return [*found, Choice("random", warning)]


def _for_molecules() -> list[Choice]:
    leak = "similar molecules of a test molecule in training would flatter the model"
    unseen = "molecules of one scaffold are made as a series, and the next series will be another"
    return [
        Choice("scaffold", f"{unseen}; largest scaffolds train, as in MoleculeNet"),
        Choice("scaffold_balanced", f"{unseen}; scaffolds are dealt out at random"),
        Choice("butina", leak),
    ]


def _for_variants(table: AssayTable, fractions: tuple[float, float, float]) -> list[Choice]:
    counts = np.array([len(one) for one in table.substitutions or [] if one is not None])
    singles = float((counts <= 1).mean())
    position = Choice(
        "position",
        f"{singles:.0%} of the variants are single substitutions of one wild type; at random, "
        "every test position would have been seen in training with another residue",
    )
    if singles >= 0.9:
        return [position]
    found = []
    threshold = mutation_threshold(counts, fractions[2])
    if threshold is not None:
        test_share = float((counts > threshold).mean())
        if 0.05 <= test_share <= 0.5 and (counts > threshold).sum() >= 5:
            found.append(
                Choice(
                    "mutations",
                    f"variants carry {counts.min()} to {counts.max()} substitutions, and a design "
                    "lies further from the wild type than what was measured",
                )
            )
    held_out = (
        "most variants carry several substitutions in too even a number to split by it; at "
        "random, every test position would have been seen in training"
    )
    return [*found, Choice("position", held_out)]
