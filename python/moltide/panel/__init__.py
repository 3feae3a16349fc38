"""The panel: what the predictions of several endpoints say together, by thresholds or without."""

from moltide.panel.lights import LIGHTS, PanelView, Verdicts
from moltide.panel.tally import RankedRow, Tally
from moltide.panel.thresholds import Threshold, matched, read_thresholds

__all__ = [
    "LIGHTS",
    "PanelView",
    "RankedRow",
    "Tally",
    "Threshold",
    "Verdicts",
    "matched",
    "read_thresholds",
]
