"""Which column plays which part, found by content and name and said, or asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from moltide.assay.chain_columns import find_chains
from moltide.assay.helpers import not_a_target
from moltide.assay.labels import LABEL_NAMES, is_yes_no
from moltide.assay.profile import (
    MUTATION_NAMES,
    NUCLEOTIDE_NAMES,
    SEQUENCE_NAMES,
    SMILES_NAMES,
    Profile,
    mostly,
    profile_table,
)
from moltide.assay.required import require_column
from moltide.assay.source import Source
from moltide.errors import DataError
from moltide.kinds import MOLECULE, PROTEIN, RNA
from moltide.options import option

#: As a target: every measured column.
ALL = "all"


# Kind of a column -> kind of the table whose sequences it holds.
_KIND_OF_COLUMN = {"smiles": MOLECULE, "inchi": MOLECULE, "residues": PROTEIN, "nucleotides": RNA}


@dataclass
class Target:
    """One measured property; several columns are replicate readings of it."""

    name: str
    columns: list[str]
    relation: str | None = None


@dataclass
class Roles:
    """The columns in use; `said` explains each choice in a sentence."""

    sequence: str | None = None
    mutations: str | None = None
    wildtype: str | None = None
    record_id: str | None = None
    targets: list[Target] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    split: str | None = None
    time: str | None = None
    said: list[str] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    kind: str = PROTEIN
    # Columns of the heavy and the light chain of pairs.
    chains: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What the user named; None where moltide should look."""

    sequence: str | None = None
    mutations: str | None = None
    target: str | Sequence[str] | None = None
    relation: str | None = None
    split: str | None = None
    time: str | None = None
    record_id: str | None = None
    kind: str = "auto"
    # Columns of an earlier table of the same kind: taken if they are there and may hold it.
    usual_sequence: str | None = None
    usual_mutations: str | None = None
    # Columns of chains named; and whether pairs are needed, None: taken where they are found.
    heavy: str | None = None
    light: str | None = None
    pairs: bool | None = None
    usual_chains: tuple[str | None, ...] = ()


def find_roles(source: Source, wanted: Wanted, record_names: frozenset[str] = frozenset()) -> Roles:
    """Give every column in use its part.

    Args:
        source: the table.
        wanted: columns the user named.
        record_names: names of FASTA records, when the sequences come from a FASTA file.

    Raises:
        DataError: a named column is missing, or a part has no candidate or more than one.
    """
    roles = Roles(profiles=profile_table(source))
    if record_names:
        _find_record_id(source, wanted, roles, record_names)
    else:
        _find_sequences(source, wanted, roles)
    for name, profile in roles.profiles.items():
        if profile.kind == "split":
            roles.splits.append(name)
    if wanted.split is not None:
        roles.split = require_column(source, wanted.split, "the split")
        roles.said.append(f"split column: {roles.split!r} (named)")
    if wanted.time is not None:
        roles.time = require_column(source, wanted.time, "the time")
        roles.said.append(f"time column: {roles.time!r} (named)")
    _find_targets(source, wanted, roles)
    return roles


def find_sequence_roles(source: Source, wanted: Wanted) -> Roles:
    """Only where the sequences are; for tables without measurements."""
    roles = Roles(profiles=profile_table(source))
    _find_sequences(source, wanted, roles)
    return roles


def _find_record_id(
    source: Source, wanted: Wanted, roles: Roles, record_names: frozenset[str]
) -> None:
    if wanted.record_id is not None:
        roles.record_id = require_column(source, wanted.record_id, "the FASTA record name")
        roles.said.append(f"FASTA record column: {roles.record_id!r} (named)")
        return
    hits = {}
    for column in source.columns:
        texts = [text for text in source.texts(column) if text]
        matched = sum(text in record_names for text in texts)
        if texts and matched >= 0.5 * len(texts):
            hits[column] = matched
    best = [column for column, matched in hits.items() if matched == max(hits.values())]
    if len(best) != 1:
        problem = "no column names" if not best else f"{' and '.join(map(repr, best))} name"
        raise source.fail(
            f"{problem} the records of the FASTA file (its first: "
            f"{', '.join(sorted(record_names)[:3])}); say which column does ({option('id')})"
        )
    roles.record_id = best[0]
    filled = sum(1 for text in source.texts(best[0]) if text)
    roles.said.append(
        f"FASTA record column: {best[0]!r} ({hits[best[0]]:,} of {filled:,} values are records)"
    )


def _find_sequences(source: Source, wanted: Wanted, roles: Roles) -> None:
    roles.kind = _kind_of(source, wanted, roles)
    if roles.kind == MOLECULE:
        _find_molecules(source, wanted, roles)
    elif roles.kind == RNA:
        _find_nucleotides(source, wanted, roles)
    else:
        _find_residues(source, wanted, roles)


def _kind_of(source: Source, wanted: Wanted, roles: Roles) -> str:
    """What the table holds: as asked for, else by the column named, else by the columns there are;
    residues or mutations of them beside SMILES or nucleotides are what the table is about."""
    if wanted.kind != "auto":
        return wanted.kind
    if wanted.pairs or wanted.heavy is not None or wanted.light is not None:
        return PROTEIN
    kinds = {name: profile.kind for name, profile in roles.profiles.items()}
    if wanted.sequence in (None, source.structure) and source.structure is not None:
        return MOLECULE
    if wanted.sequence in kinds:
        return _KIND_OF_COLUMN.get(kinds[wanted.sequence], PROTEIN)
    usual = kinds.get(wanted.usual_sequence or "")
    if usual in _KIND_OF_COLUMN:
        return _KIND_OF_COLUMN[usual]
    found = set(kinds.values())
    if found & {"residues", "mutations"}:
        return PROTEIN
    if found & {"smiles", "inchi"}:
        return MOLECULE
    return RNA if "nucleotides" in found else PROTEIN


def _find_molecules(source: Source, wanted: Wanted, roles: Roles) -> None:
    if wanted.sequence is not None:
        roles.sequence = require_column(source, wanted.sequence, "the molecules")
        roles.said.append(f"SMILES column: {roles.sequence!r} (named)")
        return
    if source.structure is not None:
        roles.sequence = source.structure
        roles.said.append(f"molecules: the structures of {len(source.frame):,} records")
        return
    roles.sequence = (
        _usual(wanted.usual_sequence, "smiles", roles)
        or _pick(source, roles, "smiles", SMILES_NAMES, "SMILES")
        or _pick(source, roles, "inchi", frozenset(["inchi", "standardinchi"]), "InChI")
        or _named_like(source, roles, SMILES_NAMES, "smiles", "SMILES")
    )
    if roles.sequence is None:
        raise source.fail(
            f"no column of SMILES or InChI found; name it ({option('sequence')}). Columns: "
            f"{', '.join(source.columns)}"
        )


def _find_nucleotides(source: Source, wanted: Wanted, roles: Roles) -> None:
    if wanted.mutations is not None:
        raise source.fail(
            f"{option('mutations')} is of proteins; of RNA give whole sequences "
            f"({option('sequence')})"
        )
    if wanted.sequence is not None:
        roles.sequence = require_column(source, wanted.sequence, "the sequences")
        roles.said.append(f"sequence column: {roles.sequence!r} (named)")
        return
    names = SEQUENCE_NAMES | NUCLEOTIDE_NAMES
    roles.sequence = _usual(wanted.usual_sequence, "nucleotides", roles) or _pick(
        source, roles, "nucleotides", names, "sequence"
    )
    if roles.sequence is None:
        roles.sequence = _named_like(source, roles, names, "nucleotides", "sequence")
    if roles.sequence is None:
        raise source.fail(
            f"no column of nucleotides found; name it ({option('sequence')}). Columns: "
            f"{', '.join(source.columns)}"
        )


def _find_residues(source: Source, wanted: Wanted, roles: Roles) -> None:
    profiles = roles.profiles
    elsewhere = wanted.sequence is not None or wanted.mutations is not None
    given = {"heavy": wanted.heavy, "light": wanted.light}
    needed = False if elsewhere and wanted.pairs is None else wanted.pairs
    found = find_chains(source, profiles, given, needed, wanted.usual_chains)
    if found is not None:
        roles.chains = found.columns
        roles.said += found.said
        return
    if wanted.mutations is not None:
        roles.mutations = require_column(source, wanted.mutations, "the mutations")
        roles.said.append(f"mutation column: {roles.mutations!r} (named)")
    else:
        roles.mutations = _usual(wanted.usual_mutations, "mutations", roles) or _pick(
            source, roles, "mutations", MUTATION_NAMES, "mutation"
        )
    residues = {name: p for name, p in profiles.items() if p.kind == "residues"}
    if wanted.sequence is not None:
        roles.sequence = require_column(source, wanted.sequence, "the sequences")
        roles.said.append(f"sequence column: {roles.sequence!r} (named)")
        return
    constant = [name for name, p in residues.items() if p.distinct == 1 and p.rows > 1]
    if roles.mutations is not None and len(constant) == 1:
        roles.wildtype = constant[0]
        residues.pop(constant[0])
        roles.said.append(f"wild type: column {constant[0]!r} (the same sequence in every row)")
    if wanted.mutations is not None:
        return
    usual = wanted.usual_sequence if wanted.usual_sequence != roles.wildtype else None
    roles.sequence = _usual(usual, "residues", roles) or _pick(
        source, roles, "residues", SEQUENCE_NAMES, "sequence", residues
    )
    if roles.sequence is None and roles.mutations is None:
        roles.sequence = _named_like(source, roles, SEQUENCE_NAMES, "residues", "sequence")
    if roles.sequence is None and roles.mutations is None:
        roles.mutations = _named_like(source, roles, MUTATION_NAMES, "mutations", "mutation")
    if roles.sequence is None and roles.mutations is None:
        raise source.fail(_no_sequence_text(source, profiles))


def _usual(name: str | None, kind: str, roles: Roles) -> str | None:
    """The column of an earlier table, if it may hold `kind` here; bad cells make it text."""
    profile = roles.profiles.get(name or "")
    fitting = [kind, "text"]
    # Every letter of RNA is one of proteins too: bad cells make nucleotides residues. And so are
    # those of small molecules.
    fitting += {"nucleotides": ["residues"], "smiles": ["residues", "nucleotides"]}.get(kind, [])
    if profile is None or profile.kind not in fitting:
        return None
    word = {"smiles": "SMILES", "mutations": "mutation"}.get(kind, "sequence")
    roles.said.append(f"{word} column: {profile.name!r} (as in the training table)")
    return profile.name


def _named_like(
    source: Source, roles: Roles, names: frozenset[str], kind: str, word: str
) -> str | None:
    """The one column with such a name and mostly fitting cells: its bad rows are then named."""
    found = [name for name, p in roles.profiles.items() if p.plain_name in names]
    found = [name for name in found if mostly(source, name, kind)]
    if len(found) != 1:
        return None
    roles.said.append(f"{word} column: {found[0]!r} (by its name)")
    return found[0]


def _pick(
    source: Source,
    roles: Roles,
    kind: str,
    names: frozenset[str],
    word: str,
    candidates: dict[str, Profile] | None = None,
) -> str | None:
    """The one candidate of `kind`; a known name decides between several."""
    if candidates is None:
        candidates = {name: p for name, p in roles.profiles.items() if p.kind == kind}
    if not candidates:
        return None
    chosen = list(candidates)
    if len(chosen) > 1:
        chosen = [name for name in chosen if candidates[name].plain_name in names]
    if len(chosen) != 1:
        listed = ", ".join(map(repr, candidates))
        raise source.fail(
            f"several columns could be the {word} column: {listed}; "
            f"name one ({option('mutations' if kind == 'mutations' else 'sequence')})"
        )
    profile = candidates[chosen[0]]
    matching = round(profile.share * profile.filled)
    others = [name for name in candidates if name != chosen[0]]
    roles.said.append(
        f"{word} column: {chosen[0]!r} ({matching:,} of {profile.filled:,} values are {kind})"
        + (f"; also {kind}: {', '.join(map(repr, others))}" if others else "")
    )
    return chosen[0]


def _no_sequence_text(source: Source, profiles: dict[str, Profile]) -> str:
    for name, profile in profiles.items():
        if profile.kind == "nucleotides":
            return (
                f"no protein sequence: column {name!r} holds nucleotides (only A, C, G, T, U, N); "
                f"translate it, name a column of residues ({option('sequence')}), or read it as "
                f"RNA ({option('kind', RNA)})"
            )
    return (
        f"no column of sequences or mutations found; name one with {option('sequence')}, or with "
        f"{option('mutations')} and {option('wildtype')}. Columns: {', '.join(source.columns)}"
    )


def _find_targets(source: Source, wanted: Wanted, roles: Roles) -> None:
    if _wants_all(source, wanted.target):
        roles.targets = _all_targets(source, roles)
    elif wanted.target is not None:
        names = _split_names(source, wanted.target)
        for name in names:
            roles.targets.append(_named_target(source, name))
        listed = ", ".join(repr(target.name) for target in roles.targets)
        roles.said.append(f"target: {listed} (named)")
    else:
        roles.targets = [_only_target(source, roles)]
    _find_relations(source, wanted, roles)


def _split_names(source: Source, target: str | Sequence[str]) -> list[str]:
    if not isinstance(target, str):
        return list(target)
    if target in source.columns:
        return [target]
    return [name.strip() for name in target.split(",") if name.strip()]


def _wants_all(source: Source, target: str | Sequence[str] | None) -> bool:
    return target in (ALL, [ALL]) and ALL not in source.columns


def _named_target(source: Source, name: str) -> Target:
    """`score`, or `score=rep1+rep2`: one property read in several replicate columns."""
    if name in source.columns:
        return Target(name, [name])
    label, equals, columns = name.partition("=")
    if not equals:
        label, columns = name, name
    parts = [part.strip() for part in columns.split("+")]
    return Target(label.strip(), [require_column(source, part, "the target") for part in parts])


def _free_columns(roles: Roles) -> dict[str, Profile]:
    """Columns that play no other part."""
    used = {roles.sequence, roles.mutations, roles.wildtype, roles.record_id, roles.time}
    used |= {roles.split, *roles.splits, *roles.chains.values()}
    return {name: p for name, p in roles.profiles.items() if name not in used}


def _numeric(
    source: Source, roles: Roles, free: dict[str, Profile]
) -> tuple[list[str], dict[str, str]]:
    """Numeric columns that may be measured, and by name why others are none."""
    candidates, helpers = [], {}
    for name, profile in free.items():
        if profile.kind == "number":
            why = not_a_target(source, profile, roles.profiles)
            if why:
                helpers[name] = why
            else:
                candidates.append(name)
    return candidates, helpers


def _aside(helpers: dict[str, str]) -> str:
    return "; ".join(
        f"{', '.join(repr(name) for name, own in helpers.items() if own == why)} ({why})"
        for why in dict.fromkeys(helpers.values())
    )


def _all_targets(source: Source, roles: Roles) -> list[Target]:
    """Every column that may be measured: numbers, and yes and no in words."""
    free = _free_columns(roles)
    numeric, helpers = _numeric(source, roles, free)
    chosen = []
    for name, profile in free.items():
        if profile.kind == "text" and 2 <= profile.distinct <= 20:
            telling = profile.plain_name in LABEL_NAMES or is_yes_no(source.texts(name))
            if profile.distinct == 2 and telling:
                chosen.append(name)
            else:
                helpers[name] = "labels that may be no measurement: name the column to take it"
        elif name in numeric:
            chosen.append(name)
    if not chosen:
        detail = f" ({_aside(helpers)})" if helpers else ""
        raise source.fail(
            f"no measured column found{detail}; name them with {option('target')}. "
            f"Columns: {', '.join(source.columns)}"
        )
    roles.said.append(f"targets: {', '.join(map(repr, chosen))} (all measured columns)")
    if helpers:
        roles.said.append(f"not taken as targets: {_aside(helpers)}")
    return [Target(name, [name]) for name in chosen]


def _only_target(source: Source, roles: Roles) -> Target:
    free = _free_columns(roles)
    candidates, helpers = _numeric(source, roles, free)
    aside = _aside(helpers)
    if len(candidates) == 1:
        profile = roles.profiles[candidates[0]]
        numeric = round(profile.share * profile.filled)
        roles.said.append(
            f"target: {candidates[0]!r} ({numeric:,} of {profile.filled:,} values are numbers)"
        )
        if aside:
            roles.said.append(f"numeric but not taken as target: {aside}")
        return Target(candidates[0], [candidates[0]])
    if candidates:
        raise source.fail(
            f"several columns could be the target: {', '.join(map(repr, candidates))}; name one "
            f"or more ({option('target', 'A')} or {option('target', 'A,B')}; all of them: "
            f"{option('target', ALL)}; replicate readings of one property: "
            f"{option('target', 'name=A+B')})" + (f". Not considered: {aside}" if aside else "")
        )
    return _label_target(source, roles, free, aside)


def _label_target(source: Source, roles: Roles, free: dict[str, Profile], aside: str) -> Target:
    """Without a numeric column: the one column of class labels, if there is just one."""
    labels = [n for n, p in free.items() if p.kind == "text" and 2 <= p.distinct <= 20]
    labels = [name for name in labels if free[name].distinct * 3 <= free[name].filled]
    # A column such as "organism" has classes too: only a telling name or yes/no words decide.
    sure = [name for name in labels if free[name].plain_name in LABEL_NAMES]
    sure = sure or [name for name in labels if is_yes_no(source.texts(name))]
    if len(sure) == 1:
        roles.said.append(f"target: {sure[0]!r} ({free[sure[0]].distinct} distinct labels)")
        return Target(sure[0], [sure[0]])
    detail = f" ({aside})" if aside else ""
    hint = f"; class labels may be in {', '.join(map(repr, labels))}" if labels else ""
    for name, profile in free.items():
        if profile.kind == "structure":
            hint += f"; {name!r} holds one letter a residue, and such labels are not read"
    raise source.fail(
        f"no numeric target column found{detail}{hint}; name it with {option('target')}. "
        f"Columns: {', '.join(source.columns)}"
    )


def _find_relations(source: Source, wanted: Wanted, roles: Roles) -> None:
    """Relation columns: the named one, `<target>_relation`, or the only one there is."""
    if wanted.relation is not None:
        name = require_column(source, wanted.relation, "the relation")
        for target in roles.targets:
            target.relation = name
        roles.said.append(f"relation column: {name!r} (named)")
        return
    found = [name for name, p in roles.profiles.items() if p.kind == "relation"]
    found = [name for name in found if not any(name in t.columns for t in roles.targets)]

    def named_after(target: Target) -> list[str]:
        word = re.compile(rf"(^|[^a-z0-9]){re.escape(target.name.lower())}([^a-z0-9]|$)")
        return [name for name in found if word.search(name.lower())]

    of_one = any(map(named_after, roles.targets))
    shared = found if len(found) == 1 and not of_one else []
    for target in roles.targets:
        own = named_after(target)
        if len(own or shared) == 1:
            target.relation = (own or shared)[0]
            roles.said.append(f"relation column of {target.name!r}: {target.relation!r}")
    if len(found) > 1 and not any(target.relation for target in roles.targets):
        raise DataError(
            f"{source.name}: several relation columns: {', '.join(map(repr, found))}; name one "
            f"({option('relation')})"
        )
