"""What a split is: parts, the method, and the reason in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import ConfigError
from moltide.splits.parts import PARTS, Labels


@dataclass(frozen=True)
class Split:
    """Parts of a table.

    Attributes:
        labels: (n,) of "train", "valid", "test"; "" for sequences that a column, time or
            another length leaves without a part.
        method: "column", "groups", or one of `SPLIT_METHODS`.
        reason: one sentence on why this split is the honest one (or was asked for).
        notes: what else a reader should know.
        groups: (n,) cluster or group numbers, where the method has them.
        facts: what the notes say of molecules, as numbers (see `splits.molecules.described`).
    """

    labels: Labels
    method: str
    reason: str
    seed: int
    notes: list[str] = field(default_factory=list)
    groups: npt.NDArray[np.int64] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def index(self, part: str) -> npt.NDArray[np.int64]:
        """Positions of the sequences of "train", "valid" or "test"."""
        if part not in PARTS:
            raise ConfigError(f"part {part!r}: expected one of {', '.join(PARTS)}")
        return np.flatnonzero(self.labels == part).astype(np.int64)

    def counts(self) -> dict[str, int]:
        found = Counter(self.labels.tolist())
        return {part: found[part] for part in PARTS} | ({"none": found[""]} if found[""] else {})

    def lines(self) -> list[str]:
        """The split for a terminal: method, reason, sizes, notes."""
        sizes = ", ".join(f"{part} {count:,}" for part, count in self.counts().items())
        return [f"split by {self.method}: {self.reason}", sizes, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Method, reason, sizes, notes and facts as plain JSON types (without the labels)."""
        return {
            "method": self.method,
            "reason": self.reason,
            "seed": self.seed,
            "counts": self.counts(),
            "notes": list(self.notes),
            **self.facts,
        }
