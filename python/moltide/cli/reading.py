"""Sequences of a table or FASTA file, batch by batch, with what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.fasta import is_fasta
from moltide.sequence_files import iter_sequences
from moltide.wording import plural

if TYPE_CHECKING:
    from moltide.sequence_files import SequenceBatch

# Rows that tell which column holds the sequences.
_ROWS = 4096
_LISTED = 5  # rows left out, in a message


class SequenceReader:
    """Iterates over batches of sequences.

    `wildtype` and `numbering` come into play only where the table gives mutations and no
    sequences, which `by_mutations` then says; `usual` are columns of the training table. After
    iteration `skipped` maps row numbers to reasons and `remarks` to other things to know, and
    `notes` say what cleaning changed; `unit` is what the numbers count ("row" or "record").
    """

    def __init__(
        self,
        path: Path,
        usual: tuple[str | None, str | None] = (None, None),
        **options: Any,
    ) -> None:
        self.path = path
        self.usual = usual
        self.options = {name: value for name, value in options.items() if value is not None}
        self.by_mutations = False
        self.unit = "record" if path.is_file() and is_fasta(path) else "row"
        self.skipped: dict[int, str] = {}
        self.remarks: dict[int, str] = {}
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[SequenceBatch]:
        for batch in self.batches():
            self.skipped.update({row: reason for row, _, reason in batch.skipped})
            self.remarks.update(batch.remarks)
            if len(batch):
                yield batch

    def batches(self) -> Iterator[SequenceBatch]:
        """Every batch, also one of which nothing can be used; `skipped` and `remarks` are left to
        the caller, who may keep them no longer than the batch."""
        columns = self._columns()
        options = {**self.options, **columns}
        self.by_mutations = bool(columns) and "sequence" not in columns
        if not self.by_mutations:
            options.pop("wildtype", None)
            options.pop("numbering", None)
        for batch in iter_sequences(self.path, **options):
            self.notes += [note for note in batch.notes if note not in self.notes]
            yield batch

    def left_out(self) -> list[str]:
        """What was skipped and why, as lines to say."""
        if not self.skipped:
            return []
        listed = sorted(self.skipped.items())
        named = "; ".join(f"{self.unit} {row}: {reason}" for row, reason in listed[:_LISTED])
        more = f"; and {len(listed) - _LISTED:,} more" if len(listed) > _LISTED else ""
        return [f"{plural(len(listed), self.unit)} left out ({named}{more})"]

    def _columns(self) -> dict[str, str]:
        """The columns in use, by their options."""
        if self.unit == "record":
            return {}
        from moltide.assay.columns import Wanted, find_sequence_roles
        from moltide.assay.source import source_chunks

        wanted = Wanted(
            self.options.get("sequence"),
            self.options.get("mutations"),
            usual_sequence=self.usual[0],
            usual_mutations=self.usual[1],
        )
        first = next(source_chunks(self.path, _ROWS), None)
        if first is None:
            return {}
        roles = find_sequence_roles(first, wanted)
        found = {"sequence": roles.sequence, "mutations": roles.mutations}
        return {option: column for option, column in found.items() if column is not None}
