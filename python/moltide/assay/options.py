"""What a user can ask of `read_assay`, checked once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from moltide.chem.standardise import CHARGES, SALTS, STEREO, ChemistryOptions
from moltide.errors import ConfigError
from moltide.kinds import KINDS, PROTEIN
from moltide.options import check_choice, option
from moltide.pairs import CHAINS

# Fewer cannot be dealt out to train, valid and test.
MIN_SEQUENCES = 10
SPLIT_METHODS = (
    "random", "cluster", "position", "mutations", "time", "scaffold", "scaffold_balanced", "butina",
)  # fmt: skip
_CHOICES = {
    "task": ("auto", "regression", "classification"),
    "replicates": ("mean", "median", "keep"),
    "on_conflict": ("report", "set_aside", "error"),
    "stops": ("set_aside", "truncate", "error"),
    "on_bad_row": ("error", "set_aside"),
    "kind": ("auto", *KINDS),
    "salts": SALTS,
    "charges": CHARGES,
    "stereo": STEREO,
}


@dataclass(frozen=True)
class ReadOptions:
    """The options of `read_assay`; see there."""

    sequence: str | None = None
    mutations: str | None = None
    wildtype: str | os.PathLike[str] | None = None
    numbering: str | int = "auto"
    target: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None
    relation: str | None = None
    unit: str | Mapping[str, str] | None = None
    transform: str | Mapping[str, str] | None = None
    split: str | None = None
    time: str | None = None
    task: str = "auto"
    replicates: str = "mean"
    on_conflict: str = "report"
    stops: str = "set_aside"
    on_bad_row: str = "error"
    fasta: str | os.PathLike[str] | None = None
    id: str | None = None
    kind: str = "auto"
    salts: str = "strip"
    charges: str = "neutralise"
    stereo: str = "keep"
    tautomers: bool = False
    heavy: str | None = None
    light: str | None = None
    progress: Callable[[int, int], None] | None = None
    refusals: Callable[[Sequence[str]], Mapping[int, str]] | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        if isinstance(self.numbering, str) and self.numbering != "auto":
            raise ConfigError(
                f"{option('numbering')} is {self.numbering!r}; allowed: 'auto', or the number of "
                "the first residue"
            )
        if self.sequence is not None and self.fasta is not None:
            raise ConfigError(
                f"give the sequences as a column ({option('sequence')}) or as FASTA "
                f"({option('fasta')}), not both"
            )

        self._check_pairs()

    def _check_pairs(self) -> None:
        """Pairs of chains are columns of residues, and nothing else says what they are."""
        chain = next((name for name in CHAINS if getattr(self, name) is not None), None)
        if chain is None:
            return
        for other in ("sequence", "mutations", "wildtype", "fasta"):
            if getattr(self, other) is not None:
                raise ConfigError(
                    f"{option(chain)} does not go with {option(other)}: pairs of chains are read "
                    "as they stand in their two columns"
                )
        if self.kind not in ("auto", PROTEIN):
            kind = option("kind", self.kind)
            raise ConfigError(f"{option(chain)} goes with proteins, not with {kind}")

    @property
    def chemistry(self) -> ChemistryOptions:
        """How molecules are standardised."""
        return ChemistryOptions(self.salts, self.charges, self.stereo, self.tautomers)

    @property
    def offset(self) -> int | None:
        """The numbering the user stated, None for "auto"."""
        return None if isinstance(self.numbering, str) else int(self.numbering)

    @property
    def target_names(self) -> str | list[str] | None:
        """Targets in the written form: `{"y": ["a", "b"]}` is `["y=a+b"]`."""
        if isinstance(self.target, Mapping):
            return [f"{name}={'+'.join(columns)}" for name, columns in self.target.items()]
        if self.target is None or isinstance(self.target, str):
            return self.target
        return list(self.target)
