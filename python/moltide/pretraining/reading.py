"""Records of training files as people store them: cleaned, in blocks, what is unusable named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.assay.columns import Wanted, find_sequence_roles
from moltide.assay.residues import CleanSequences, alphabet_of, clean_sequences
from moltide.assay.source import Source, source_chunks
from moltide.errors import ConfigError, DataError
from moltide.fasta import is_fasta, read_fasta
from moltide.kinds import MOLECULE, PROTEIN
from moltide.options import option
from moltide.pretraining.molecules import read_molecules

# Records cleaned at a time: memory depends on it, no result does.
_BLOCK = 4096
# What cleaning counts; see CleanSequences.
COUNTED = ("lower_case", "whitespace", "gaps", "terminal_stop", "read_as", "ambiguous")


@dataclass(frozen=True)
class Columns:
    """Columns of tables: sequences (None: found), cluster and weight (None: not used); and what
    the sequences are. Of a molecule `augment` random SMILES follow the canonical one, drawn by
    `seed`; without a column its cluster is its scaffold; `descriptors` asks for these."""

    sequence: str | None = None
    cluster: str | None = None
    weight: str | None = None
    kind: str = PROTEIN
    augment: int = 0
    seed: int = 0
    descriptors: bool = False


@dataclass
class Records:
    """A block of usable records of one file, parallel lists, with those left out.

    `rows` are spreadsheet rows, in FASTA the record's number from 1, as `unit` says ("row",
    "record"); `skipped` has (row, name, reason); `changes` counts what cleaning changed, by the
    names in `COUNTED`. `descriptors`: of molecules, one array a row, where they were asked for.
    """

    unit: str = "row"
    texts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    clusters: list[str] | None = None
    weights: list[float] | None = None
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    descriptors: list[npt.NDArray[np.float64]] | None = None

    def add(
        self,
        texts: Sequence[str],
        row: int,
        name: str,
        reason: str | None,
        cluster: str | None,
        weights: Sequence[str] | None,
        index: int,
        descriptors: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """One record, written in one or more ways, or the reason why it is left out."""
        if reason is None and self.clusters is not None and not cluster:
            reason = "no cluster"
        weight = 1.0
        if reason is None and weights is not None:
            weight = _weight(weights[index])
            if math.isnan(weight):
                reason = f"weight {weights[index]!r} is no number of 0 or more"
        if reason is not None:
            self.skipped.append((row, name, reason))
            return
        self.texts += texts
        self.names += [name] * len(texts)
        self.rows += [row] * len(texts)
        if self.descriptors is not None and descriptors is not None:
            self.descriptors.append(descriptors)
        if self.clusters is not None:
            self.clusters += [str(cluster)] * len(texts)
        if self.weights is not None:
            self.weights += [weight] * len(texts)


def read_records(path: Path, columns: Columns, shortest: int) -> Iterator[Records]:
    """Blocks of records of a FASTA file (plain or gzip) or a table, streamed.

    Args:
        shortest: residues or nucleotides below which a record is left out.

    Raises:
        FileNotFoundError: no such file.
        DataError: empty, damaged, or without the columns.
        ConfigError: columns asked of a FASTA file.
    """
    if path.is_file() and is_fasta(path):
        if columns.kind == MOLECULE:
            raise ConfigError(
                f"{path.name} is FASTA; molecules ({option('kind', MOLECULE)}) come from a table "
                "with a column of SMILES (CSV, TSV, Parquet)"
            )
        for name, value in (("cluster", columns.cluster), ("weight", columns.weight)):
            if value is not None:
                raise ConfigError(
                    f"{path.name} is FASTA and has no column {value!r} ({option(name)}); give a "
                    "table (CSV, TSV, Parquet) with such a column"
                )
        yield from _fasta(path, columns, shortest)
    else:
        yield from _table(path, columns, shortest)


def change_notes(changes: dict[str, int], kind: str) -> list[str]:
    """What cleaning changed in sequences of this kind, one sentence for each kind of change."""
    if kind == MOLECULE:
        return []
    counts: dict[str, Any] = {name: changes.get(name, 0) for name in COUNTED}
    return CleanSequences([], alphabet=alphabet_of(kind), **counts).notes()


def _fasta(path: Path, columns: Columns, shortest: int) -> Iterator[Records]:
    names: list[str] = []
    texts: list[str] = []
    first = 1
    for name, text in read_fasta(path):
        names.append(name)
        texts.append(text)
        if len(texts) == _BLOCK:
            yield _fasta_block(texts, names, first, columns, shortest)
            first += len(texts)
            names, texts = [], []
    if texts:
        yield _fasta_block(texts, names, first, columns, shortest)


def _fasta_block(
    texts: list[str], names: list[str], first: int, columns: Columns, shortest: int
) -> Records:
    numbers = range(first, first + len(texts))
    return _usable("record", texts, names, numbers, None, None, columns, shortest)


def _table(path: Path, columns: Columns, shortest: int) -> Iterator[Records]:
    sequence = columns.sequence
    for chunk in source_chunks(path, _BLOCK):
        if sequence is None and columns.kind == MOLECULE:
            sequence = _smiles_column(chunk)
        if sequence is None:
            sequence = find_sequence_roles(chunk, Wanted(kind=columns.kind)).sequence
            if sequence is None:
                what = alphabet_of(columns.kind).unit
                raise chunk.fail(f"no column of {what}s found; name it ({option('sequence')})")
        rows = range(chunk.row(0), chunk.row(0) + len(chunk.frame))
        yield _usable(
            "row",
            _column(chunk, sequence, "sequence"),
            [str(row) for row in rows],
            rows,
            None if columns.cluster is None else _column(chunk, columns.cluster, "cluster"),
            None if columns.weight is None else _column(chunk, columns.weight, "weight"),
            columns,
            shortest,
        )


def _smiles_column(chunk: Source) -> str:
    found = [name for name in chunk.columns if "smiles" in name.lower()]
    if len(found) != 1:
        raise chunk.fail(
            f"{len(found)} columns are named like SMILES; name the one ({option('sequence')}). "
            f"Columns: {', '.join(chunk.columns)}"
        )
    return found[0]


def _column(chunk: Source, name: str, role: str) -> list[str]:
    if name not in chunk.columns:
        listed = ", ".join(chunk.columns)
        raise chunk.fail(f"no column {name!r} ({option(role)}). Columns: {listed}")
    return chunk.texts(name)


def _usable(
    unit: str,
    texts: Sequence[str],
    names: Sequence[str],
    rows: Sequence[int],
    clusters: Sequence[str] | None,
    weights: Sequence[str] | None,
    columns: Columns,
    shortest: int,
) -> Records:
    if columns.kind == MOLECULE:
        return _usable_molecules(texts, names, rows, clusters, weights, columns)
    alphabet = alphabet_of(columns.kind)
    clean = clean_sequences(texts, alphabet)
    reasons = dict.fromkeys(clean.empty, "no sequence")
    reasons |= dict.fromkeys(clean.stops, "a stop ('*') inside the sequence")
    reasons |= {
        i: f"{letter!r} at position {at} is no {alphabet.unit}" for i, letter, at in clean.illegal
    }
    block = Records(
        unit,
        clusters=None if clusters is None else [],
        weights=None if weights is None else [],
        changes={name: getattr(clean, name) for name in COUNTED},
    )
    for i, text in enumerate(clean.sequences):
        reason = reasons.get(i)
        if reason is None and len(text) < shortest:
            reason = f"{len(text)} {alphabet.unit}s, fewer than {shortest} ({option('shortest')})"
        block.add(
            [text], rows[i], names[i], reason, None if clusters is None else clusters[i], weights, i
        )
    return block


def _usable_molecules(
    texts: Sequence[str],
    names: Sequence[str],
    rows: Sequence[int],
    clusters: Sequence[str] | None,
    weights: Sequence[str] | None,
    columns: Columns,
) -> Records:
    found = read_molecules(texts, columns.augment, columns.seed, columns.descriptors)
    block = Records("row", clusters=[], weights=None if weights is None else [])
    block.descriptors = [] if columns.descriptors else None
    for i, smiles in enumerate(found.smiles):
        cluster = found.scaffolds[i] if clusters is None else clusters[i]
        written = [smiles, *found.variants[i]]
        reason, values = found.reasons.get(i), found.descriptors[i]
        block.add(written, rows[i], names[i], reason, cluster, weights, i, values)
    return block


def _weight(text: str) -> float:
    """The number in a cell; NaN for anything that cannot be a weight."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if value >= 0 and math.isfinite(value) else math.nan


def check_files(paths: Sequence[Path]) -> None:
    """Refuse missing files and folders before anything is read.

    Raises:
        FileNotFoundError, DataError: naming the file.
    """
    for path in paths:
        if path.is_dir():
            raise DataError(f"{path} is a folder; give FASTA, CSV, TSV or Parquet files")
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}")
