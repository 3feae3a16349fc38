"""The backbone a model was trained on: by name and by the hash of its weights."""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from moltide.encoder import Encoder


def open_backbone(backbone: Any, device: str = "auto", dtype: str = "auto") -> Encoder:
    """An encoder that may be changed: loaded by name, or a copy of an `Encoder`.

    Raises:
        CheckpointError: no such model.
        ConfigError: neither a name nor an Encoder, or an Encoder that has adapters.
    """
    from moltide.encoder import Encoder

    if isinstance(backbone, Encoder):
        if backbone.adapters:
            raise ConfigError(
                f"the backbone has adapters ({', '.join(backbone.adapters)}); merge or remove them"
            )
        return copy.deepcopy(backbone)
    if not isinstance(backbone, str | os.PathLike):
        raise ConfigError(
            f"backbone is {type(backbone).__name__}; allowed: a name, folder, Hub id, Encoder"
        )
    from moltide.pretrained import load

    return load(backbone, device, dtype)


def weights_hash(encoder: Encoder) -> str:
    """SHA-256 over names and float32 values of the backbone's parameters."""
    digest = hashlib.sha256()
    for name, _ in sorted(encoder.model.parameters()):
        if not name.startswith(("head.", "adapters.")):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(encoder.model.get_parameter(name)).data)
    return digest.hexdigest()


def backbone_reference(encoder: Encoder) -> dict[str, Any]:
    """{"name", "sha256", "dtype", ...}: enough to find the backbone again and know it is the same;
    a folder is named by its absolute path."""
    name = encoder.name
    if name and Path(name).expanduser().is_dir():
        name = str(Path(name).expanduser().resolve())
    config = encoder.config
    return {
        "name": name,
        "sha256": weights_hash(encoder),
        "dtype": encoder.dtype,
        "layers": config["layers"],
        "width": config["width"],
    }


def reload_backbone(reference: dict[str, Any], where: str, device: str = "auto") -> Encoder:
    """The backbone of `backbone_reference`, its weights checked.

    Raises:
        CheckpointError: it is not found, or its weights are others.
    """
    from moltide.pretrained import load

    try:
        encoder = load(reference["name"], device, reference["dtype"])
    except CheckpointError as error:
        raise CheckpointError(
            f"{where}: the backbone {reference['name']!r} this model was fine-tuned from cannot "
            f"be loaded: {error}"
        ) from error
    found = weights_hash(encoder)
    if found != reference["sha256"]:
        raise CheckpointError(
            f"{where}: the backbone {reference['name']!r} is not the one this model was "
            f"fine-tuned from (weights {found[:12]}..., expected {reference['sha256'][:12]}...)"
        )
    return encoder
