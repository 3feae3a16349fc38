"""A run that is ready to begin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.assay_model import ModelSpec
    from moltide.chem.cliffs import TargetCliffs
    from moltide.encoder import Encoder
    from moltide.finetune.budget import Budget
    from moltide.finetune.folder import RunFolder
    from moltide.finetune.options import FinetuneOptions
    from moltide.finetune.voice import Voice
    from moltide.panel import Threshold
    from moltide.splits import Split
    from moltide.training import TrainSettings


@dataclass(kw_only=True)
class PlannedRun:
    """Table, split, backbone and folder of a run. `settings` are resolved; `thresholds`
    are kept with the model; `cut_short` says what was left out to end in time, `remarks` which
    rows (numbers in the table) the backbone reads otherwise than they say, by the reason; `cliffs`
    are the activity cliffs of molecules."""

    options: FinetuneOptions
    settings: TrainSettings
    table: AssayTable
    split: Split
    spec: ModelSpec
    encoder: Encoder
    folder: RunFolder
    voice: Voice
    budget: Budget
    thresholds: list[Threshold] = field(default_factory=list)
    cut_short: list[str] = field(default_factory=list)
    remarks: dict[str, list[int]] = field(default_factory=dict)
    cliffs: list[TargetCliffs] = field(default_factory=list)

    @property
    def split_name(self) -> str:
        """The method, or the column that holds the split."""
        if self.split.method not in ("column", "groups"):
            return self.split.method
        named = self.table.split_name if self.options.split == "auto" else self.options.split
        return str(named)
