"""`Encoder.save`: the engine's parameters under their published names."""

from __future__ import annotations

import os

import numpy as np

from moltide.packed import PackedModel
from moltide.pretrained.families import exact_tensors, family_named, names_for, unfolded
from moltide.pretrained.shapes import Shape, parameter_shapes
from moltide.pretrained.vocabulary import tokenizer_files
from moltide.pretrained.writing import write_checkpoint


def save(
    encoder: PackedModel,
    folder: str | os.PathLike[str],
    dtype: str = "float32",
    architecture: str | None = None,
) -> None:
    """Write `encoder` for the published class `architecture`; see `Encoder.save`."""
    family = family_named(encoder._family)
    config, head = encoder.config, encoder.head
    chosen = family.architecture_for(config, head, architecture)
    layout = family.layout_of(chosen)
    prefix = family.prefix_for(chosen)
    # Published models of a family with contact heads always have one: zeros stand for it, which
    # readers skip.
    has_contacts = "contact.weight" in family.NAMES.encoder
    stand_in = has_contacts and not config["contact_head"]
    shapes = parameter_shapes({**config, "contact_head": has_contacts}, head)
    names = names_for(family, chosen)
    sources: dict[str, tuple[str, ...]] = {}
    published_shapes: dict[str, Shape] = {}
    for name, shape in shapes.items():
        group = name.split(".")[0]
        if group in ("lm_head", "head") and layout not in names.layouts_with(name):
            continue
        joined = names.joined_with(name, prefix)
        published = names.published(name, prefix, layout) if joined is None else joined
        parts = (name,) if joined is None else names.parts(joined, prefix)
        sources[published] = parts
        published_shapes[published] = (shape[0] * len(parts), *shape[1:])

    def parameter(name: str) -> np.ndarray:
        return np.asarray(encoder.model.get_parameter(name)).reshape(shapes[name])

    fixed = exact_tensors(family, config, prefix)
    extra = {**fixed, **unfolded(family, config, encoder._kept, parameter, chosen)}
    published_shapes.update({name: values.shape for name, values in extra.items()})

    def read(published: str) -> np.ndarray:
        if published in extra:
            return extra[published]
        parts = sources[published]
        if stand_in and parts[0].startswith("contact."):
            return np.zeros(shapes[parts[0]], dtype=np.float32)
        return np.concatenate([parameter(part) for part in parts])

    document = family.published_from_config(config, head, encoder._published, chosen)
    document.pop("moltide", None)
    if stand_in:
        document["moltide"] = {"contact_head": False}
    # Rounded rotary frequencies would turn far residues by another angle than training did;
    # random features are orthogonal, and no part of what training rounded.
    write_checkpoint(
        folder,
        document,
        published_shapes,
        read,
        tokenizer_files(encoder.tokenizer),
        dtype,
        exact={*fixed, *(p for p, parts in sources.items() if parts[0].endswith(".features"))},
    )
