"""Adapters over an Encoder: adding, loading, saving, merging, and heads that come with them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.conformers.places import coordinates_of
from moltide.errors import CheckpointError, ConfigError
from moltide.options import option
from moltide.packed import Adapter, PackedModel
from moltide.peft_format import (
    AdapterSettings,
    StoredAdapter,
    engine_targets,
    read_adapter,
    write_adapter,
)
from moltide.pretrained.families import Family, family_named

if TYPE_CHECKING:
    from moltide.sequences import ProgressCallback


def _family(encoder: PackedModel) -> Family:
    return family_named(encoder._family)


def _check_new_name(encoder: PackedModel, name: str) -> None:
    if not name or "." in name:
        raise ConfigError(f"adapter name {name!r}; allowed: text without a dot")
    if name in encoder.adapters:
        raise ConfigError(f"there is an adapter {name!r} already; loaded: {encoder.adapters}")


def add(
    encoder: PackedModel,
    name: str,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Sequence[str],
    seed: int,
) -> None:
    """See `Encoder.add_adapter`."""
    _check_new_name(encoder, name)
    allowed = engine_targets(_family(encoder).NAMES)
    for target in targets:
        if target not in allowed:
            raise ConfigError(f"target {target!r}; allowed: {', '.join(allowed)}")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= encoder.width:
        raise ConfigError(
            f"{option('rank')} is {rank!r}; allowed: an integer from 1 to {encoder.width}"
        )
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout!r}; allowed: 0 up to but not 1")
    encoder.model.add_adapter(name, rank, alpha, dropout, list(targets), seed)
    encoder._adapters[name] = AdapterSettings(
        rank, float(alpha), float(dropout), tuple(targets), base=encoder.name
    )


def load_adapter(
    encoder: PackedModel,
    folder: str | os.PathLike[str],
    name: str = "default",
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool | None = None,
) -> None:
    """Lay an adapter in PEFT's format over `encoder`.

    A classifier saved with the adapter (modules_to_save) becomes the encoder's head if that has
    none, else the adapter's own head, which answers `predict(..., adapter=name)`.

    Args:
        folder: a folder, or a Hub id (the other arguments are as in `moltide.load`).
        name: what it is called from now on; the names of all adapters differ.

    Raises:
        CheckpointError: not a LoRA adapter of this model; see `peft_format.read_adapter`.
        ConfigError: the name is taken.
    """
    from moltide.pretrained.locate import locate

    _check_new_name(encoder, name)
    files = locate(
        folder,
        revision=revision,
        cache_dir=cache_dir,
        token=token,
        local_files_only=local_files_only,
    )
    family = _family(encoder)
    config = encoder.config
    stored = read_adapter(files, family.NAMES, config["layers"], config["width"])
    _check_shapes(encoder, stored, files.where)
    head = _head_of(encoder, stored, files.where)
    install(encoder, name, stored)
    if head is not None and encoder.head is None:
        _use_head(encoder, head, stored.head)
    elif head is not None:
        encoder._adapter_heads[name] = (head, stored.head)


def _check_shapes(encoder: PackedModel, stored: StoredAdapter, where: str) -> None:
    for (layer, target), (a, b) in stored.pairs.items():
        weight = f"layers.{layer}.{target}.weight"
        rows, columns = encoder.model.get_parameter(weight).shape
        if a.shape[1] != columns or b.shape[0] != rows:
            raise CheckpointError(
                f"{where}: the adapter of {target} in layer {layer} maps {a.shape[1]} to "
                f"{b.shape[0]}; this model's maps {columns} to {rows}"
            )


def _head_of(encoder: PackedModel, stored: StoredAdapter, where: str) -> dict[str, Any] | None:
    """The engine's head config of an adapter's classifier, its shapes checked."""
    if not stored.head:
        return None
    from moltide.pretrained.shapes import parameter_shapes

    config = encoder.config
    shapes = {name: values.shape for name, values in stored.head.items()}
    head = _family(encoder).head_config(shapes, config)
    expected = {
        name: shape
        for name, shape in parameter_shapes({**config, "layers": 0}, head).items()
        if name.startswith("head.")
    }
    if head is None or expected != shapes:
        raise CheckpointError(f"{where}: classifier of shapes {shapes}, expected {expected}")
    return head


def install(encoder: PackedModel, name: str, stored: StoredAdapter) -> None:
    """Put values of an adapter into the engine; pairs that are absent stay without effect."""
    settings = stored.settings
    scale_alpha = settings.scale * settings.rank
    encoder.model.add_adapter(
        name, settings.rank, scale_alpha, settings.dropout, list(settings.targets), 0
    )
    for (layer, target), (a, b) in stored.pairs.items():
        stem = f"adapters.{name}.layers.{layer}.{target}"
        encoder.model.set_parameter(f"{stem}.lora_a", np.ascontiguousarray(a))
        encoder.model.set_parameter(f"{stem}.lora_b", np.ascontiguousarray(b))
    encoder._adapters[name] = settings


def extract(encoder: PackedModel, name: str) -> StoredAdapter:
    """The adapter's present values out of the engine, with the head that belongs to it."""
    _check_present(encoder, name)
    settings = encoder._adapters.get(name)
    if settings is None:
        raise ConfigError(
            f"adapter {name!r} was added to the engine's model directly, so its alpha is not known "
            "here; add adapters with Encoder.add_adapter"
        )
    pairs = {}
    for layer in range(encoder.config["layers"]):
        for target in settings.targets:
            stem = f"adapters.{name}.layers.{layer}.{target}"
            pairs[layer, target] = (
                np.asarray(encoder.model.get_parameter(f"{stem}.lora_a")),
                np.asarray(encoder.model.get_parameter(f"{stem}.lora_b")),
            )
    own = encoder._adapter_heads.get(name)
    return StoredAdapter(settings, pairs, dict(own[1]) if own else _head_values(encoder))


def _head_values(encoder: PackedModel) -> dict[str, np.ndarray]:
    names = [name for name, _ in encoder.model.parameters() if name.startswith("head.")]
    return {name: np.asarray(encoder.model.get_parameter(name)) for name in names}


def save_adapter(encoder: PackedModel, name: str, folder: str | os.PathLike[str]) -> None:
    """Write an adapter in PEFT's format; `PeftModel.from_pretrained` loads it onto the published
    model to equal outputs.

    The head goes with it (modules_to_save: classifier) if it has a published form; a mean-pooled
    head has none and is left out.

    Raises:
        ConfigError: no such adapter.
        OSError: folder not writable, disk full; no file is left half written.
    """
    family = _family(encoder)
    own = encoder._adapter_heads.get(name)
    head = own[0] if own else encoder.head
    layout = family.head_layout(encoder.config, head)
    write_adapter(folder, extract(encoder, name), family.NAMES, layout)


def merge(encoder: PackedModel, name: str) -> None:
    """W += scale * B A on every target; the adapter's own head becomes the encoder's."""
    _check_present(encoder, name)
    encoder.model.merge_adapter(name)
    encoder._adapters.pop(name, None)
    own = encoder._adapter_heads.pop(name, None)
    if own is not None:
        _use_head(encoder, *own)


def remove(encoder: PackedModel, name: str) -> None:
    """See `Encoder.remove_adapter`."""
    _check_present(encoder, name)
    encoder.model.remove_adapter(name)
    encoder._adapters.pop(name, None)
    encoder._adapter_heads.pop(name, None)


def _check_present(encoder: PackedModel, name: str) -> None:
    if name not in encoder.adapters:
        known = ", ".join(encoder.adapters) or "none"
        raise ConfigError(f"no adapter {name!r}; loaded: {known}")


def _use_head(encoder: PackedModel, head: dict[str, Any], values: dict[str, np.ndarray]) -> None:
    encoder.model.set_head(dict(head), 0)
    for name, array in values.items():
        encoder.model.set_parameter(name, array)


def predict(
    encoder: PackedModel,
    sequences: Any,
    adapter: Adapter,
    batch_tokens: int | None,
    on_illegal: str,
    progress: bool | ProgressCallback | None,
) -> Any:
    """See `Encoder.predict`."""
    encoder._check_adapter(adapter)
    if isinstance(adapter, str) and adapter in encoder._adapter_heads:
        with _own_head(encoder, adapter):
            return predict(encoder, sequences, adapter, batch_tokens, on_illegal, progress)
    if adapter is not None and not isinstance(adapter, str):
        named = set(adapter)
        if named & encoder._adapter_heads.keys() and len(named) > 1:
            return _predict_mixed(encoder, list(sequences), list(adapter), batch_tokens, on_illegal)
        if named & encoder._adapter_heads.keys():
            only = next(iter(named))
            return predict(encoder, sequences, only, batch_tokens, on_illegal, progress)
    head = encoder.head
    if head is None:
        raise ConfigError(f"{encoder.name or 'this model'} has no head to predict with")
    per_residue = head["pool"] == "none"

    def outputs(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> Iterable[np.ndarray]:
        values = np.asarray(encoder.model.predict(tokens, cu, use, coordinates_of(tokens)))
        if not per_residue:
            return values
        bounds = cu.tolist()
        return [
            values[a + 1 : b - encoder.tokenizer.trail].copy()
            for a, b in itertools.pairwise(bounds)
        ]

    rows = list(
        encoder._run(sequences, outputs, adapter, batch_tokens, on_illegal, progress, "predict")
    )
    if per_residue:
        return rows
    return np.stack(rows) if rows else np.empty((0, head["outputs"]), dtype=np.float32)


def predict_with_input(
    encoder: PackedModel,
    sequences: Any,
    adapter: str | None,
    batch_tokens: int | None,
    on_illegal: str,
    progress: bool | ProgressCallback | None,
) -> tuple[np.ndarray, np.ndarray]:
    """See `Encoder.predict_with_input`."""
    encoder._check_adapter(adapter)
    if adapter is not None and adapter in encoder._adapter_heads:
        with _own_head(encoder, adapter):
            return predict_with_input(
                encoder, sequences, adapter, batch_tokens, on_illegal, progress
            )
    head = encoder.head
    if head is None or head["pool"] == "none":
        raise ConfigError(f"{encoder.name or 'this model'} has no head over pooled embeddings")

    def both(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> Iterable[np.ndarray]:
        # Side by side, since the loop hands on one array a sequence.
        places = coordinates_of(tokens)
        return np.concatenate(encoder.model.predict_with_input(tokens, cu, use, places), axis=1)

    n = int(head["outputs"])
    rows = list(
        encoder._run(sequences, both, adapter, batch_tokens, on_illegal, progress, "predict")
    )
    wide = np.stack(rows) if rows else np.empty((0, n + encoder.width), dtype=np.float32)
    return wide[:, :n].copy(), wide[:, n:].copy()


@contextlib.contextmanager
def _own_head(encoder: PackedModel, name: str) -> Iterator[None]:
    """The adapter's own head in place of the encoder's, which is put back."""
    own = encoder._adapter_heads[name]
    before = (encoder.head or {}, _head_values(encoder))
    _use_head(encoder, *own)
    del encoder._adapter_heads[name]
    try:
        yield
    finally:
        encoder._adapter_heads[name] = own
        _use_head(encoder, *before)


def _predict_mixed(
    encoder: PackedModel,
    texts: list[str],
    names: list[str | None],
    batch_tokens: int | None,
    on_illegal: str,
) -> Any:
    """Adapters with heads of their own: one pass for each, results put back in order."""
    if len(names) != len(texts):
        raise ConfigError(f"{len(names)} adapter names for {len(texts)} sequences")
    results: list[Any] = [None] * len(texts)
    for name in sorted(set(names), key=lambda n: (n is not None, n)):
        where = [i for i, used in enumerate(names) if used == name]
        part = predict(encoder, [texts[i] for i in where], name, batch_tokens, on_illegal, None)
        for i, row in zip(where, part, strict=True):
            results[i] = row
    shapes = {np.shape(row)[-1:] for row in results}
    if len(shapes) > 1:
        raise ConfigError(f"the adapters' heads have different numbers of outputs: {shapes}")
    return np.stack(results) if len({np.ndim(row) for row in results} - {1}) == 0 else results


def state_of(encoder: PackedModel) -> dict[str, Any]:
    """Everything an Encoder is, as plain arrays and values, for pickling."""
    adapters = {name: extract(encoder, name) for name in encoder.adapters}
    own = [name for name, _ in encoder.model.parameters() if not name.startswith("adapters.")]
    return {
        "config": encoder.config,
        "dtype": encoder.dtype,
        "head": encoder.head,
        "parameters": {name: np.asarray(encoder.model.get_parameter(name)) for name in own},
        "adapters": adapters,
        "adapter_heads": encoder._adapter_heads,
        "tokenizer": encoder.tokenizer,
        "family": encoder._family,
        "published": encoder._published,
        "kept": encoder._kept,
        "name": encoder.name,
        "notes": encoder.notes,
    }


def restore(encoder: PackedModel, state: dict[str, Any]) -> None:
    """Rebuild an Encoder in place from `state_of`."""
    from moltide import _engine

    model = _engine.Model(state["config"], state["dtype"])
    if state["head"] is not None:
        model.set_head(state["head"], 0)
    for name, values in state["parameters"].items():
        model.set_parameter(name, values)
    PackedModel.__init__(
        encoder,
        model,
        state["tokenizer"],
        family=state["family"],
        published=state["published"],
        kept=state["kept"],
        name=state["name"],
        notes=state["notes"],
    )
    encoder._adapter_heads = dict(state["adapter_heads"])
    for name, stored in state["adapters"].items():
        install(encoder, name, stored)
