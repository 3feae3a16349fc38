"""`read_assay`: a table as people keep it, understood, checked and accounted for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide import pairs
from moltide.assay import measure
from moltide.assay.account import account_of
from moltide.assay.assign import groups_of, split_of, times_of
from moltide.assay.chain_texts import pairs_from_columns
from moltide.assay.columns import Roles, Wanted, find_roles
from moltide.assay.ledger import Ledger, rows_text
from moltide.assay.merging import merge_rows
from moltide.assay.options import MIN_SEQUENCES, SPLIT_METHODS, ReadOptions
from moltide.assay.profile import kind_of_records
from moltide.assay.refused import leave_out_refused
from moltide.assay.residue_texts import RowSequences, sequences_from_column
from moltide.assay.residues import alphabet_of
from moltide.assay.rows import EMPTY_ROW, sequences_from_mutations, sequences_from_records
from moltide.assay.scales import Scales
from moltide.assay.source import Source, read_source, source_from_frame
from moltide.assay.spread import spread_of
from moltide.assay.summary import DataSummary
from moltide.assay.table import AssayTable
from moltide.assay.variants import Variants, find_variants
from moltide.assay.wildtype import WildType, read_wildtype
from moltide.errors import DataError
from moltide.fasta import read_fasta
from moltide.kinds import MOLECULE
from moltide.options import option
from moltide.tasks import MIXED


def read_assay(
    path: str | os.PathLike[str],
    *,
    sequence: str | None = None,
    mutations: str | None = None,
    wildtype: str | os.PathLike[str] | None = None,
    numbering: str | int = "auto",
    target: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    relation: str | None = None,
    unit: str | Mapping[str, str] | None = None,
    transform: str | Mapping[str, str] | None = None,
    split: str | None = None,
    time: str | None = None,
    task: str = "auto",
    replicates: str = "mean",
    on_conflict: str = "report",
    stops: str = "set_aside",
    on_bad_row: str = "error",
    fasta: str | os.PathLike[str] | None = None,
    id: str | None = None,
    sheet: str | int | None = None,
    kind: str = "auto",
    salts: str = "strip",
    charges: str = "neutralise",
    stereo: str = "keep",
    tautomers: bool = False,
    heavy: str | None = None,
    light: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    refusals: Callable[[Sequence[str]], Mapping[int, str]] | None = None,
) -> AssayTable:
    """Read an assay table: sequences (or mutations of a wild type) and what was measured.

    Columns that are not named are found by content and name; the choice is in
    `table.summary.lines()`, as is the account of every row.

    Args:
        path: CSV, TSV (plain or gz, bz2, xz, zip), Parquet or XLSX.
        sequence: column of residues or SMILES.
        mutations: column of mutations such as `A40P/E61Y`; needs `wildtype`.
        wildtype: residues, or a FASTA file with one record; inferred where the table allows.
        numbering: "auto", or the number of the first residue (1, 0, 24, ...).
        target: column, comma-separated columns or a list; `name=rep1+rep2` (or a mapping) reads
            several columns as replicate readings of one property; "all": every measured column.
        relation: column of `=`, `<`, `>` for the targets.
        unit: what targets are in where the table does not say (`nM`), and are brought to where it
            does; or the column of their units. For single ones `IC50=nM,Ki=uM` or a mapping.
        transform: "plog" takes -log10 of mol/L (bounds turn round), "log10" the logarithm; "none".
            For single targets `IC50=plog,CL=log10` or a mapping.
        split: column of train/valid/test, or of groups that must stay together. The name of a
            split method (`random`, `cluster`, ...) puts no column in use.
        time: column of numbers or dates, for a split by time.
        task: "auto" (of each target), "regression" or "classification".
        replicates: rows of the same sequence are merged by "mean" or "median", or kept ("keep").
        on_conflict: contradicting readings are listed ("report"; a tie between classes has no
            label), left out ("set_aside") or refused ("error").
        stops: sequences with an inner `*` are left out ("set_aside"), cut ("truncate") or refused.
        on_bad_row: rows that cannot be read are refused ("error") or left out ("set_aside").
        fasta: FASTA file of the sequences, named by the table's `id` column.
        id: the column that names FASTA records.
        sheet: XLSX sheet, by name or 0-based number.
        kind: "protein", "molecule", "rna", or "auto": told from the columns.
        salts, charges, stereo, tautomers: of molecules; see `ChemistryOptions`.
        heavy, light: columns of the two chains of antibodies, read as pairs (`moltide.pairs`);
            found by name (heavy/light, VH/VL, HC_sequence/LC_sequence, ...) where they are two.
        progress: called with (molecules standardised, all of them).
        refusals: which sequences a model cannot take, by index, and why (`Encoder.refusals`); they
            are rows that cannot be read.

    Raises:
        DataError: one message with file, rows and values for anything that cannot be used.
        ConfigError: an option outside what is allowed.
        MissingDependencyError: Parquet without pyarrow, XLSX without openpyxl.
        FileNotFoundError: no such file.
    """
    options = ReadOptions(
        sequence=sequence,
        mutations=mutations,
        wildtype=wildtype,
        numbering=numbering,
        target=target,
        relation=relation,
        unit=unit,
        transform=transform,
        split=split,
        time=time,
        task=task,
        replicates=replicates,
        on_conflict=on_conflict,
        stops=stops,
        on_bad_row=on_bad_row,
        fasta=fasta,
        id=id,
        kind=kind,
        salts=salts,
        charges=charges,
        stereo=stereo,
        tautomers=tautomers,
        heavy=heavy,
        light=light,
        progress=progress,
        refusals=refusals,
    )
    return _build(read_source(path, sheet), options)


def read_frame(frame: Any, *, name: str = "table", **options: Any) -> AssayTable:
    """`read_assay` of a pandas, polars or Arrow table, which messages call `name`.

    Row numbers count as if it were saved as CSV.
    """
    return _build(source_from_frame(frame, name), ReadOptions(**options))


def _build(source: Source, options: ReadOptions) -> AssayTable:
    if len(source.frame) == 1:
        raise source.fail(f"1 row of data; at least {MIN_SEQUENCES} sequences are needed")
    ledger = Ledger(len(source.frame))
    blank = [
        all(not cell for cell in row)
        for row in zip(*map(source.texts, source.columns), strict=True)
    ]
    ledger.leave_out(np.flatnonzero(blank), EMPTY_ROW)
    records = _records(options)
    split = options.split
    if split is not None and split not in source.columns:
        if split not in SPLIT_METHODS:
            raise source.fail(
                f"no column {split!r} (the split), and no such method (auto, "
                f"{', '.join(SPLIT_METHODS)}). Columns: {', '.join(source.columns)}"
            )
        split = None
    wanted = Wanted(
        options.sequence,
        options.mutations,
        options.target_names,
        options.relation,
        split,
        options.time,
        options.id,
        options.kind,
        heavy=options.heavy,
        light=options.light,
    )
    roles = find_roles(source, wanted, frozenset(records))
    if roles.chains and options.wildtype is not None:
        raise source.fail(
            f"columns {', '.join(map(repr, roles.chains.values()))} hold pairs of chains, which "
            f"have no wild type: leave out {option('wildtype')}, or name one column "
            f"({option('sequence')})"
        )
    if records:
        roles.kind = options.kind if options.kind != "auto" else kind_of_records(records)
    options = replace(options, kind=roles.kind)
    parent = None
    if options.wildtype is not None:
        parent = read_wildtype(options.wildtype, alphabet_of(roles.kind))
    if parent is None and roles.wildtype is not None:
        column = [text for text in source.texts(roles.wildtype) if text]
        parent = WildType(
            read_wildtype(column[0]).sequence, f"wild type: column {roles.wildtype!r}"
        )
    rows = _sequences(source, roles, parent, records, options, ledger)
    leave_out_refused(source, rows.sequences, options, ledger)

    tasks, task_said = measure.choose_tasks(source, roles.targets, options)
    alone = len(tasks) == 1
    numbers = [one for one, task in zip(roles.targets, tasks, strict=True) if task == "regression"]
    scales = Scales(source, numbers, options, roles.kind)
    readings = []
    for target, task in zip(roles.targets, tasks, strict=True):
        if task == "regression":
            readings.append(measure.read_numbers(source, target, options, ledger))
            scales.apply(readings[-1], roles, ledger)
        else:
            readings.append(measure.read_classes(source, target, alone))
    scales.finish()
    task = tasks[0] if len(set(tasks)) == 1 else MIXED
    classes = readings[0].classes
    own_classes = [one.classes for one in readings]
    if any(one != classes for one in own_classes):
        classes = None
    measured = np.any([~np.isnan(one.values).all(axis=1) for one in readings], axis=0)
    ledger.leave_out(np.flatnonzero(~measured), measure.NO_VALUE)
    _require_rows(source, ledger)

    merged = merge_rows(source, rows.sequences, readings, options, ledger, roles.splits)
    _require_rows(source, ledger)
    members = merged.members
    sequences = [rows.sequences[group[0]] for group in members]
    for k, target_summary in enumerate(merged.summaries):
        values, censor = merged.targets[:, k], merged.censor[:, k]
        measure.describe(target_summary, values, censor, own_classes[k])
        measure.require_variation(source, target_summary)

    given = _given(source, roles)
    if roles.kind == MOLECULE:
        for target_summary, reading in zip(merged.summaries, readings, strict=True):
            if reading.classes is None:
                target_summary.spread = spread_of(
                    reading.values, reading.censor, members, merged.copies
                )
    first_rows = [group[0] for group in members]
    variants = Variants()
    if not roles.chains:
        variants = find_variants(source, roles, rows, sequences, first_rows, parent, options)
    said = [*roles.said, *rows.said, *variants.said, *task_said]
    notes = [*source.notes, *rows.notes, *variants.notes]
    for reading in readings:
        notes += reading.said
    if merged.copies and task != "classification":
        listed_rows = rows_text([source.row(i) for i in merged.copies])
        notes.append(
            f"rows equal to an earlier one in every field, no evidence of noise: "
            f"{len(merged.copies):,} ({listed_rows})"
        )
    split_columns, split_name = _splits(source, roles, members, notes, said)
    groups = None
    if roles.split is not None and roles.split not in roles.splits:
        groups, split_name = groups_of(source, roles.split, members), roles.split
    listed = [one for one in variants.mutations or [] if one is not None]
    times = times_of(source, roles.time, members) if roles.time else None
    said += times.said if times else []
    in_use = split_columns.get(split_name or "")
    lengths = np.array([sum(pairs.lengths(one)) if roles.chains else len(one) for one in sequences])
    summary = DataSummary(
        source=source.name,
        rows_read=len(source.frame),
        rows_used=int(ledger.alive.sum()),
        columns=len(source.columns),
        format=source.format,
        n_sequences=len(sequences),
        set_aside={
            reason: [source.row(i) for i in sorted(indices)]
            for reason, indices in ledger.set_aside.items()
        },
        said=said,
        notes=notes,
        targets=merged.summaries,
        task=task,
        min_length=int(lengths.min()),
        median_length=float(np.median(lengths)),
        max_length=int(lengths.max()),
        merged_rows=int(ledger.alive.sum()) - len(sequences),
        replicates=options.replicates,
        split_counts=None if in_use is None else _counts(in_use),
        kind=roles.kind,
        sequence_column=roles.sequence,
        chain_columns=roles.chains or None,
        mutations_column=roles.mutations,
        wildtype=variants.wildtype,
        wildtype_length=len(variants.wildtype) if variants.wildtype else None,
        numbering=variants.numbering if variants.wildtype else None,
        mutation_counts=None if variants.mutations is None else dict(Counter(map(len, listed))),
    )
    return AssayTable(
        sequences=sequences,
        targets=merged.targets,
        censor=merged.censor,
        target_names=[one.target.name for one in readings],
        task=task,
        classes=classes,
        rows=[[source.row(i) for i in group] for group in members],
        n_replicates=merged.counts,
        replicate_sd=merged.sds,
        summary=summary,
        wildtype=variants.wildtype,
        mutations=listed if len(listed) == len(sequences) else None,
        substitutions=variants.mutations,
        numbering=variants.numbering,
        split=in_use,
        split_name=split_name,
        split_columns=split_columns,
        groups=groups,
        time=None if times is None else times.first,
        dates=times is not None and times.dates,
        kind=roles.kind,
        paired=bool(roles.chains),
        target_classes=own_classes if classes is None and any(own_classes) else [],
        account=account_of(source.first_row, given, ledger, members, readings, merged.copies),
    )


def _given(source: Source, roles: Roles) -> list[str]:
    """Each row's sequence, pair, mutations or FASTA record as it stands in the table."""
    if roles.chains:
        chains = [source.texts(column) for column in roles.chains.values()]
        return [pairs.BREAK.join(one) for one in zip(*chains, strict=True)]
    return source.texts(roles.record_id or roles.sequence or roles.mutations or "")


def _records(options: ReadOptions) -> dict[str, str]:
    if options.fasta is None:
        return {}
    records: dict[str, str] = {}
    for name, text in read_fasta(options.fasta):
        if records.get(name, text) != text:
            raise DataError(
                f"{Path(options.fasta).name}: two different records are called {name!r}"
            )
        records[name] = text
    return records


def _sequences(
    source: Source,
    roles: Roles,
    parent: WildType | None,
    records: dict[str, str],
    options: ReadOptions,
    ledger: Ledger,
) -> RowSequences:
    if roles.chains:
        return pairs_from_columns(source, roles.chains, options, ledger)
    if roles.record_id is not None:
        name = Path(options.fasta or "").name
        return sequences_from_records(source, roles, records, name, options, ledger)
    if roles.sequence is not None:
        texts = source.texts(roles.sequence)
        where = f"column {roles.sequence!r}"
        if roles.kind == MOLECULE:
            from moltide.assay.molecule_texts import molecules_from_column

            return molecules_from_column(source, texts, where, options, ledger)
        return sequences_from_column(source, texts, where, options, ledger)
    if parent is None:
        raise source.fail(
            f"column {roles.mutations!r} holds mutations: give their wild type "
            f"({option('wildtype')} SEQUENCE or FASTA)"
        )
    rows = sequences_from_mutations(source, roles.mutations or "", parent, options, ledger)
    rows.said.insert(0, parent.said)
    return rows


def _require_rows(source: Source, ledger: Ledger) -> None:
    if ledger.alive.any():
        return
    reasons = "; ".join(
        f"{reason}: {rows_text([source.row(i) for i in indices])}"
        for reason, indices in ledger.set_aside.items()
    )
    raise source.fail(f"no row can be used ({reasons})")


def _splits(
    source: Source,
    roles: Roles,
    members: list[list[int]],
    notes: list[str],
    said: list[str],
) -> tuple[dict[str, npt.NDArray[np.str_]], str | None]:
    columns: dict[str, npt.NDArray[np.str_]] = {}
    said_of: dict[str, list[str]] = {}
    for name in roles.splits:
        columns[name], said_of[name] = split_of(source, name, members)
    chosen = roles.split if roles.split in columns else None
    if roles.split is None and len(columns) == 1:
        chosen = next(iter(columns))
        said.append(f"split column: {chosen!r} (train/valid/test by its values)")
    elif len(columns) > 1 and chosen is None:
        said.append(f"split columns found: {', '.join(map(repr, columns))}")
    if chosen is not None:
        notes += said_of[chosen]
    return columns, chosen


def _counts(parts: npt.NDArray[np.str_]) -> dict[str, int]:
    counts = Counter(parts.tolist())
    return {part or "none": counts[part] for part in ("train", "valid", "test", "") if counts[part]}
