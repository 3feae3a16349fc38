"""The account of a table: what was read, what was used, and what became of every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from moltide.assay.ledger import rows_text
from moltide.assay.spread import Spread
from moltide.assay.transforms import Scale
from moltide.assay.units import is_logarithm, unit_in_name
from moltide.kinds import MOLECULE, PROTEIN, UNIT
from moltide.wording import plural

# Sequences with several readings from which their noise is that of the table.
_ENOUGH_REPEATED = 10


@dataclass
class TargetSummary:
    """One target. Counts are of sequences after merging unless they say readings.

    `minimum`, `median` and `maximum` are of exact values: a bound is none. `scale` says what the
    values are, `spread` (of molecules) how far repeated readings lie apart.
    """

    name: str
    readings: int
    measured: int
    missing: int
    censored_above: int = 0
    censored_below: int = 0
    approximate: int = 0
    missing_words: dict[str, int] = field(default_factory=dict)
    minimum: float | None = None
    median: float | None = None
    maximum: float | None = None
    class_counts: dict[str, int] | None = None
    replicate_sd: float | None = None
    replicate_freedom: int = 0
    replicate_sequences: int = 0
    best_correlation: float | None = None
    conflicts: list[list[int]] = field(default_factory=list)
    bound_conflicts: list[list[int]] = field(default_factory=list)
    scale: Scale = field(default_factory=lambda: Scale(""))
    spread: Spread | None = None

    @property
    def tenfold(self) -> bool:
        """Whether a difference of 1 is a power of ten, as far as can be told."""
        return self.scale.logarithmic or is_logarithm(unit_in_name(self.name)[0])

    @property
    def noise_sd(self) -> float | None:
        """`replicate_sd`, where it is of enough sequences to speak of the whole table."""
        return self.replicate_sd if self.replicate_sequences >= _ENOUGH_REPEATED else None

    def lines(self) -> Iterator[tuple[str, str]]:
        bounds = self.censored_above + self.censored_below
        text = f"{self.name!r}: {self.measured:,} measured"
        if bounds:
            text += f" ({self.measured - bounds:,} exact and {plural(bounds, 'bound')})"
        if self.missing:
            text += f", {self.missing:,} empty"
        if self.class_counts is not None:
            text += "; " + ", ".join(f"{k} {n:,}" for k, n in self.class_counts.items())
        elif self.minimum is not None:
            text += "; exact values" if bounds else ";"
            text += f" {self.minimum:.4g} to {self.maximum:.4g}, median {self.median:.4g}"
        yield "target", text
        words = {word: n for word, n in self.missing_words.items() if word}
        if words:
            yield "", "read as missing: " + ", ".join(f"{w!r} {n:,}" for w, n in words.items())
        if self.censored_above or self.censored_below:
            yield (
                "",
                f"censored: {self.censored_above:,} above ('>'), "
                f"{self.censored_below:,} below ('<')",
            )
        if self.approximate:
            yield "", f"approximate ('~'), taken as exact: {plural(self.approximate, 'reading')}"
        if self.replicate_sd is not None:
            text = (
                f"noise: replicate SD {self.replicate_sd:.4g} (sequences repeated: "
                f"{self.replicate_sequences:,}; d.f. {self.replicate_freedom:,})"
            )
            if self.best_correlation is not None:
                text += f"; no model can correlate better than about {self.best_correlation:.3f}"
            yield "", text
        if self.spread is not None:
            spread = self.spread
            yield (
                "",
                f"repeats: {spread.sequences:,} read more than once, from lowest to highest "
                f"reading {spread.median:.3g} in the middle, {spread.largest:.3g} at most"
                + (f"; {spread.limit:g} or more: {spread.wide:,}" if self.tenfold else ""),
            )
        if self.conflicts:
            yield "", _conflict_text("sequences with contradicting readings", self.conflicts)
        if self.bound_conflicts:
            yield (
                "",
                _conflict_text(
                    "sequences with a bound against another reading", self.bound_conflicts
                ),
            )


def _conflict_text(what: str, conflicts: list[list[int]]) -> str:
    shown = "; ".join(rows_text(rows) for rows in conflicts[:3])
    more = f"; and {len(conflicts) - 3:,} more" if len(conflicts) > 3 else ""
    return f"{what}: {len(conflicts):,} ({shown}{more})"


@dataclass
class DataSummary:
    """What happened to a table. `rows_read == rows_used + sum of rows set aside`, always.

    `sequence_column`, `chain_columns`, `mutations_column` and `wildtype` are how sequences were
    read, so that new tables can be read alike.
    """

    source: str
    rows_read: int
    rows_used: int
    columns: int
    format: str
    n_sequences: int
    set_aside: dict[str, list[int]]
    said: list[str]
    notes: list[str]
    targets: list[TargetSummary]
    task: str
    min_length: int
    median_length: float
    max_length: int
    merged_rows: int = 0
    replicates: str = "mean"
    split_counts: dict[str, int] | None = None
    kind: str = PROTEIN
    sequence_column: str | None = None
    chain_columns: dict[str, str] | None = None
    mutations_column: str | None = None
    wildtype: str | None = None
    wildtype_length: int | None = None
    numbering: int | None = None
    mutation_counts: dict[int, int] | None = None

    def lines(self) -> list[str]:
        """The summary for a terminal: one fact a line, labels in a column of their own."""
        rows = f"{self.rows_read:,} rows, {self.columns} columns of {self.source}"
        rows += f" ({self.format})" if self.format else ""
        facts: list[tuple[str, str]] = [("read", rows)]
        facts += [("", sentence) for sentence in self.said]
        if self.max_length:
            label = "molecules" if self.kind == MOLECULE else "sequences"
            label = "pairs" if self.chain_columns else label
            facts.append((label, self._sequence_text()))
        if self.mutation_counts is not None:
            facts.append(("mutations", self._mutation_text()))
        for target in self.targets:
            facts += target.lines()
        if self.split_counts is not None:
            counts = ", ".join(f"{part} {n:,}" for part, n in self.split_counts.items())
            drawn = "" if "valid" in self.split_counts else " (valid is then drawn from train)"
            facts.append(("split", counts + drawn))
        facts += [("note", sentence) for sentence in self.notes]
        facts.append(("rows", self._account()))
        facts += [
            ("", f"set aside, {reason}: {len(rows_):,} ({rows_text(rows_)})")
            for reason, rows_ in self.set_aside.items()
        ]
        return [f"{label:<10} {text}" for label, text in facts]

    def _sequence_text(self) -> str:
        text = f"{self.n_sequences:,} distinct"
        if self.replicates == "keep":
            text = f"{self.n_sequences:,} (repeats kept apart)"
        unit = "characters of SMILES" if self.kind == MOLECULE else f"{UNIT[self.kind]}s"
        unit = "residues in both chains" if self.chain_columns else unit
        if self.min_length == self.max_length:
            text += f", {self.min_length} {unit} each"
        else:
            text += (
                f", {self.min_length} to {self.max_length} {unit} (median {self.median_length:g})"
            )
        if self.merged_rows:
            how = self.replicates
            if self.task != "regression":
                how = "vote" if self.task == "classification" else f"{how}, classes by vote"
            text += f"; repeat rows merged by {how}: {self.merged_rows:,}"
        return text

    def _mutation_text(self) -> str:
        counts = dict(sorted((self.mutation_counts or {}).items()))
        shown = [f"{n:,} with {k}" for k, n in list(counts.items())[:6]]
        rest = sum(list(counts.values())[6:])
        if rest:
            shown.append(f"{rest:,} with {list(counts)[6]} to {list(counts)[-1]}")
        return ", ".join(shown) + (" mutation" if [*counts][-1:] == [1] else " mutations")

    def _account(self) -> str:
        aside = self.rows_read - self.rows_used
        return f"{self.rows_read:,} read = {self.rows_used:,} used + {aside:,} set aside"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON types; row lists in full."""
        from dataclasses import asdict

        return asdict(self)
