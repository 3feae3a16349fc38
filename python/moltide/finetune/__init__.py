"""`moltide finetune`: an assay table becomes a split, baselines, a fine-tuned model, a report."""

from moltide.finetune.options import FinetuneOptions
from moltide.finetune.run import RunSummary, finetune
from moltide.finetune.voice import SilentVoice, Voice

__all__ = ["FinetuneOptions", "RunSummary", "SilentVoice", "Voice", "finetune"]
