"""Residue strings as they stand in a file: cleaned, and what cannot be used set aside.

Reading FASTA needs this and nothing of tables, whose modules take time to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from moltide.assay.ledger import Ledger, problems_text, rows_text
from moltide.assay.numbered_rows import NumberedRows
from moltide.assay.options import ReadOptions
from moltide.assay.residues import alphabet_of, clean_sequences
from moltide.options import option

NO_SEQUENCE = "no sequence"
ILLEGAL = "illegal {}"
STOP = "stop codon inside the sequence"


@dataclass
class RowSequences:
    """One residue string a row ("" for a row set aside), with what was found on the way;
    `remarks` are on single rows, by index."""

    sequences: list[str]
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: dict[int, str] = field(default_factory=dict)
    offset: int | None = None


def sequences_from_column(
    source: NumberedRows, texts: Sequence[str], where: str, options: ReadOptions, ledger: Ledger
) -> RowSequences:
    """Clean the sequences of each row, residues or nucleotides as `options.kind` says; illegal ones
    end here with file, row, letter, place.

    Raises:
        DataError: illegal residues or (when asked) stops.
    """
    alphabet = alphabet_of(options.kind)
    unit = alphabet.unit
    clean = clean_sequences(texts, alphabet)
    ledger.leave_out(clean.empty, NO_SEQUENCE)
    illegal = [(index, letter, place) for index, letter, place in clean.illegal]
    if illegal and options.on_bad_row == "error":
        from moltide.assay.mutations import read_changes

        listed = problems_text(
            [(source.row(i), f"{letter!r} at position {place}") for i, letter, place in illegal]
        )
        hint = ""
        if not isinstance(read_changes(texts[illegal[0][0]]), str):
            hint = f"; these look like mutations ({option('mutations')} with {option('wildtype')})"
        raise source.fail(
            f"{where}: characters that are no {unit}s in {len(illegal):,} of {len(texts):,} "
            f"sequences ({listed}){hint}; correct them, or leave these rows out "
            f"({option('on_bad_row', 'set_aside')})"
        )
    details = {i: f"{letter!r} at position {place} is no {unit}" for i, letter, place in illegal}
    ledger.leave_out(details, ILLEGAL.format(unit), details)
    result = RowSequences(clean.sequences, notes=clean.notes())
    handle_stops(source, result, clean.stops, options, ledger)
    return result


def handle_stops(
    source: NumberedRows,
    result: RowSequences,
    stops: Sequence[int],
    options: ReadOptions,
    ledger: Ledger,
) -> None:
    """Cut, set aside or refuse the sequences with a stop inside, at the indices `stops`."""
    if not stops:
        return
    rows = [source.row(index) for index in stops]
    if options.stops == "error":
        raise source.fail(f"sequences with a stop ('*') inside: {len(stops):,} ({rows_text(rows)})")
    if options.stops == "set_aside":
        ledger.leave_out(stops, STOP)
        return
    result.notes.append(f"sequences cut at their stop ('*'): {len(stops):,} ({rows_text(rows)})")
    for index in stops:
        result.sequences[index] = result.sequences[index].partition("*")[0]
    ledger.leave_out((i for i in stops if not result.sequences[i]), NO_SEQUENCE)
