"""Saved models as estimators again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moltide.errors import CheckpointError
from moltide.tasks import MIXED

if TYPE_CHECKING:
    from moltide.estimators.classifier import AssayClassifier
    from moltide.estimators.panel import AssayPanel
    from moltide.estimators.regressor import AssayRegressor


def load_assay_model(
    folder: str | os.PathLike[str], device: str = "auto"
) -> AssayRegressor | AssayClassifier | AssayPanel:
    """Read a fine-tuned model: a folder of `moltide finetune --out` or of an estimator's `save`.

    Returns:
        The fitted estimator, `AssayRegressor` or `AssayClassifier`; of a table with numbers and
        classes an `AssayPanel`.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: no fine-tuned model, an unfinished run, damaged files, or a backbone that
            is gone or has other weights.
    """
    from moltide.assay_model.files import load, read_config
    from moltide.estimators.classifier import AssayClassifier
    from moltide.estimators.panel import AssayPanel
    from moltide.estimators.regressor import AssayRegressor

    document = read_config(Path(folder))
    model = load(folder, device)
    if model.spec.task == MIXED:
        return AssayPanel(model)
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
        several = len(model.spec.target_names) > 1
        own = [model.spec.classes_of(j) for j in range(len(model.spec.target_names))]
        listed = fitted.get("classes_", own if several else own[0])
        fitted["classes_"] = [np.array(one) for one in listed] if several else np.array(listed)
    estimator._adopt(model, fitted)
    return estimator
