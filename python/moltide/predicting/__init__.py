"""A file of sequences to a file of predictions, at flat memory, and resumed exactly."""

from moltide.predicting.columns import Columns
from moltide.predicting.partial import Partial, identity_of
from moltide.predicting.run import Outcome, predict_file

__all__ = ["Columns", "Outcome", "Partial", "identity_of", "predict_file"]
