"""What is predicted: numbers, classes, or some of each."""

from __future__ import annotations

REGRESSION, CLASSIFICATION = "regression", "classification"
#: Of a table or model whose targets are of both kinds.
MIXED = "mixed"
