"""Pretraining of a masked language model, from sequence files to a published checkpoint."""

from moltide.pretraining.options import PretrainOptions
from moltide.pretraining.run import RunSummary, pretrain

__all__ = ["PretrainOptions", "RunSummary", "pretrain"]
