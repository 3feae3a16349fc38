"""Saved models as estimators again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moltide.errors import CheckpointError

if TYPE_CHECKING:
    from moltide.estimators.classifier import AssayClassifier
    from moltide.estimators.regressor import AssayRegressor


def load_assay_model(
    folder: str | os.PathLike[str], device: str = "auto"
) -> AssayRegressor | AssayClassifier:
    """Read a fine-tuned model: a folder of `moltide finetune --out` or of an estimator's `save`.

    Returns:
        The fitted estimator, `AssayRegressor` or `AssayClassifier`.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: no fine-tuned model, an unfinished run, damaged files, or a backbone that
            is gone or has other weights.
    """
    from moltide.assay_model.files import load, read_config
    from moltide.estimators.classifier import AssayClassifier
    from moltide.estimators.regressor import AssayRegressor

    document = read_config(Path(folder))
    model = load(folder, device)
    kind = AssayRegressor if model.spec.task == "regression" else AssayClassifier
    saved = document.get("estimator", {})
    parameters = dict(saved.get("parameters", {}))
    if not parameters:
        settings = dict(document.get("settings", {}))
        known = kind().get_params()
        parameters = {name: value for name, value in settings.items() if name in known}
        parameters["level"] = model.spec.level
    if "targets" in parameters:
        parameters["targets"] = tuple(parameters["targets"])
    parameters["backbone"] = parameters.get("backbone") or model.backbone["name"]
    try:
        estimator = kind(**parameters)
    except TypeError as error:
        raise CheckpointError(f"{folder}: unknown parameter in config.json ({error})") from error
    fitted = dict(saved.get("fitted", {}))
    estimator._flat_ = bool(fitted.pop("flat", len(model.spec.target_names) == 1))
    fitted.setdefault("n_targets_", len(model.spec.target_names))
    if model.spec.task == "classification":
        fitted["classes_"] = np.array(fitted.get("classes_", model.spec.classes))
    estimator._adopt(model, fitted)
    return estimator
