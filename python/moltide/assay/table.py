"""The assay table: distinct sequences, their measured values, and where each came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.assay.account import Account
from moltide.assay.mutations import Mutation
from moltide.assay.summary import DataSummary
from moltide.assay.transforms import Scale
from moltide.assay.values import CensorArray, FloatArray
from moltide.kinds import PROTEIN
from moltide.tasks import CLASSIFICATION, MIXED, REGRESSION


@dataclass(frozen=True)
class AssayTable:
    """n sequences with k targets.

    Attributes:
        sequences: n residue strings, upper case, distinct unless repeats were kept; canonical
            SMILES of molecules, nucleotides of RNA.
        targets: (n, k) float64, NaN = not measured; for classification the class index.
        censor: (n, k) int8: +1 the true value is above, -1 below, 0 exact.
        target_names: k names.
        task: "regression", "classification", or "mixed": targets of both kinds.
        classes: class names by index, None for regression and where targets have their own.
        target_classes: then those of each target, None for numbers; else empty.
        rows: for each sequence its row numbers in the source, as a spreadsheet counts (header 1).
        n_replicates: (n, k) int64 readings behind each value.
        replicate_sd: k pooled SDs of one reading, None where nothing was repeated.
        wildtype: the parent sequence, if there is one.
        mutations: for each sequence its substitutions of `wildtype`, or None (as when any
            sequence has another length).
        substitutions: the same where a few sequences have another length, which have None here.
        numbering: the number the author gives to the first residue of the wild type.
        split: (n,) of "train", "valid", "test" or "" from the split column in use, or None.
        split_name: that column.
        split_columns: every split column of the table, by name, each (n,).
        groups: (n,) labels of a named column that is no train/valid/test split, or None.
        time: (n,) float64, NaN = unknown, or None.
        dates: whether `time` is in seconds since 1970, of dates.
        summary: the account of every row.
        kind: what the sequences are, one of `moltide.kinds.KINDS`.
        paired: whether they are pairs of chains, `HEAVY:LIGHT` (`moltide.pairs`).
        account: what became of every row; like `summary` that of the whole table.
    """

    sequences: list[str]
    targets: FloatArray
    censor: CensorArray
    target_names: list[str]
    task: str
    classes: list[str] | None
    rows: list[list[int]]
    n_replicates: npt.NDArray[np.int64]
    replicate_sd: list[float | None]
    summary: DataSummary
    wildtype: str | None = None
    mutations: list[tuple[Mutation, ...]] | None = None
    substitutions: list[tuple[Mutation, ...] | None] | None = None
    numbering: int = 1
    split: npt.NDArray[np.str_] | None = None
    split_name: str | None = None
    split_columns: dict[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    groups: npt.NDArray[np.str_] | None = None
    time: FloatArray | None = None
    dates: bool = False
    kind: str = PROTEIN
    paired: bool = False
    target_classes: list[list[str] | None] = field(default_factory=list)
    account: Account | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    def classes_of(self, column: int) -> list[str] | None:
        """Class names of a target, None for numbers."""
        return self.target_classes[column] if self.target_classes else self.classes

    def task_of(self, column: int) -> str:
        """ "regression" or "classification"."""
        if self.task != MIXED:
            return self.task
        return REGRESSION if self.classes_of(column) is None else CLASSIFICATION

    def given(self, entry: int) -> str:
        """The text of a sequence as it stands in the (first) row of the source."""
        if self.account is None:
            return self.sequences[entry]
        return self.account.given[self.rows[entry][0] - self.account.first_row]

    def scale_of(self, column: int) -> Scale:
        """What the numbers of a target are: their unit, and the logarithm that was taken."""
        known = self.summary.targets
        return known[column].scale if known else Scale("")

    def endpoint(self, column: int) -> AssayTable:
        """The same rows with one target alone; NaN where it was not measured."""
        if len(self.target_names) == 1:
            return self
        one, task = slice(column, column + 1), self.task_of(column)
        return replace(
            self,
            targets=self.targets[:, one],
            censor=self.censor[:, one],
            target_names=self.target_names[one],
            task=task,
            classes=self.classes_of(column),
            target_classes=[],
            n_replicates=self.n_replicates[:, one],
            replicate_sd=self.replicate_sd[one],
            summary=replace(self.summary, task=task, targets=self.summary.targets[one]),
        )

    def subset(self, index: npt.ArrayLike) -> AssayTable:
        """The sequences at `index` (integers or a boolean mask), in that order.

        `summary` stays that of the whole table.
        """
        chosen = np.arange(len(self))[np.asarray(index)]

        def pick(values: Sequence[Any]) -> list[Any]:
            return [values[i] for i in chosen]

        return replace(
            self,
            sequences=pick(self.sequences),
            targets=self.targets[chosen],
            censor=self.censor[chosen],
            rows=pick(self.rows),
            n_replicates=self.n_replicates[chosen],
            mutations=None if self.mutations is None else pick(self.mutations),
            substitutions=None if self.substitutions is None else pick(self.substitutions),
            split=None if self.split is None else self.split[chosen],
            split_columns={name: part[chosen] for name, part in self.split_columns.items()},
            groups=None if self.groups is None else self.groups[chosen],
            time=None if self.time is None else self.time[chosen],
        )
