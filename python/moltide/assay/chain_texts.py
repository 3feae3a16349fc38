"""Rows of two chains to one text each; unpaired rows are set aside."""

from __future__ import annotations

from collections.abc import Mapping

from moltide.assay.ledger import Ledger
from moltide.assay.options import ReadOptions
from moltide.assay.residue_texts import NO_SEQUENCE, RowSequences, sequences_from_column
from moltide.assay.source import Source
from moltide.assay.values import MISSING_WORDS
from moltide.pairs import CHAINS, join


def pairs_from_columns(
    source: Source, columns: Mapping[str, str], options: ReadOptions, ledger: Ledger
) -> RowSequences:
    """`HEAVY:LIGHT` of each row, each chain cleaned by itself ("" for a row set aside).

    Args:
        columns: of the "heavy" and of the "light" chain.

    Raises:
        DataError: illegal residues or (when asked) stops, naming the chain's column.
    """
    texts = {
        chain: ["" if one.lower() in MISSING_WORDS else one for one in source.texts(columns[chain])]
        for chain in CHAINS
    }
    rows = range(len(source.frame))
    ledger.leave_out((i for i in rows if not any(texts[c][i] for c in CHAINS)), NO_SEQUENCE)
    for chain in CHAINS:
        ledger.leave_out((i for i in rows if not texts[chain][i]), f"no {chain} chain")
    read = {}
    for chain in CHAINS:
        # What is out already is not judged.
        used = [one if ledger.alive[i] else "" for i, one in enumerate(texts[chain])]
        where = f"column {columns[chain]!r}"
        read[chain] = sequences_from_column(source, used, where, options, ledger)
    both = zip(*(read[chain].sequences for chain in CHAINS), strict=True)
    notes = [f"{chain} chains: {note}" for chain in CHAINS for note in read[chain].notes]
    return RowSequences([join(*one) if all(one) else "" for one in both], notes=notes)
