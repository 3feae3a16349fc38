"""Which two columns hold the chains of antibodies: as named, or as people call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moltide.assay.chain_names import chain_named
from moltide.assay.profile import SEQUENCE_NAMES, Profile, mostly
from moltide.assay.required import require_column
from moltide.assay.source import Source
from moltide.options import option
from moltide.pairs import CHAINS


@dataclass
class Chains:
    """The columns of the "heavy" and of the "light" chain, and sentences on the choice."""

    columns: dict[str, str]
    said: list[str]


def find_chains(
    source: Source,
    profiles: Mapping[str, Profile],
    given: Mapping[str, str | None],
    needed: bool | None,
    usual: Sequence[str | None],
) -> Chains | None:
    """The columns of both chains; None where the table holds no pairs.

    Args:
        given: columns that the user named, by chain.
        needed: the table must hold pairs; None: taken where their columns are found; False: only
            where they are named.
        usual: columns of an earlier table, heavy and light: taken if they are there.

    Raises:
        DataError: a chain without a column or with several, or sequences beside the pairs.
    """
    named = any(given.values())
    if needed is False and not named:
        return None
    found: dict[str, list[str]] = {chain: [] for chain in CHAINS}
    for name, profile in profiles.items():
        chain = chain_named(name)
        if chain is not None and _may_hold_chains(source, profile):
            found[chain].append(name)
    for chain, known in zip(CHAINS, usual, strict=False):
        if known is not None and known in profiles:
            found[chain] = [known]
    for chain, column in given.items():
        if column is not None:
            found[chain] = [require_column(source, column, f"the {chain} chains")]
    if not (needed or named) and not all(found.values()):
        return None
    for chain, names in found.items():
        if len(names) != 1:
            several = f"several columns could be the {chain} chains: {', '.join(map(repr, names))}"
            none = f"no column of {chain} chains found"
            raise source.fail(
                f"{several if names else none}; name it ({option(chain)}). Columns: "
                f"{', '.join(source.columns)}"
            )
    columns = {chain: names[0] for chain, names in found.items()}
    if columns["heavy"] == columns["light"]:
        raise source.fail(f"column {columns['heavy']!r} is named as both chains")
    if not (needed or named):
        _refuse_sequences_beside(source, profiles, columns)
    listed = ", ".join(f"{chain} {name!r}" for chain, name in columns.items())
    said = [f"pairs of chains: columns {listed} ({'named' if named else 'by their names'})"]
    unread = [name for name, profile in profiles.items() if profile.kind == "mutations"]
    if unread:
        said.append(f"mutations are not read beside pairs: {', '.join(map(repr, unread))}")
    return Chains(columns, said)


def _may_hold_chains(source: Source, profile: Profile) -> bool:
    """Whether a column holds residues, but for bad cells that are named afterwards."""
    text = profile.kind == "text" and mostly(source, profile.name, "residues")
    return text or profile.kind == "residues"


def _refuse_sequences_beside(
    source: Source, profiles: Mapping[str, Profile], columns: Mapping[str, str]
) -> None:
    for name, profile in profiles.items():
        if profile.kind == "residues" and profile.plain_name in SEQUENCE_NAMES:
            raise source.fail(
                f"columns {', '.join(map(repr, columns.values()))} hold pairs of chains, and "
                f"{name!r} sequences: name the chains ({option('heavy')}, {option('light')}) or "
                f"the sequences ({option('sequence')})"
            )
