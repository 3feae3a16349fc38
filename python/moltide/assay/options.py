"""What a user can ask of `read_assay`, checked once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moltide.chem.standardise import CHARGES, SALTS, STEREO
from moltide.errors import ConfigError
from moltide.kinds import KINDS
from moltide.options import check_choice, option

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
