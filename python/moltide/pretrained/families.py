"""Which published model families there are, and the small interface each one's module offers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from moltide.errors import CheckpointError
from moltide.pretrained.names import NameMap

# model_type in config.json -> the module that knows the family.
FAMILIES = {
    "esm": "moltide.pretrained.esm",
    "molformer": "moltide.pretrained.molformer",
}

# Types met in the wild that are near a family above: what to load in their place.
_NEAR_MISSES = {
    "nv_esm": "this is NVIDIA's TransformerEngine layout of ESM-2 (NVEsmForMaskedLM: fused and "
    "interleaved qkv, padded vocabulary); load the same model in the Transformers layout, "
    "for example facebook/esm2_t6_8M_UR50D",
    "esmc": "ESM C is not read by this version",
}


@dataclass
class Described:
    """What a family makes of a published config.json, before any tensor is looked at.

    `config` is the engine's EncoderConfig as a dict; `promised` names the groups of tensors
    ("lm_head", "head") that the config's architecture says are there; `notes` are for the user.
    """

    config: dict[str, Any]
    promised: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


class Family(Protocol):
    """A module of this package that knows one family of published models."""

    NAMES: NameMap

    def config_from_published(self, published: Mapping[str, Any], where: str) -> Described:
        """The engine's config out of a config.json; refuses what the engine has no answer to."""
        ...

    def published_from_config(
        self,
        config: Mapping[str, Any],
        head: Mapping[str, Any] | None,
        source: Mapping[str, Any],
        architecture: str,
    ) -> dict[str, Any]:
        """A config.json for `config`, keeping what `source` (the one it came from) also said."""
        ...

    def architecture_for(
        self, config: Mapping[str, Any], head: Mapping[str, Any] | None, wanted: str | None
    ) -> str:
        """Name of the published class that holds these weights; `wanted` asks for one."""
        ...

    def prefix_for(self, architecture: str) -> str:
        """What that class writes before the encoder's tensor names."""
        ...

    def extra_tensors(self, config: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
        """Published tensors that are part of the engine's config, such as rotary frequencies."""
        ...

    def layout_of(self, architecture: str) -> str | None:
        """The head layout (a key of `NAMES.heads`) of that class; None: the bare encoder."""
        ...

    def head_layout(self, config: Mapping[str, Any], head: Mapping[str, Any] | None) -> str | None:
        """The head layout that can hold `head`, or None."""
        ...

    def head_config(
        self, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The engine's head config, from the canonical head tensors that a checkpoint holds."""
        ...


def family_of(published: Mapping[str, Any], where: str) -> Family:
    """The family of a config.json.

    Raises:
        CheckpointError: no model_type, or one that this version does not read.
    """
    model_type = published.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return family_named(model_type)
    allowed = ", ".join(sorted(FAMILIES))
    if model_type is None and "format" in published:
        raise CheckpointError(
            f"{where}: this is no encoder (format {published['format']!r}); a folder written by "
            "moltide finetune is read by moltide.load_assay_model"
        )
    if model_type is None:
        raise CheckpointError(f"{where}: no model_type; allowed: {allowed}")
    hint = _NEAR_MISSES.get(str(model_type))
    raise CheckpointError(
        f"{where}: model_type is {model_type!r}; allowed: {allowed}" + (f"; {hint}" if hint else "")
    )


def family_named(model_type: str) -> Family:
    """The module of one of `FAMILIES`."""
    return cast(Family, importlib.import_module(FAMILIES[model_type]))
