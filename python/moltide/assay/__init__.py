"""Assay tables: columns, sequences, mutations, bounds, replicates, and a full account."""

from typing import TYPE_CHECKING

from moltide.lazy import importing

if TYPE_CHECKING:
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

# Sequences are read with parts of this package: they need not wait for all of it.
__getattr__ = importing(
    __name__,
    {
        "AssayTable": "moltide.assay.table",
        "DataSummary": "moltide.assay.summary",
        "TargetSummary": "moltide.assay.summary",
        "read_assay": "moltide.assay.read",
        "read_frame": "moltide.assay.read",
        **dict.fromkeys(
            ("Mutation", "apply_mutations", "diff", "format_mutations", "parse_mutations"),
            "moltide.assay.mutations",
        ),
    },
)
