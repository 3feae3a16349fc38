"""LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors.

Source of the format: PEFT 0.17 to 0.21 (`get_peft_model_state_dict`); the config is `peft_config`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moltide.atomic import atomic_write_text
from moltide.errors import CheckpointError
from moltide.peft_config import LoraRules, read_rules
from moltide.pretrained.files import (
    ADAPTER_CONFIG,
    ADAPTER_TORCH_WEIGHTS,
    ADAPTER_WEIGHTS,
    Files,
)
from moltide.pretrained.json_files import read_json_object
from moltide.pretrained.names import NameMap
from moltide.pretrained.safe_tensors import StoredTensor, open_tensors, write_tensors
from moltide.pretrained.torch_files import open_torch

TARGETS = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.gate", "mlp.down")

_ROOT = "base_model.model."


@dataclass
class AdapterSettings:
    """What defines a LoRA adapter beside its values; `alpha / rank` scales B A (with `rslora`,
    alpha / sqrt(rank))."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    rslora: bool = False
    base: str = ""

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclass
class StoredAdapter:
    """An adapter read from files: `pairs` maps (layer, target) to float32 A (rank, in) and
    B (out, rank), all of one rank; `head` maps canonical head parameters to values."""

    settings: AdapterSettings
    pairs: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]
    head: dict[str, np.ndarray] = field(default_factory=dict)


def module_name(names: NameMap, target: str, layer: int) -> str:
    """Published module of an engine target: "attn.q", 0 -> "encoder.layer.0...query"."""
    return names.published(f"layers.{layer}.{target}.weight", "").removesuffix(".weight")


def engine_targets(names: NameMap) -> list[str]:
    """The projections of a family that an adapter can sit on."""
    return [t for t in TARGETS if f"layers.{{i}}.{t}.weight" in names.encoder]


def read_adapter(files: Files, names: NameMap, layers: int, width: int) -> StoredAdapter:
    """Read and check an adapter; shapes against the encoder are checked by the engine.

    Ranks and alphas that differ by module (rank_pattern, alpha_pattern) are brought to one rank by
    zero rows and to one scale by scaling B; the adapter computes the same.

    Raises:
        CheckpointError: no adapter there, pickle weights, another PEFT method, a feature that is
            not honoured, tensors missing, out of place or not finite.
    """
    config_path = files.get(ADAPTER_CONFIG)
    if config_path is None:
        raise CheckpointError(f"{files.where}: no {ADAPTER_CONFIG}; this is no PEFT adapter")
    config = read_json_object(config_path)
    rules = read_rules(config, str(config_path))
    weights, read = files.get(ADAPTER_WEIGHTS), open_tensors
    if weights is None:
        weights, read = files.get(ADAPTER_TORCH_WEIGHTS), open_torch
    if weights is None:
        raise CheckpointError(
            f"{files.where}: no {ADAPTER_WEIGHTS}, and no {ADAPTER_TORCH_WEIGHTS}"
        )
    sorted_tensors = _sort_tensors(read(weights), names, layers, str(weights))
    expected = {
        (layer, target)
        for layer in range(layers)
        for target in engine_targets(names)
        if rules.adapts(names.prefix + module_name(names, target, layer), layer)
    }
    missing = sorted(expected - sorted_tensors.pairs.keys())
    if missing:
        layer, target = missing[0]
        raise CheckpointError(
            f"{weights}: no tensors for {module_name(names, target, layer)}, which target_modules "
            f"{config.get('target_modules')!r} asks for ({len(missing)} such modules)"
        )
    if not sorted_tensors.pairs:
        raise CheckpointError(f"{weights}: no LoRA tensors for a projection of this model")
    return _assemble(rules, sorted_tensors, names, str(weights))


@dataclass
class _Sorted:
    pairs: dict[tuple[int, str], dict[str, StoredTensor]] = field(default_factory=dict)
    head: dict[str, StoredTensor] = field(default_factory=dict)


def _sort_tensors(
    stored: Mapping[str, StoredTensor], names: NameMap, layers: int, where: str
) -> _Sorted:
    """Every tensor of the file as part of a pair or of a head; anything else is refused."""
    modules = {
        module_name(names, target, layer): (layer, target)
        for layer in range(layers)
        for target in engine_targets(names)
    }
    heads = {
        published: canonical
        for layout in names.heads.values()
        for canonical, published in layout.items()
        if canonical.startswith("head.")
    }
    result = _Sorted()
    for key, tensor in stored.items():
        path = key.removeprefix(_ROOT).replace(".modules_to_save.", ".")
        found = re.fullmatch(r"(.+)\.lora_([AB])\.weight", path)
        module = found.group(1).removeprefix(names.prefix) if found else ""
        if found and module in modules:
            result.pairs.setdefault(modules[module], {})[found.group(2)] = tensor
        elif path in heads:
            result.head[heads[path]] = tensor
        elif found and _adds_nothing(found, key, stored):
            continue
        else:
            raise CheckpointError(
                f"{where}: tensor {key!r} has no place here; allowed are lora_A and lora_B of "
                f"{', '.join(engine_targets(names))} in {layers} layers, and a classifier"
            )
    return result


def _adds_nothing(found: re.Match[str], key: str, stored: Mapping[str, StoredTensor]) -> bool:
    """An untrained pair (B = 0) on a module without adapters here changes no result."""
    other = stored.get(key.replace(".lora_A.", ".lora_B."))
    return other is not None and not other.read().any()


def _assemble(rules: LoraRules, tensors: _Sorted, names: NameMap, where: str) -> StoredAdapter:
    settings = AdapterSettings(rules.rank, rules.alpha, rules.dropout, (), rules.rslora, rules.base)
    found: dict[tuple[int, str], tuple[np.ndarray, np.ndarray, float]] = {}
    for (layer, target), pair in sorted(tensors.pairs.items()):
        module = names.prefix + module_name(names, target, layer)
        if set(pair) != {"A", "B"}:
            raise CheckpointError(f"{where}: {module} has lora_{min(pair)} alone, needs A and B")
        a, b = pair["A"].read_finite(), pair["B"].read_finite()
        rank = rules.rank_of(module)
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise CheckpointError(
                f"{where}: {module} has A {list(a.shape)} and B {list(b.shape)}; rank {rank} asks "
                f"for [{rank}, in] and [out, {rank}]"
            )
        alpha = rules.alpha_of(module)
        own = AdapterSettings(rank, alpha, 0.0, (), settings.rslora).scale
        found[layer, target] = (a, b, own)
    largest = max(a.shape[0] for a, _, _ in found.values())
    settings.targets = tuple(t for t in TARGETS if any(t == target for _, target in found))
    if largest != settings.rank or len({scale for _, _, scale in found.values()}) > 1:
        # Ranks or scales differ: one common scale of alpha / rank = 1 keeps every value exact
        # where its own scale is a power of two.
        settings.rank, settings.alpha, settings.rslora = largest, float(largest), False
    pairs = {
        key: _to_rank(a, b * np.float32(scale / settings.scale), settings.rank)
        if scale != settings.scale
        else _to_rank(a, b, settings.rank)
        for key, (a, b, scale) in found.items()
    }
    head = {name: tensor.read_finite() for name, tensor in tensors.head.items()}
    return StoredAdapter(settings, pairs, head)


def _to_rank(a: np.ndarray, b: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    extra = rank - a.shape[0]
    return np.pad(a, ((0, extra), (0, 0))), np.pad(b, ((0, 0), (0, extra)))


def write_adapter(
    folder: str | os.PathLike[str],
    adapter: StoredAdapter,
    names: NameMap,
    head_layout: str | None = None,
) -> None:
    """Write an adapter that PEFT loads onto the Transformers model; the config comes last.

    Args:
        head_layout: "sequence" or "token" if `adapter.head` is a published classifier.

    Raises:
        OSError: folder not writable, disk full; no file is left half written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    for (layer, target), (a, b) in sorted(adapter.pairs.items()):
        module = _ROOT + names.prefix + module_name(names, target, layer)
        tensors[f"{module}.lora_A.weight"] = a
        tensors[f"{module}.lora_B.weight"] = b
    task, saved = None, None
    if adapter.head and head_layout is not None:
        for name, values in adapter.head.items():
            tensors[_ROOT + names.published(name, "", head_layout)] = values
        saved = ["classifier"]
        task = "SEQ_CLS" if head_layout == "sequence" else "TOKEN_CLS"
    write_tensors(folder / ADAPTER_WEIGHTS, tensors)
    settings = adapter.settings
    alpha = int(settings.alpha) if float(settings.alpha).is_integer() else settings.alpha
    config = {
        "base_model_name_or_path": settings.base or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": saved,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": target_modules(names, settings.targets),
        "task_type": task,
        "use_rslora": settings.rslora,
    }
    atomic_write_text(folder / ADAPTER_CONFIG, json.dumps(config, indent=2) + "\n")


def target_modules(names: NameMap, targets: Iterable[str]) -> list[str] | str:
    """PEFT's target_modules for engine targets: name endings, or one regular expression where no
    ending is unique (the second MLP projection ends like the attention's output)."""
    wanted = list(targets)
    modules = {t: module_name(names, t, 0) for t in engine_targets(names)}
    endings = []
    for target in wanted:
        parts = modules[target].split(".")
        for start in range(len(parts) - 1, -1, -1):
            ending = ".".join(parts[start:])
            hits = [t for t, m in modules.items() if m == ending or m.endswith(f".{ending}")]
            if hits == [target] and not any(part.isdigit() for part in parts[start:]):
                endings.append(ending)
                break
        else:
            return _as_expression(names, wanted)
    return endings


def _as_expression(names: NameMap, targets: list[str]) -> str:
    templates = [names.encoder[f"layers.{{i}}.{t}.weight"].removesuffix(".weight") for t in targets]
    before, _, _ = templates[0].partition("{i}")
    after = [re.escape(template.partition("{i}")[2]) for template in templates]
    return rf"(.*\.)?{re.escape(before)}\d+({'|'.join(after)})"
