"""From table rows to residue strings: a sequence column, FASTA records, or mutations."""

from __future__ import annotations

from collections.abc import Sequence

from moltide.assay.columns import Roles
from moltide.assay.ledger import Ledger, problems_text, rows_text
from moltide.assay.mutations import (
    Change,
    apply_mutations,
    is_wild_type,
    place_changes,
    read_changes,
)
from moltide.assay.numbering import best_offset, choose_offset
from moltide.assay.options import ReadOptions
from moltide.assay.residue_texts import RowSequences, handle_stops, sequences_from_column
from moltide.assay.source import Source
from moltide.assay.wildtype import WildType
from moltide.options import option

BAD_MUTATION = "mutation unreadable or against the wild type"
NO_RECORD = "not in the FASTA file"
EMPTY_ROW = "empty row"


def sequences_from_records(
    source: Source,
    roles: Roles,
    records: dict[str, str],
    fasta_name: str,
    options: ReadOptions,
    ledger: Ledger,
) -> RowSequences:
    """Sequences of the FASTA records that the id column names."""
    names = source.texts(roles.record_id or "")
    unknown = [i for i, name in enumerate(names) if name and name not in records]
    if unknown and options.on_bad_row == "error":
        listed = problems_text([(source.row(i), repr(names[i])) for i in unknown])
        raise source.fail(
            f"column {roles.record_id!r}: names that are no record of {fasta_name}: "
            f"{len(unknown):,} ({listed}); correct them, or leave these rows out "
            f"({option('on_bad_row', 'set_aside')})"
        )
    ledger.leave_out(
        unknown, NO_RECORD, {i: f"{names[i]!r} is no record of {fasta_name}" for i in unknown}
    )
    texts = [records.get(name, "") for name in names]
    result = sequences_from_column(source, texts, fasta_name, options, ledger)
    unused = len(records) - len(set(names) & records.keys())
    if unused:
        result.notes.append(f"records of {fasta_name} without a row in the table: {unused:,}")
    return result


def changes_of(texts: Sequence[str]) -> list[tuple[Change, ...] | str]:
    """`read_changes` of every cell, each distinct text read once."""
    known: dict[str, tuple[Change, ...] | str] = {}
    result = []
    for text in texts:
        if text not in known:
            known[text] = read_changes(text)
        result.append(known[text])
    return result


def sequences_from_mutations(
    source: Source, column: str, wildtype: WildType, options: ReadOptions, ledger: Ledger
) -> RowSequences:
    """Apply each row's mutations to the wild type, in the author's numbering.

    Raises:
        DataError: unreadable mutations, a residue the wild type does not have there, or a
            numbering that cannot be told.
    """
    texts = source.texts(column)
    parent = wildtype.sequence
    changes = changes_of(texts)
    in_use = [row for i, row in enumerate(changes) if ledger.alive[i] and not isinstance(row, str)]
    flat = [change for row in in_use for change in row]
    offset, said = _numbering(source, flat, parent, options)
    sequences: list[str] = []
    problems: list[tuple[int, str]] = []
    made: dict[str, str] = {}
    synonymous, empty = 0, []
    for index, (text, row) in enumerate(zip(texts, changes, strict=True)):
        if not ledger.alive[index]:
            sequences.append("")
            continue
        placed = row if isinstance(row, str) else place_changes(row, parent, offset)
        if isinstance(placed, str):
            problems.append((index, placed))
            sequences.append("")
            continue
        if text not in made:
            made[text] = apply_mutations(parent, placed)
        sequences.append(made[text])
        synonymous += bool(row) and not placed
        if not text:
            empty.append(index)
    _refuse(source, column, problems, texts, offset, options)
    ledger.leave_out((index for index, _ in problems), BAD_MUTATION, dict(problems))
    result = RowSequences(sequences, said=[said], offset=offset)
    if synonymous:
        result.notes.append(f"synonymous rows, equal to the wild type: {synonymous:,}")
    if empty:
        rows = [source.row(i) for i in empty]
        result.notes.append(
            f"empty mutation cells, read as the wild type: {len(empty):,} ({rows_text(rows)})"
        )
        result.remarks = dict.fromkeys(empty, "empty mutation cell, read as the wild type")
    named = sum(bool(text) and is_wild_type(text) for text in texts)
    if named:
        result.notes.append(f"rows that say wild type: {named:,}")
    stops = [i for i, sequence in enumerate(sequences) if "*" in sequence]
    handle_stops(source, result, stops, options, ledger)
    return result


def _numbering(
    source: Source, flat: list[Change], parent: str, options: ReadOptions
) -> tuple[int, str]:
    if options.offset is not None:
        return options.offset, f"numbering: the first residue is number {options.offset} (given)"
    offset, said = choose_offset(flat, parent)
    if offset is not None:
        return offset, said
    if said.startswith("the rows fit"):
        raise source.fail(said)
    offset = best_offset(flat, parent)
    return offset, f"numbering: taken to start at {offset}, which most mutations agree with"


def _refuse(
    source: Source,
    column: str,
    problems: list[tuple[int, str]],
    texts: Sequence[str],
    offset: int,
    options: ReadOptions,
) -> None:
    if not problems or options.on_bad_row == "set_aside":
        return
    listed = problems_text([(source.row(index), sentence) for index, sentence in problems])
    fitting = len(texts) - len(problems)
    raise source.fail(
        f"column {column!r}: rows that are no mutations of the wild type: {len(problems):,} "
        f"({listed}). {fitting:,} of {len(texts):,} rows fit with the first residue numbered "
        f"{offset}. Check the wild type and the numbering, or leave these rows out "
        f"({option('on_bad_row', 'set_aside')})"
    )
