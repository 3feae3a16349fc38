"""PEFT's adapter_config.json for LoRA: what it says, as rules that are checked once.

Source: PEFT 0.17 to 0.21 (`LoraConfig`, `check_target_module_exists`, `get_pattern_key`). What
changes a result and is not honoured here is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moltide.pretrained.json_files import Fields

# Fields of LoraConfig that change what an adapter computes, allowed only when off.
_MUST_BE_OFF = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "fan_in_fan_out",
)
# Ways to start an adapter that change the base weights too.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "eva_subtract")
_EVERY_LINEAR = "all-linear"

ByModule = tuple[tuple[re.Pattern[str], float], ...]


@dataclass(frozen=True)
class ModuleRule:
    """Which modules a field names: endings of their names, or one regular expression."""

    endings: tuple[str, ...] = ()
    expression: re.Pattern[str] | None = None

    def holds_for(self, module: str) -> bool:
        if self.expression is not None:
            return self.expression.fullmatch(module) is not None
        return any(module == end or module.endswith(f".{end}") for end in self.endings)


@dataclass(frozen=True)
class LoraRules:
    """A checked adapter_config.json; modules go by their full published names."""

    rank: int
    alpha: float
    dropout: float
    rslora: bool
    base: str
    targets: ModuleRule
    excluded: ModuleRule
    layers: frozenset[int] | None
    rank_pattern: ByModule
    alpha_pattern: ByModule

    def adapts(self, module: str, layer: int) -> bool:
        """Whether PEFT would put a pair on this module."""
        if self.excluded.holds_for(module) or not self.targets.holds_for(module):
            return False
        return self.layers is None or layer in self.layers

    def rank_of(self, module: str) -> int:
        return int(_first_match(self.rank_pattern, module, self.rank))

    def alpha_of(self, module: str) -> float:
        return _first_match(self.alpha_pattern, module, self.alpha)


def read_rules(config: Mapping[str, Any], where: str) -> LoraRules:
    """Check an adapter_config.json.

    Raises:
        CheckpointError: another PEFT method, a feature that is not honoured, a field of the wrong
            kind or an invalid regular expression.
    """
    fields = Fields(config, where)
    if config.get("peft_type") != "LORA":
        raise fields.refuse("peft_type", config.get("peft_type"), "'LORA'")
    for name in _MUST_BE_OFF:
        if config.get(name):
            raise fields.refuse(name, config[name], "off; this engine computes plain LoRA")
    if config.get("bias", "none") != "none":
        raise fields.refuse("bias", config["bias"], "'none'; trained biases belong to the model")
    start = config.get("init_lora_weights", True)
    if str(start).lower().startswith(_CHANGES_BASE):
        raise fields.refuse(
            "init_lora_weights",
            start,
            "a start that leaves the base weights alone; save with PEFT's "
            "path_initial_model_for_weight_conversion",
        )
    return LoraRules(
        rank=fields.integer("r", 8, high=2**20),
        alpha=fields.number("lora_alpha", 8, -1e9, 1e9),
        dropout=fields.number("lora_dropout", 0.0, 0.0, 1.0),
        rslora=fields.boolean("use_rslora", False),
        base=str(config.get("base_model_name_or_path") or ""),
        targets=_module_rule(fields, "target_modules"),
        excluded=_module_rule(fields, "exclude_modules"),
        layers=_layers(fields),
        rank_pattern=_by_module(fields, "rank_pattern", 1.0, 2.0**20),
        alpha_pattern=_by_module(fields, "alpha_pattern", -1e9, 1e9),
    )


def _module_rule(fields: Fields, name: str) -> ModuleRule:
    value = fields.values.get(name)
    if isinstance(value, str):
        return ModuleRule(expression=_compiled(fields, name, value, ".*", value == _EVERY_LINEAR))
    if value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return ModuleRule(endings=tuple(value or ()))
    raise fields.refuse(name, value, "a list of module names, or one regular expression")


def _compiled(
    fields: Fields, name: str, text: str, other: str = "", use_other: bool = False
) -> re.Pattern[str]:
    try:
        return re.compile(other if use_other else text)
    except (re.error, OverflowError, RecursionError):
        raise fields.refuse(name, text, "a valid regular expression") from None


def _layers(fields: Fields) -> frozenset[int] | None:
    value = fields.values.get("layers_to_transform")
    listed = [value] if isinstance(value, int) else value
    if listed is None or listed == []:
        return None
    if not isinstance(listed, list) or not all(isinstance(layer, int) for layer in listed):
        raise fields.refuse("layers_to_transform", value, "a layer number or a list of them")
    return frozenset(listed)


def _by_module(fields: Fields, name: str, low: float, high: float) -> ByModule:
    """Regular expressions, each matching the end of a module's name, to values."""
    value = fields.values.get(name)
    if not value:
        return ()
    if not isinstance(value, dict):
        raise fields.refuse(name, value, "an object of module names and numbers")
    numbers = Fields(value, f"{fields.where}: {name}")
    return tuple(
        (_compiled(fields, name, rf"(?:.*\.)?(?:{rule})"), numbers.number(rule, 0.0, low, high))
        for rule in value
    )


def _first_match(pattern: ByModule, module: str, default: float) -> float:
    for expression, value in pattern:
        if expression.fullmatch(module):
            return value
    return default
