"""Sequences to predict, embed or score: FASTA, tables or plain lists, cleaned, in batches; of
molecules the standard SMILES."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.assay.ledger import Ledger
from moltide.assay.numbered_rows import NumberedRows
from moltide.assay.options import ReadOptions
from moltide.assay.refused import leave_out_refused
from moltide.assay.residue_texts import RowSequences, sequences_from_column
from moltide.chem.standardise import ChemistryOptions
from moltide.errors import DataError
from moltide.fasta import is_fasta, read_fasta
from moltide.kinds import MOLECULE, PROTEIN
from moltide.options import option

# What tables need is imported when one is read: FASTA and lists start without it.
if TYPE_CHECKING:
    from moltide.assay.columns import Roles
    from moltide.assay.source import Source
    from moltide.assay.wildtype import WildType

_NAME_COLUMNS = frozenset([
    "id", "name", "accession", "identifier", "sequenceid", "proteinid", "seqid",
])  # fmt: skip


_LISTED = 5  # problems in a message


@dataclass
class SequenceBatch:
    """Cleaned sequences with their names and source rows (FASTA: the record's number, from 1).

    `skipped` lists (row, name, reason) of what could not be read, when that was allowed;
    `notes` says what cleaning changed, `remarks` what there is to say of single rows.
    """

    names: list[str]
    sequences: list[str]
    rows: list[int]
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sequences)


def iter_sequences(
    source: Any,
    *,
    sequence: str | None = None,
    mutations: str | None = None,
    wildtype: str | os.PathLike[str] | None = None,
    numbering: str | int = "auto",
    id: str | None = None,
    stops: str = "set_aside",
    on_bad_row: str = "error",
    kind: str = PROTEIN,
    chemistry: ChemistryOptions | None = None,
    batch_size: int = 4096,
    heavy: str | None = None,
    light: str | None = None,
    refusals: Callable[[Sequence[str]], Mapping[int, str]] | None = None,
) -> Iterator[SequenceBatch]:
    """Cleaned sequences of `source`, at most `batch_size` at a time.

    Args:
        source: a FASTA file, a table or structures (path; all but XLSX are streamed), a table in
            memory, or an iterable of strings of residues, nucleotides or SMILES.
        sequence, mutations, wildtype, numbering: as in `read_assay`.
        id: column of names; found by name, else the mutation string, else the row number.
        stops: "set_aside", "truncate" or "error" for an inner `*`.
        on_bad_row: "error", or "set_aside" to report unreadable rows in `skipped`.
        kind: what the sequences are: "protein", "molecule", "rna".
        chemistry: how molecules are standardised; None: as `read_assay` does by default.
        heavy, light: columns of a table of pairs of chains, which come as `HEAVY:LIGHT`.
        refusals: as in `read_assay`.

    Raises:
        DataError: anything that cannot be read, with file and row.
        FileNotFoundError: no such file.
        MissingDependencyError: molecules without RDKit.
    """
    chemistry = chemistry or ChemistryOptions()
    options = ReadOptions(
        sequence=sequence,
        mutations=mutations,
        wildtype=wildtype,
        numbering=numbering,
        stops=stops,
        on_bad_row=on_bad_row,
        id=id,
        kind=kind,
        salts=chemistry.salts,
        charges=chemistry.charges,
        stereo=chemistry.stereo,
        tautomers=chemistry.tautomers,
        heavy=heavy,
        light=light,
        refusals=refusals,
    )
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_file() and is_fasta(path):
            if kind == MOLECULE:
                raise DataError(
                    f"{path.name} is FASTA; a model of molecules reads tables of SMILES, lines of "
                    "SMILES (.smi) or SDF"
                )
            yield from _fasta_batches(path, options, batch_size)
        else:
            yield from _table_batches(path, options, batch_size)
    elif hasattr(source, "columns") or hasattr(source, "column_names"):
        # A table; a single column (pandas, polars, Arrow) is a list of sequences.
        yield from _table_batches(source, options, batch_size)
    else:
        yield from _list_batches(source, options, batch_size)


def read_sequences(source: Any, **options: Any) -> SequenceBatch:
    """Everything `iter_sequences` yields, in one batch. Options as there."""
    whole = SequenceBatch([], [], [])
    for batch in iter_sequences(source, **options):
        whole.names += batch.names
        whole.sequences += batch.sequences
        whole.rows += batch.rows
        whole.skipped += batch.skipped
        whole.notes += batch.notes
        whole.remarks.update(batch.remarks)
    if not whole.sequences:
        raise DataError(f"no sequence to use ({len(whole.skipped):,} rows set aside)")
    return whole


class _Texts(NumberedRows):
    """A bare list of strings in the place of a table."""

    def __init__(self, name: str, first_row: int) -> None:
        self.name, self.first_row = name, first_row
        self.renamed = {}


def _from_column(
    source: NumberedRows, texts: Sequence[str], where: str, options: ReadOptions, ledger: Ledger
) -> RowSequences:
    if options.kind == MOLECULE:
        from moltide.assay.molecule_texts import molecules_from_column

        return molecules_from_column(source, texts, where, options, ledger)
    return sequences_from_column(source, texts, where, options, ledger)


def _batch(
    source: NumberedRows,
    names: Sequence[str],
    rows: RowSequences,
    ledger: Ledger,
) -> SequenceBatch:
    used = ledger.used().tolist()
    reasons = ledger.reasons()
    return SequenceBatch(
        [names[i] for i in used],
        [rows.sequences[i] for i in used],
        [source.row(i) for i in used],
        [(source.row(i), names[i], reason) for i, reason in reasons.items()],
        rows.notes,
        {source.row(i): remark for i, remark in rows.remarks.items()},
    )


def _texts_batch(
    name: str, names: Sequence[str], texts: Sequence[str], first_row: int, options: ReadOptions
) -> SequenceBatch:
    ledger = Ledger(len(texts))
    source = _Texts(name, first_row)
    # Nothing is refused on the way, so that problems of every kind are told together.
    lenient = replace(options, on_bad_row="set_aside")
    rows = _from_column(source, texts, "the sequences", lenient, ledger)
    leave_out_refused(source, rows.sequences, lenient, ledger)
    _refuse_skipped(source, names, ledger, options, "record" if first_row else "sequence")
    return _batch(source, names, rows, ledger)


def _refuse_skipped(
    source: NumberedRows,
    names: Sequence[str],
    ledger: Ledger,
    options: ReadOptions,
    what: str = "row",
) -> None:
    """With on_bad_row="error", an empty sequence is an error too: each input needs its output."""
    if options.on_bad_row == "set_aside" or not ledger.set_aside:
        return
    problems = ledger.reasons()
    shown = []
    for index, reason in list(problems.items())[:_LISTED]:
        number, name = str(source.row(index)), names[index]
        called = f"{what} {number}" + (f" ({name})" if name != number else "")
        shown.append(f"{called}: {reason}")
    if len(problems) > _LISTED:
        shown.append(f"and {len(problems) - _LISTED:,} more")
    raise source.fail(
        f"{what}s that cannot be used: {len(problems):,} ({'; '.join(shown)}). Correct them, or "
        f"leave them out ({option('on_bad_row', 'set_aside')})"
    )


def _fasta_batches(path: Path, options: ReadOptions, batch_size: int) -> Iterator[SequenceBatch]:
    names: list[str] = []
    texts: list[str] = []
    first = 1
    for name, text in read_fasta(path):
        names.append(name)
        texts.append(text)
        if len(texts) == batch_size:
            yield _texts_batch(path.name, names, texts, first, options)
            first += len(texts)
            names, texts = [], []
    if texts:
        yield _texts_batch(path.name, names, texts, first, options)


def _list_batches(
    source: Iterable[str], options: ReadOptions, batch_size: int
) -> Iterator[SequenceBatch]:
    texts: list[str] = []
    first = 0
    for text in source:
        if not isinstance(text, str):
            raise TypeError(
                f"sequence {first + len(texts)} is {type(text).__name__}, expected a string"
            )
        texts.append(text)
        if len(texts) == batch_size:
            names = [str(first + i) for i in range(len(texts))]
            yield _texts_batch("sequences", names, texts, first, options)
            first += len(texts)
            texts = []
    if texts:
        names = [str(first + i) for i in range(len(texts))]
        yield _texts_batch("sequences", names, texts, first, options)


def _table_batches(table: Any, options: ReadOptions, batch_size: int) -> Iterator[SequenceBatch]:
    from moltide.assay.chain_texts import pairs_from_columns
    from moltide.assay.columns import Wanted, find_sequence_roles
    from moltide.assay.rows import sequences_from_mutations
    from moltide.assay.source import read_source, source_chunks, source_from_frame
    from moltide.assay.wildtype import read_wildtype

    path = table if isinstance(table, Path) else None
    chunks = iter([source_from_frame(table)]) if path is None else source_chunks(path, batch_size)
    first = next(chunks, None)
    if first is None:
        raise DataError(f"{path.name if path else 'table'}: no rows")
    wanted = Wanted(
        sequence=options.sequence,
        mutations=options.mutations,
        kind=options.kind,
        heavy=options.heavy,
        light=options.light,
        pairs=options.heavy is not None or options.light is not None,
    )
    roles = find_sequence_roles(first, wanted)
    parent: WildType | None = None
    if roles.sequence is not None or roles.chains:
        chunks = chain([first], chunks)
    else:
        if options.wildtype is not None:
            parent = read_wildtype(options.wildtype)
        # The numbering is told from all mutations together, so the table is read whole.
        chunks = iter([first if path is None else read_source(path)])
    for chunk in chunks:
        ledger = Ledger(len(chunk.frame))
        if roles.chains:
            rows = pairs_from_columns(chunk, roles.chains, options, ledger)
        elif roles.sequence is not None:
            where = f"column {roles.sequence!r}"
            texts = chunk.texts(roles.sequence)
            rows = _from_column(chunk, texts, where, options, ledger)
        elif parent is not None:
            rows = sequences_from_mutations(chunk, roles.mutations or "", parent, options, ledger)
        else:
            raise chunk.fail(
                f"column {roles.mutations!r} holds mutations: give their wild type "
                f"({option('wildtype')})"
            )
        leave_out_refused(chunk, rows.sequences, options, ledger)
        names = _names(chunk, roles, options)
        _refuse_skipped(chunk, names, ledger, options)
        batch = _batch(chunk, names, rows, ledger)
        if options.offset is None:
            batch.notes = [*rows.said, *batch.notes]
        for start in range(0, max(len(batch), 1), batch_size):
            stop = start + batch_size
            yield SequenceBatch(
                batch.names[start:stop],
                batch.sequences[start:stop],
                batch.rows[start:stop],
                batch.skipped if start == 0 else [],
                batch.notes if start == 0 else [],
                batch.remarks if start == 0 else {},
            )


def _names(source: Source, roles: Roles, options: ReadOptions) -> list[str]:
    from moltide.assay.profile import plain_name

    column = options.id
    if column is None:
        found = [name for name in source.columns if plain_name(name) in _NAME_COLUMNS]
        column = found[0] if len(found) == 1 else roles.mutations
    elif column not in source.columns:
        raise source.fail(f"no column {column!r} (id). Columns: {', '.join(source.columns)}")
    numbers = [str(source.row(i)) for i in range(len(source.frame))]
    if column is None:
        return numbers
    texts = source.texts(column)
    return [text or number for text, number in zip(texts, numbers, strict=True)]
