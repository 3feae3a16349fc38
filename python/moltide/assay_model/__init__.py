"""A fitted assay model: encoder, adapter, head, target scaling, uncertainty, domain; its files."""

from moltide.assay_model.fitting import fit_assay_model
from moltide.assay_model.model import AssayModel, Prediction
from moltide.assay_model.rows import Rows
from moltide.assay_model.spec import ModelSpec

__all__ = ["AssayModel", "ModelSpec", "Prediction", "Rows", "fit_assay_model"]
