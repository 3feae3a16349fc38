"""What can be asked of a fine-tuning run."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

from moltide.chem.standardise import ChemistryOptions
from moltide.errors import ConfigError
from moltide.training.arithmetic import training_dtype
from moltide.training.settings import TrainSettings

# Options of read_assay that a run passes on.
TABLE_OPTIONS = (
    "sequence",
    "heavy",
    "light",
    "mutations",
    "wildtype",
    "numbering",
    "target",
    "relation",
    "unit",
    "transform",
    "time",
    "task",
    "replicates",
    "on_conflict",
    "stops",
    "on_bad_row",
    "kind",
    "salts",
    "charges",
    "stereo",
    "tautomers",
    "fasta",
    "id",
    "sheet",
)


@dataclass(frozen=True)
class FinetuneOptions:
    """Attributes:
    assay: the table. out: the folder RUN/.
    backbone: a bundled name, a folder or a Hub id; None: the bundled one of what the table holds,
        see `pretrained.locate.default_backbone`. device: see `moltide.load`. dtype: see
        `training_dtype`.
    split: "auto", a method or a column; see `splits.make_split`.
    table: options of `read_assay` (names in `TABLE_OPTIONS`).
    settings: of training; `max_minutes` is for the whole run here.
    learning_curve: also train on parts of the training rows.
    compare_single: of several targets, also train on each alone, and say which gain by company.
    thresholds: what `moltide predict` lights by, see `moltide.panel.read_thresholds`; it is checked
        against the targets and kept with the model.
    report: also write report.html.
    dry_run: say what would be done, and write nothing.
    overwrite: start again where RUN/ holds another run.
    """

    assay: str | os.PathLike[str]
    out: str | os.PathLike[str]
    backbone: str | os.PathLike[str] | None = None
    split: str = "auto"
    table: dict[str, Any] = field(default_factory=dict)
    settings: TrainSettings = field(default_factory=TrainSettings)
    device: str = "auto"
    dtype: str = "auto"
    learning_curve: bool = True
    compare_single: bool = False
    thresholds: str | os.PathLike[str] | None = None
    report: bool = True
    dry_run: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what is wrong before anything is read.

        Raises:
            ConfigError: a setting outside what is allowed, a dtype that does not train, or an
                unknown table option.
        """
        unknown = sorted(set(self.table) - set(TABLE_OPTIONS))
        if unknown:
            allowed = ", ".join(TABLE_OPTIONS)
            raise ConfigError(f"unknown table option {unknown[0]!r}; allowed: {allowed}")
        training_dtype(self.dtype)
        self.settings.check()

    def identity(self) -> dict[str, Any]:
        """What decides the result beside data and backbone, as plain JSON types."""
        named = {
            name: str(value) if isinstance(value, os.PathLike) else value
            for name, value in sorted(self.table.items())
            if value is not None
        }
        asked: dict[str, Any] = {}
        if self.compare_single:
            asked["compare_single"] = True
        if self.thresholds is not None:
            asked["thresholds"] = str(self.thresholds)
        return {
            **asked,
            "backbone": str(self.backbone),
            "split": self.split,
            "table": named,
            "dtype": training_dtype(self.dtype),
            "learning_curve": self.learning_curve,
            "settings": self.settings.to_dict(),
        }

    def read_options(self) -> dict[str, Any]:
        """Keyword arguments of `read_assay`."""
        options = {name: value for name, value in self.table.items() if value is not None}
        if self.split != "auto":
            options["split"] = self.split
        return options

    def chemistry(self) -> ChemistryOptions:
        """How molecules of the table are standardised."""
        names = [one.name for one in dataclasses.fields(ChemistryOptions)]
        given = {name: self.table[name] for name in names if self.table.get(name) is not None}
        return ChemistryOptions(**given)

    def with_settings(self, settings: TrainSettings) -> FinetuneOptions:
        """The same options with other training settings."""
        return dataclasses.replace(self, settings=settings)
