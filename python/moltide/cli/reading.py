"""Sequences of a table or FASTA file, batch by batch, with what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moltide.sequence_files import SequenceBatch


class SequenceReader:
    """Iterates over batches of sequences.

    `wildtype` and `numbering` come into play only where the table gives mutations and no
    sequences. After iteration `skipped` maps row numbers to reasons, and `notes` say what cleaning
    changed.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.options = {name: value for name, value in options.items() if value is not None}
        self.skipped: dict[int, str] = {}
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[SequenceBatch]:
        from moltide.sequence_files import iter_sequences

        options = dict(self.options)
        if not self._needs_wildtype():
            options.pop("wildtype", None)
            options.pop("numbering", None)
        for batch in iter_sequences(self.path, **options):
            self.skipped.update({row: reason for row, _, reason in batch.skipped})
            self.notes += [note for note in batch.notes if note not in self.notes]
            if len(batch):
                yield batch

    def _needs_wildtype(self) -> bool:
        """Whether the table has mutations in place of sequences."""
        from moltide.assay.columns import Wanted, find_sequence_roles
        from moltide.assay.source import source_chunks
        from moltide.fasta import is_fasta

        if "wildtype" not in self.options:
            return False
        if self.path.is_file() and is_fasta(self.path):
            return False
        wanted = Wanted(self.options.get("sequence"), self.options.get("mutations"))
        first = next(iter(source_chunks(self.path, 256)))
        return find_sequence_roles(first, wanted).sequence is None
