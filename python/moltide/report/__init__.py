"""`report.html`: one offline file with verdict, data, split, figures, misses and settings."""

from __future__ import annotations

from moltide.report.data import (
    CurveSeries,
    LearningCurve,
    MethodRow,
    ReportData,
    TargetReport,
    TrainingCurve,
    facts_from_lines,
    measure_methods,
    noise_ceiling,
)
from moltide.report.heatmap import write_heatmap
from moltide.report.render import render_report, write_report

__all__ = [
    "CurveSeries",
    "LearningCurve",
    "MethodRow",
    "ReportData",
    "TargetReport",
    "TrainingCurve",
    "facts_from_lines",
    "measure_methods",
    "noise_ceiling",
    "render_report",
    "write_heatmap",
    "write_report",
]
