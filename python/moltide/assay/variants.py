"""What is known of the parent behind a table's sequences: wild type, substitutions, numbering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from moltide.assay.columns import Roles
from moltide.assay.helpers import counts_mutations_by_name
from moltide.assay.ledger import problems_text
from moltide.assay.mutations import Mutation
from moltide.assay.options import ReadOptions
from moltide.assay.rows import RowSequences, changes_of
from moltide.assay.source import Source
from moltide.assay.values import parse_numbers
from moltide.assay.wildtype import WildType, infer_wildtype, mutations_of, reconcile


@dataclass
class Variants:
    """`wildtype` and `mutations` are None where there is no one parent."""

    wildtype: str | None = None
    mutations: list[tuple[Mutation, ...]] | None = None
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
        _list_substitutions(found, sequences)
        return found
    texts = None
    if roles.mutations is not None:
        texts = [source.texts(roles.mutations)[i] for i in first_rows]
    inferred = parent is None
    if parent is None:
        signs = infer_wildtype(sequences, texts, _zero_rows(source, first_rows))
        if isinstance(signs, str):
            return Variants(said=[signs] if signs else [])
        parent = signs
    stated = options.offset if options.offset is not None else 1
    found = Variants(parent.sequence, numbering=stated, said=[parent.said])
    if texts is None or any(len(one) != len(parent.sequence) for one in sequences):
        _list_substitutions(found, sequences)
        return found
    changes = [() if isinstance(row, str) else row for row in changes_of(texts)]
    agreement = reconcile(parent.sequence, sequences, changes, inferred, options.offset)
    found.said.append(agreement.said)
    if agreement.wrong:
        wrong = [(source.row(first_rows[i]), sentence) for i, sentence in agreement.wrong]
        message = (
            f"column {roles.mutations!r} disagrees with the sequences in {len(wrong):,} of "
            f"{len(sequences):,} cases ({problems_text(wrong, 3)})"
        )
        if options.mutations is not None and options.on_bad_row == "error":
            raise source.fail(message)
        found.notes.append(f"{message}; the sequences are used")
    found.numbering = agreement.offset
    found.wildtype, found.mutations = agreement.wildtype, agreement.mutations
    return found


def _list_substitutions(found: Variants, sequences: Sequence[str]) -> None:
    wildtype = found.wildtype or ""
    others = sum(len(one) != len(wildtype) for one in sequences)
    if others:
        found.notes.append(
            f"sequences longer or shorter than the wild type ({len(wildtype)}): {others:,}; "
            "substitutions are not listed"
        )
    else:
        found.mutations = mutations_of(wildtype, sequences)


def _zero_rows(source: Source, first_rows: Sequence[int]) -> list[bool] | None:
    """Which sequences a column such as `num_mutations` says are the wild type."""
    for column in source.columns:
        if counts_mutations_by_name(column):
            values = parse_numbers(source.texts(column)).values
            return [bool(values[i] == 0) for i in first_rows]
    return None
