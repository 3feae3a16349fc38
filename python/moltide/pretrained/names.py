"""Tensor-name maps as data: canonical names of the engine against names in published files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from moltide.errors import CheckpointError

_LAYER = re.compile(r"(?<=\.)(0|[1-9][0-9]*)(?=\.)")


@dataclass(frozen=True)
class NameMap:
    """One family's names.

    `encoder` maps canonical to published names below `prefix`; `heads` those that stand beside the
    encoder, one dict for each published layout of a head. `{i}` in both names is the layer.
    `spellings` turns older spellings of a published name into today's (regular expression,
    replacement); `harmless` says why a published tensor may be left aside (regular expression,
    reason); `kept` finds those below `prefix` that have no place in the engine and are written
    back; `joined` maps a published tensor to the canonical ones whose rows it holds, in order;
    `rope_frequencies` finds stored frequencies of rotary positions, one copy or many.
    """

    prefix: str
    encoder: Mapping[str, str]
    heads: Mapping[str, Mapping[str, str]]
    spellings: tuple[tuple[str, str], ...] = ()
    harmless: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] = ()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rope_frequencies: str = ""

    def published(self, canonical: str, prefix: str, layout: str | None = None) -> str:
        """Published name of a canonical parameter; `layout` picks among head layouts.

        Raises:
            KeyError: the family has no such parameter.
        """
        template, layer = _split_layer(canonical)
        if template in self.encoder:
            return prefix + self.encoder[template].replace("{i}", layer)
        for name, head in self.heads.items():
            if template in head and layout in (None, name):
                return head[template]
        raise KeyError(canonical)

    def parts(self, published: str, prefix: str) -> tuple[str, ...]:
        """Canonical parameters that a published tensor holds the rows of; () for any other."""
        template, layer = _any_layer(published.removeprefix(prefix))
        return tuple(part.replace("{i}", layer) for part in self.joined.get(template, ()))

    def joined_with(self, canonical: str, prefix: str) -> str | None:
        """The published tensor that holds a canonical parameter among others."""
        template, layer = _split_layer(canonical)
        for published, parts in self.joined.items():
            if template in parts:
                return prefix + published.replace("{i}", layer)
        return None

    def layouts_with(self, canonical: str) -> set[str]:
        """Names of the head layouts that hold a parameter."""
        return {name for name, head in self.heads.items() if canonical in head}


@dataclass
class Recognised:
    """The tensor names of a checkpoint, sorted: canonical -> published, and the rest; `joined`
    maps a published name to the canonical ones it holds, `kept` a name without prefix to the
    published one."""

    names: dict[str, str]
    prefix: str
    rope_frequencies: list[str]
    harmless: list[str]
    unexpected: list[str]
    joined: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def recognise(published: Iterable[str], names: NameMap, where: str) -> Recognised:
    """Sort published tensor names into canonical ones, harmless leftovers and strangers.

    Raises:
        CheckpointError: two published tensors stand for the same parameter.
    """
    encoder, heads = _templates(names)
    result = Recognised({}, "", [], [], [])
    found_prefix = False
    for original in sorted(published):
        current = original
        for old, new in names.spellings:
            current = re.sub(old, new, current)
        bare = current.removeprefix(names.prefix)
        parts = names.parts(current, names.prefix)
        if parts:
            for part in parts:
                _claim(result, part, original, where)
            result.joined[original] = parts
            continue
        canonical = _canonical(bare, encoder) or _canonical(current, heads)
        if canonical is None and re.fullmatch(names.rope_frequencies, bare):
            result.rope_frequencies.append(original)
            continue
        if canonical is None and any(re.fullmatch(pattern, bare) for pattern in names.kept):
            result.kept[bare] = original
            continue
        if canonical is None:
            harmless = any(re.fullmatch(pattern, bare) for pattern, _ in names.harmless)
            (result.harmless if harmless else result.unexpected).append(original)
            continue
        _claim(result, canonical, original, where)
        found_prefix |= bare != current
    result.prefix = names.prefix if found_prefix else ""
    return result


def _claim(result: Recognised, canonical: str, original: str, where: str) -> None:
    if canonical in result.names:
        raise CheckpointError(
            f"{where}: tensors {result.names[canonical]!r} and {original!r} both stand for "
            f"{canonical}"
        )
    result.names[canonical] = original


def _any_layer(name: str) -> tuple[str, str]:
    """A name with {i} in the place of its first number, and the number."""
    layer = _LAYER.search(name)
    if layer is None or "{i}" in name:
        return name, ""
    return name[: layer.start()] + "{i}" + name[layer.end() :], layer.group()


def _split_layer(canonical: str) -> tuple[str, str]:
    found = re.match(r"layers\.(\d+)\.", canonical)
    if found is None:
        return canonical, ""
    return "layers.{i}." + canonical[found.end() :], found.group(1)


def _templates(names: NameMap) -> tuple[dict[str, str], dict[str, str]]:
    """Published to canonical names: below the prefix, and beside the encoder."""
    encoder = {published: canonical for canonical, published in names.encoder.items()}
    heads = {
        published: canonical
        for head in names.heads.values()
        for canonical, published in head.items()
    }
    return encoder, heads


def _canonical(name: str, templates: Mapping[str, str]) -> str | None:
    layer = _LAYER.search(name)
    if layer is None or name in templates:
        return None if "{i}" in name else templates.get(name)
    template = templates.get(name[: layer.start()] + "{i}" + name[layer.end() :])
    return None if template is None else template.replace("{i}", layer.group())
