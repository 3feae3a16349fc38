"""A published checkpoint, checked in full before any weight is read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moltide.errors import CheckpointError
from moltide.pretrained.families import (
    Described,
    Family,
    bare_weights,
    family_of,
    folded,
    layouts_of,
    weights_of,
)
from moltide.pretrained.files import ADAPTER_CONFIG, CONFIG, Files, stored_tensors
from moltide.pretrained.json_files import read_json_object
from moltide.pretrained.names import Recognised, recognise
from moltide.pretrained.safe_tensors import StoredTensor
from moltide.pretrained.shapes import parameter_shapes

_LISTED = 4
_MOST_KEPT = 10_000_000
_POOLER = "the pooler is not used: embeddings are pooled by embed(pool=...)"


@dataclass(frozen=True)
class Checkpoint:
    """`config` and `head` are the engine's; `published` is config.json as it stood; `tensors` maps
    every canonical parameter to where it lies, but for those that `computed` has the values of;
    `kept` are published tensors without a place in the engine, by name without prefix, for saving;
    `notes` are facts worth a line to the user."""

    family: Family
    config: dict[str, Any]
    head: dict[str, Any] | None
    published: dict[str, Any]
    tensors: dict[str, StoredTensor]
    notes: list[str]
    where: str
    computed: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Canonical name and float32 values, one parameter in memory at a time.

        Raises:
            CheckpointError: a weight is NaN or infinite.
        """
        yield from self.computed.items()
        for name, stored in self.tensors.items():
            yield name, stored.read_finite()

    def loose(self) -> Iterator[tuple[str, np.ndarray]]:
        """`arrays` of those parameters that `by_file` has no place for."""
        yield from self.computed.items()
        for name, stored in self.tensors.items():
            if stored.strides is not None:
                yield name, stored.read_finite()

    def by_file(self) -> dict[str, list[tuple[str, str, str, int]]]:
        """File -> (canonical name, name there, dtype, first byte) of each tensor that lies there
        row by row, in file order."""
        found: dict[str, list[tuple[str, str, str, int]]] = {}
        for name, stored in sorted(self.tensors.items(), key=lambda item: item[1].start):
            if stored.strides is not None:
                continue
            entry = (name, stored.name, stored.dtype, stored.start)
            found.setdefault(str(stored.path), []).append(entry)
        return found


def read_checkpoint(files: Files) -> Checkpoint:
    """Read config.json and the headers of the weights, and check one against the other.

    Raises:
        CheckpointError: another model type, corrupt files, tensors missing or of another shape
            than the config says. Nothing larger than a header is in memory by then.
    """
    published, where = _published_config(files)
    family = family_of(published, where)
    described = family.config_from_published(published, where)
    stored = stored_tensors(files, weights_of(family, published))
    found = _recognised(stored, family, files.where)
    tensors = _apart(found, stored, files.where)
    _check_layers(described, found, files.where)
    _settle_groups(described, tensors, published, files.where)
    _settle_rope(described, [stored[name] for name in found.rope_frequencies])
    head = family.head_config(_shapes(tensors), described.config)
    kept = {name: _small(stored[original]) for name, original in found.kept.items()}
    computed = folded(family, published, tensors, kept)
    _check_against_config(described, head, tensors, computed, files.where)
    _report_leftovers(described, family, found, files.where)
    return Checkpoint(
        family,
        described.config,
        head,
        published,
        {name: tensor for name, tensor in tensors.items() if name not in computed},
        described.notes,
        files.where,
        computed,
        kept,
    )


def _published_config(files: Files) -> tuple[dict[str, Any], str]:
    """config.json and where it lies; where it is missing or empty, what files known by their names
    were published as."""
    path = files.get(CONFIG)
    published = {} if path is None else read_json_object(path)
    if published:
        return published, str(path)
    for name, config in bare_weights().items():
        if files.get(name) is not None:
            return dict(config), f"{files.where}: {name}"
    if path is None and files.has(ADAPTER_CONFIG):
        raise CheckpointError(
            f"{files.where}: this is an adapter ({ADAPTER_CONFIG}), not a model; load its base "
            "model and then Encoder.load_adapter"
        )
    if path is None:
        raise CheckpointError(f"{files.where}: no {CONFIG}")
    return published, str(path)


def _small(stored: StoredTensor) -> np.ndarray:
    """The values of a tensor that is written back as it is: tables and biases."""
    if stored.elements > _MOST_KEPT:
        raise CheckpointError(
            f"{stored.path}: tensor {stored.name!r} has shape {list(stored.shape)}; at most "
            f"{_MOST_KEPT:,} values are expected of it"
        )
    return stored.read_finite()


def _recognised(stored: dict[str, StoredTensor], family: Family, where: str) -> Recognised:
    """The names sorted by whichever of the family's layouts knows most of them."""
    sorted_by = [recognise(stored, names, where) for names in layouts_of(family)]
    return max(sorted_by, key=lambda found: len(found.names))


def _apart(
    found: Recognised, stored: dict[str, StoredTensor], where: str
) -> dict[str, StoredTensor]:
    """Canonical name -> tensor; those that hold the rows of several, taken apart."""
    tensors = {
        name: stored[original]
        for name, original in found.names.items()
        if original not in found.joined
    }
    for original, parts in found.joined.items():
        whole = stored[original]
        rows = whole.shape[0] if whole.shape else 0
        if rows % len(parts) or not rows:
            raise CheckpointError(
                f"{whole.path}: tensor {original!r} has shape {list(whole.shape)}; expected "
                f"{len(parts)} matrices of the same size, one above the other"
            )
        each = rows // len(parts)
        for index, part in enumerate(parts):
            tensors[part] = whole.part(index * each, each, original)
    return tensors


def _shapes(tensors: dict[str, StoredTensor]) -> dict[str, tuple[int, ...]]:
    return {name: stored.shape for name, stored in tensors.items()}


def _some(names: list[str]) -> str:
    """A few names and how many there are in all."""
    listed = ", ".join(names[:_LISTED])
    return listed if len(names) <= _LISTED else f"{listed}, ... ({len(names)} in all)"


def _check_layers(described: Described, found: Recognised, where: str) -> None:
    """Before names for every layer are made up: a config may claim a billion of them."""
    seen = {int(name.split(".")[1]) for name in found.names if name.startswith("layers.")}
    layers = described.config["layers"]
    in_file = max(seen) + 1 if seen else 0
    if in_file != layers:
        raise CheckpointError(
            f"{where}: config.json says {layers} layers, the weights hold {in_file}"
        )


def _settle_groups(
    described: Described,
    tensors: dict[str, StoredTensor],
    published: dict[str, Any],
    where: str,
) -> None:
    """Decide which optional parts the checkpoint has: masked-LM head, contact head, tied decoder,
    position table; changes `described.config` and drops tensors that carry nothing."""
    config = described.config
    config["lm_head"] |= any(name.startswith("lm_head.") for name in tensors)
    own = published.get("moltide")
    stand_in = isinstance(own, dict) and own.get("contact_head") is False
    if stand_in or not any(name.startswith("contact.") for name in tensors):
        tensors.pop("contact.weight", None)
        tensors.pop("contact.bias", None)
        # Our own say so themselves: nobody misses what their checkpoints never had.
        if config["contact_head"] and not stand_in:
            described.notes.append("no contact head: contacts() is not available")
        config["contact_head"] = False
    if config["position"] != "learned":
        tensors.pop("embed.positions.weight", None)
    if config["lm_head"]:
        _settle_tied_decoder(described, tensors)
    if "head" in described.promised and "head.out.weight" not in tensors:
        raise CheckpointError(
            f"{where}: config.json says {published.get('architectures')}, "
            "the weights hold no classifier.*.weight"
        )
    # A pooler is the first layer of some heads, and there without any head too.
    if "head.out.weight" not in tensors:
        poolers = [n for n, stored in tensors.items() if "pooler" in stored.name]
        for name in poolers:
            del tensors[name]
        described.notes += [_POOLER] if poolers else []


def _settle_tied_decoder(described: Described, tensors: dict[str, StoredTensor]) -> None:
    """As Transformers 5 does: two equal copies are one weight, two different ones stay two."""
    decoder = tensors.get("lm_head.decoder.weight")
    embedding = tensors.get("embed.tokens.weight")
    if not described.config["tie_lm_head"] or decoder is None:
        return
    if embedding is None:
        tensors["embed.tokens.weight"] = tensors.pop("lm_head.decoder.weight")
    elif decoder.shape != embedding.shape or np.array_equal(
        decoder.read(), embedding.read(), equal_nan=True
    ):
        del tensors["lm_head.decoder.weight"]
    else:
        described.config["tie_lm_head"] = False
        described.notes.append(
            "config.json ties the masked-LM decoder to the embedding, the weights differ: untied"
        )


def _settle_rope(described: Described, stored: list[StoredTensor]) -> None:
    """Keep stored rotary frequencies that differ from those of the config: models trained in half
    precision were published with rounded ones, and mean them.

    Raises:
        CheckpointError: another number of them than head_dim / 2, or none that are finite.
    """
    config = described.config
    if config["position"] != "rotary" or not stored:
        return
    first = stored[0]
    half = config["head_dim"] // 2
    values = first.read()
    if first.shape != (half,) or not np.isfinite(values).all():
        raise CheckpointError(
            f"{first.path}: tensor {first.name!r} holds {values.tolist()[:4]}... of shape "
            f"{list(first.shape)}; expected {half} finite numbers"
        )
    exponents = np.arange(0, config["head_dim"], 2, dtype=np.float32) / config["head_dim"]
    computed = 1.0 / config["rope_base"] ** exponents.astype(np.float64)
    if not np.allclose(values, computed, rtol=1e-6, atol=0.0):
        config["rope_inv_freq"] = [float(value) for value in values]
        worst = float(np.abs(values / computed - 1).max())
        described.notes.append(
            f"rotary frequencies are those stored with the weights (up to {worst:.1e} from "
            f"rope_theta {config['rope_base']:g}'s)"
        )


def _check_against_config(
    described: Described,
    head: dict[str, Any] | None,
    tensors: dict[str, StoredTensor],
    computed: dict[str, np.ndarray],
    where: str,
) -> None:
    """Every parameter of the config is there, with its shape, and no known one is left over."""
    expected = parameter_shapes(described.config, head)
    for name, values in computed.items():
        if values.shape != expected.get(name, values.shape):
            raise CheckpointError(
                f"{where}: {name} has shape {list(values.shape)}, config.json says "
                f"{list(expected[name])}"
            )
    missing = sorted(name for name in expected if name not in tensors and name not in computed)
    if missing:
        raise CheckpointError(
            f"{where}: {len(missing)} of {len(expected)} tensors are missing: {_some(missing)}"
        )
    for name, shape in expected.items():
        if name not in tensors:
            continue
        stored = tensors[name]
        if stored.shape != shape:
            raise CheckpointError(
                f"{stored.path}: tensor {stored.name!r} has shape {list(stored.shape)}, "
                f"config.json says {list(shape)}"
            )
        if stored.dtype not in ("F32", "F16", "F64", "BF16"):
            raise CheckpointError(
                f"{stored.path}: tensor {stored.name!r} has dtype {stored.dtype}; "
                "allowed: F32, BF16, F16, F64"
            )
    extra = sorted(tensors[name].name for name in tensors if name not in expected)
    if extra:
        raise CheckpointError(
            f"{where}: config.json contradicts the weights: it leaves no place for {_some(extra)}"
        )


def _report_leftovers(described: Described, family: Family, found: Recognised, where: str) -> None:
    if any("pooler" in name for name in found.harmless):
        described.notes.append(_POOLER)
    if found.unexpected:
        warnings.warn(
            f"{where}: tensors with no place in this model were left out: "
            f"{_some(found.unexpected)}",
            stacklevel=2,
        )
