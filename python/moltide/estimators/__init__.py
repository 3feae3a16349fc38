"""scikit-learn estimators over fine-tuned encoders."""

from moltide.estimators.classifier import AssayClassifier
from moltide.estimators.loading import load_assay_model
from moltide.estimators.panel import AssayPanel
from moltide.estimators.regressor import AssayRegressor

__all__ = ["AssayClassifier", "AssayPanel", "AssayRegressor", "load_assay_model"]
