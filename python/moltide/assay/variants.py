"""What is known of the parent behind a table's sequences: wild type, substitutions, numbering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from moltide.assay.columns import Roles
from moltide.assay.helpers import counts_mutations_by_name
from moltide.assay.ledger import problems_text, rows_text
from moltide.assay.mutations import Mutation
from moltide.assay.options import ReadOptions
from moltide.assay.residue_texts import RowSequences
from moltide.assay.rows import changes_of
from moltide.assay.source import Source
from moltide.assay.values import parse_numbers
from moltide.assay.wildtype import (
    WildType,
    infer_wildtype,
    mostly_as_long,
    mutations_of,
    reconcile,
)
from moltide.kinds import UNIT


@dataclass
class Variants:
    """`wildtype` and `mutations` are None where there is no one parent.

    A sequence of another length than the wild type's has None among `mutations`.
    """

    wildtype: str | None = None
    mutations: list[tuple[Mutation, ...] | None] | None = None
    numbering: int = 1
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_variants(
    source: Source,
    roles: Roles,
    rows: RowSequences,
    sequences: Sequence[str],
    first_rows: Sequence[int],
    parent: WildType | None,
    options: ReadOptions,
) -> Variants:
    """Relate every sequence to the wild type, given or inferred.

    Args:
        first_rows: for each sequence its first data row (0-based).
        parent: the wild type if it was given.

    Raises:
        DataError: a mutation column the user named contradicts the sequences.
    """
    if rows.offset is not None and parent is not None:
        found = Variants(parent.sequence, numbering=rows.offset)
        _list_substitutions(found, source, sequences, first_rows)
        return found
    texts = None
    if roles.mutations is not None:
        texts = [source.texts(roles.mutations)[i] for i in first_rows]
    inferred = parent is None
    if parent is None:
        signs = infer_wildtype(sequences, texts, _zero_rows(source, first_rows), UNIT[roles.kind])
        if isinstance(signs, str):
            return Variants(said=[signs] if signs else [])
        parent = signs
    stated = options.offset if options.offset is not None else 1
    found = Variants(parent.sequence, numbering=stated, said=[parent.said])
    fitting = _list_substitutions(found, source, sequences, first_rows)
    if texts is None or found.mutations is None:
        return found
    variants = [sequences[i] for i in fitting]
    read = changes_of([texts[i] for i in fitting])
    changes = [() if isinstance(row, str) else row for row in read]
    agreement = reconcile(parent.sequence, variants, changes, inferred, options.offset)
    found.said.append(agreement.said)
    if agreement.wrong:
        wrong = [(source.row(first_rows[fitting[i]]), said) for i, said in agreement.wrong]
        message = (
            f"column {roles.mutations!r} disagrees with the sequences in {len(wrong):,} of "
            f"{len(variants):,} cases ({problems_text(wrong, 3)})"
        )
        if options.mutations is not None and options.on_bad_row == "error":
            raise source.fail(message)
        found.notes.append(f"{message}; the sequences are used")
    found.numbering = agreement.offset
    found.wildtype = agreement.wildtype
    found.mutations = _spread(agreement.mutations, fitting, len(sequences))
    return found


def _list_substitutions(
    found: Variants, source: Source, sequences: Sequence[str], first_rows: Sequence[int]
) -> list[int]:
    """Set `found.mutations` if all but a few sequences have the length; which ones do."""
    parent = found.wildtype or ""
    fitting = [i for i, one in enumerate(sequences) if len(one) == len(parent)]
    mostly = mostly_as_long(len(parent), sequences)
    if len(fitting) < len(sequences):
        others = [source.row(first_rows[i]) for i in sorted({*range(len(sequences))} - {*fitting})]
        what = "their substitutions are not listed"
        if not mostly:
            what = "substitutions are not listed, and no split goes by them"
        found.notes.append(
            f"sequences longer or shorter than the wild type ({len(parent)}): {len(others):,} "
            f"({rows_text(others)}); {what}"
        )
    if mostly:
        listed = mutations_of(parent, [sequences[i] for i in fitting])
        found.mutations = _spread(listed, fitting, len(sequences))
    return fitting


def _spread(
    mutations: Sequence[tuple[Mutation, ...]], places: Sequence[int], n: int
) -> list[tuple[Mutation, ...] | None]:
    """n entries with `mutations` at `places` and None elsewhere."""
    spread: list[tuple[Mutation, ...] | None] = [None] * n
    for place, one in zip(places, mutations, strict=True):
        spread[place] = one
    return spread


def _zero_rows(source: Source, first_rows: Sequence[int]) -> list[bool] | None:
    """Which sequences a column such as `num_mutations` says are the wild type."""
    for column in source.columns:
        if counts_mutations_by_name(column):
            values = parse_numbers(source.texts(column)).values
            return [bool(values[i] == 0) for i in first_rows]
    return None
