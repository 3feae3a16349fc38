"""The fine-tuning loop over the engine's trainer: order, schedule, best epoch, exact resume."""

from moltide.training.checkpoint import CheckpointFile
from moltide.training.data import TrainingData
from moltide.training.interrupt import Interrupted, StopRequest, catch_signals
from moltide.training.loop import fit
from moltide.training.plan import FitPlan, epoch_batches, make_plan
from moltide.training.result import Epoch, FitResult
from moltide.training.settings import TrainSettings

__all__ = [
    "CheckpointFile",
    "Epoch",
    "FitPlan",
    "FitResult",
    "Interrupted",
    "StopRequest",
    "TrainSettings",
    "TrainingData",
    "catch_signals",
    "epoch_batches",
    "fit",
    "make_plan",
]
