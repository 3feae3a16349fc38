"""The backbone a model was trained on: by name and by the hash of its weights."""

from __future__ import annotations

import copy
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.errors import CheckpointError, ConfigError
from moltide.training.arithmetic import training_dtype

if TYPE_CHECKING:
    from moltide.encoder import Encoder

BACKBONE = "backbone"


def open_backbone(backbone: Any, device: str = "auto", dtype: str = "auto") -> Encoder:
    """An encoder that may be changed: loaded by name, or a copy of an `Encoder`.

    dtype: see `training_dtype`; an `Encoder` keeps its own.

    Raises:
        CheckpointError: no such model.
        ConfigError: neither a name nor an Encoder, an Encoder that has adapters, or int8, which
            has no backward pass.
    """
    from moltide.encoder import Encoder

    dtype = training_dtype(dtype)
    if isinstance(backbone, Encoder):
        training_dtype(backbone.dtype)
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


def reload_backbone(
    reference: dict[str, Any], where: Path, device: str = "auto", copied: Path | None = None
) -> Encoder:
    """The backbone of `backbone_reference`, its weights checked.

    Args:
        where: folder of the model. copied: the copy of the backbone in it, if there is one.

    Raises:
        CheckpointError: it is not found, or its weights are others; the message says what to do.
    """
    from moltide.pretrained import load

    name = reference["name"] if copied is None else str(copied)
    try:
        encoder = load(name, device, reference["dtype"])
    except CheckpointError as error:
        raise CheckpointError(
            f"{where}: the backbone {name!r} this model was fine-tuned from cannot be loaded: "
            f"{error}; {_way_out(name, where, copied)}"
        ) from error
    found = weights_hash(encoder)
    if found != reference["sha256"]:
        raise CheckpointError(
            f"{where}: the backbone {name!r} is not the one this model was fine-tuned from "
            f"(weights {found[:12]}..., expected {reference['sha256'][:12]}...); "
            f"{_way_out(name, where, copied)}"
        )
    return encoder


def _way_out(name: str, where: Path, copied: Path | None) -> str:
    """What to do about a backbone that is gone or changed."""
    from moltide.pretrained.locate import bundled_names

    if copied is not None:
        return "put the files back that were written with the model"
    place = where / BACKBONE
    if name in bundled_names():
        return (
            "this version of moltide bundles other weights: copy bundled/"
            f"{name} of the version that made the model to {place}"
        )
    if os.path.isabs(name):
        return f"put the earlier weights back into that folder, or copy them to {place}"
    return (
        "if the repository has changed on the Hub, fetch the revision of then: "
        f"hf download {name} --revision COMMIT --local-dir {place}"
    )
