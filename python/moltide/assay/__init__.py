"""Assay tables: columns, sequences, mutations, bounds, replicates, and a full account."""

from moltide.assay.mutations import (
    Mutation,
    apply_mutations,
    diff,
    format_mutations,
    parse_mutations,
)
from moltide.assay.read import read_assay, read_frame
from moltide.assay.summary import DataSummary, TargetSummary
from moltide.assay.table import AssayTable

__all__ = [
    "AssayTable",
    "DataSummary",
    "Mutation",
    "TargetSummary",
    "apply_mutations",
    "diff",
    "format_mutations",
    "parse_mutations",
    "read_assay",
    "read_frame",
]
