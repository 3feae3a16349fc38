"""Sequences of a table, FASTA or structure file, batch by batch, with what could not be read."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moltide.chem.standardise import ChemistryOptions
from moltide.errors import DataError
from moltide.fasta import is_fasta, read_fasta
from moltide.kinds import MOLECULE, PROTEIN
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
    sequences, which `by_mutations` then says; `usual` are columns of the training table, `pairs`
    those of the heavy and the light chain where it held pairs (then so must this one), and without
    a training table `either` says that pairs are taken where they are found; `kind` is what the
    model reads, `chemistry` how molecules are standardised, and `refusals` what it cannot take.
    After iteration `skipped` maps row numbers to reasons and `remarks` to other things to know, and
    `notes` say what cleaning changed; `unit` is what the numbers count ("row" or "record").
    """

    def __init__(
        self,
        path: Path,
        usual: tuple[str | None, str | None] = (None, None),
        kind: str = PROTEIN,
        chemistry: ChemistryOptions | None = None,
        pairs: tuple[str | None, ...] | None = None,
        either: bool = False,
        refusals: Callable[[Sequence[str]], Mapping[int, str]] | None = None,
        **options: Any,
    ) -> None:
        self.path = path
        self.pairs = pairs
        self.either = either
        self.refusals = refusals
        self.usual = usual
        self.kind = kind
        self.chemistry = chemistry or ChemistryOptions()
        self._spool: Any = None
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
        if self._spool is not None:
            yield from self._kept()
            return
        columns = self._columns()
        options = {**self.options, **columns, "kind": self.kind, "chemistry": self.chemistry}
        options["refusals"] = self.refusals
        self.by_mutations = "mutations" in columns and "sequence" not in columns
        if not self.by_mutations:
            options.pop("wildtype", None)
            options.pop("numbering", None)
        for batch in iter_sequences(self.path, **options):
            self.notes += [note for note in batch.notes if note not in self.notes]
            yield batch

    def keep(self, progress: Callable[[int], None] | None = None) -> int:
        """Read everything now, into a temporary file from which `batches` then gives it; the number
        of rows. What is refused is refused here.

        Args:
            progress: told the number of rows read so far.
        """
        spool = tempfile.TemporaryFile(prefix="moltide-")  # noqa: SIM115
        total = 0
        for batch in self.batches():
            pickle.dump(batch, spool)
            total += len(batch) + len(batch.skipped)
            if progress is not None:
                progress(total)
        self._spool = spool
        return total

    def _kept(self) -> Iterator[SequenceBatch]:
        self._spool.seek(0)
        while True:
            try:
                yield pickle.load(self._spool)
            except EOFError:
                return

    def reading(self) -> dict[str, Any]:
        """What decides how the file is read, as plain JSON types."""
        molecules = {"chemistry": asdict(self.chemistry)} if self.kind == MOLECULE else {}
        pairs = {} if self.pairs is None else {"pairs": self.pairs}
        return {**self.options, "usual": self.usual, "kind": self.kind, **molecules, **pairs}

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
            if self.pairs is not None:
                raise DataError(
                    f"{self.path.name}: FASTA records are single sequences; the model reads pairs "
                    "of chains, from two columns of a table"
                )
            return {}
        from moltide.assay.columns import Wanted, find_sequence_roles
        from moltide.assay.source import source_chunks

        wanted = Wanted(
            self.options.get("sequence"),
            self.options.get("mutations"),
            kind=self.kind,
            usual_sequence=self.usual[0],
            usual_mutations=self.usual[1],
            heavy=self.options.get("heavy"),
            light=self.options.get("light"),
            pairs=None if self.either else self.pairs is not None,
            usual_chains=self.pairs or (),
        )
        first = next(source_chunks(self.path, _ROWS), None)
        if first is None:
            return {}
        roles = find_sequence_roles(first, wanted)
        found = {"sequence": roles.sequence, "mutations": roles.mutations, **roles.chains}
        return {option: column for option, column in found.items() if column is not None}


def kind_of_input(
    path: Path, sequence: str | None = None, heavy: str | None = None, light: str | None = None
) -> str:
    """What a file holds, where no model says what it reads; the columns are those named.

    Raises:
        DataError, FileNotFoundError: the file cannot be read.
    """
    from moltide.assay.columns import Wanted, find_sequence_roles
    from moltide.assay.profile import kind_of_records
    from moltide.assay.source import source_chunks

    if path.is_file() and is_fasta(path):
        return kind_of_records(dict(islice(read_fasta(path), _ROWS)))
    first = next(source_chunks(path, _ROWS), None)
    wanted = Wanted(sequence, heavy=heavy, light=light)
    return PROTEIN if first is None else find_sequence_roles(first, wanted).kind
