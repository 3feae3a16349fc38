"""Which published model families there are, and the small interface each one's module offers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from moltide.errors import CheckpointError
from moltide.pretrained.files import Files
from moltide.pretrained.names import NameMap
from moltide.pretrained.reads import Reads
from moltide.pretrained.safe_tensors import StoredTensor
from moltide.tokenization.base import Tokenizer

# model_type in config.json -> the module that knows the family.
FAMILIES = {
    "esm": "moltide.pretrained.esm",
    "esmc": "moltide.pretrained.esmc",
    "molformer": "moltide.pretrained.molformer",
    "rinalmo": "moltide.pretrained.rinalmo",
    "rnafm": "moltide.pretrained.rnafm",
    "roberta": "moltide.pretrained.roberta",
    "unimol": "moltide.pretrained.unimol",
    "unimol2": "moltide.pretrained.unimol2",
}

# Types met in the wild that are near a family above: what to load in their place.
_NEAR_MISSES = {
    "nv_esm": "this is NVIDIA's TransformerEngine layout of ESM-2 (NVEsmForMaskedLM: fused and "
    "interleaved qkv, padded vocabulary); load the same model in the Transformers layout, "
    "for example facebook/esm2_t6_8M_UR50D",
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
    """A module of this package that knows one family of published models.

    What `reads_of` and the functions below it ask for is optional.
    """

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


# ---- what a family's module may have beside ---------------------------------------------------


def bare_weights() -> dict[str, dict[str, Any]]:
    """`BARE_WEIGHTS` of every family: files that were published without a config.json, and what
    that would say."""
    found: dict[str, dict[str, Any]] = {}
    for model_type in FAMILIES:
        found |= getattr(family_named(model_type), "BARE_WEIGHTS", {})
    return found


def reads_of(family: Family) -> Reads:
    """`READS`: what its tokenizers read; proteins by default."""
    reads: Reads = getattr(family, "READS", Reads())
    return reads


def layouts_of(family: Family) -> tuple[NameMap, ...]:
    """`NAMES`, and `OTHER_NAMES` that its checkpoints were published under too."""
    others: Mapping[str, NameMap] = getattr(family, "OTHER_NAMES", {})
    return (family.NAMES, *others.values())


def names_for(family: Family, architecture: str) -> NameMap:
    """The names that a published class writes: `OTHER_NAMES` has those that are not `NAMES`."""
    others: Mapping[str, NameMap] = getattr(family, "OTHER_NAMES", {})
    return others.get(architecture, family.NAMES)


def weights_of(family: Family, published: Mapping[str, Any]) -> tuple[str, ...]:
    """`WEIGHTS` or `weights(published)`: names of PyTorch files that its weights are published
    under."""
    named: Callable[..., tuple[str, ...]] | None = getattr(family, "weights", None)
    names: tuple[str, ...] = getattr(family, "WEIGHTS", ())
    return names if named is None else named(published)


def own_tokenizer(
    family: Family,
    files: Files,
    config: dict[str, Any],
    published: Mapping[str, Any],
    notes: list[str],
) -> Tokenizer | None:
    """`read_tokenizer(files, config, published, notes)` of a family that reads other files than
    text's; None if it does not."""
    read: Callable[..., Tokenizer] | None = getattr(family, "read_tokenizer", None)
    return None if read is None else read(files, config, published, notes)


def folded(
    family: Family,
    published: Mapping[str, Any],
    tensors: Mapping[str, StoredTensor],
    kept: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """`fold(published, tensors, kept)`: canonical parameters that are not as they are stored; what
    saving needs of them goes into `kept`."""
    fold: Callable[..., dict[str, np.ndarray]] | None = getattr(family, "fold", None)
    return {} if fold is None else fold(published, tensors, kept)


def unfolded(
    family: Family,
    config: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
    architecture: str,
) -> dict[str, np.ndarray]:
    """`unfold(config, kept, read, architecture)`: published tensors, by full name, that are no
    parameter or not as `read` gives them."""
    unfold: Callable[..., dict[str, np.ndarray]] | None = getattr(family, "unfold", None)
    return {} if unfold is None else unfold(config, kept, read, architecture)


def exact_tensors(family: Family, config: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """`exact_tensors(config, prefix)`: published tensors that are part of the engine's config, such
    as rotary frequencies; stored as they are, whatever type the weights are rounded to."""
    exact: Callable[..., dict[str, np.ndarray]] | None = getattr(family, "exact_tensors", None)
    return {} if exact is None else exact(config, prefix)
