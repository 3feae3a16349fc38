"""The five baselines that stand beside every fine-tuned model."""

from __future__ import annotations

from moltide.baselines.fit import fit_baselines
from moltide.baselines.limits import TimeLimit
from moltide.baselines.result import BASELINE_NAMES, BaselineResult

__all__ = ["BASELINE_NAMES", "BaselineResult", "TimeLimit", "fit_baselines"]
