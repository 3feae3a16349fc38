"""The published classes of a family: what each promises to hold, and which one can hold a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moltide.errors import CheckpointError, ConfigError
from moltide.pretrained.json_files import Fields


@dataclass(frozen=True)
class Architectures:
    """Class names and the head each has.

    Attributes:
        layouts: class -> head layout, a key of `NameMap.heads`; the first that fits is what a
            model is published as.
        bare: the encoder alone, whose tensors carry no prefix.
        prefix: of the encoder's tensors in every class around it.
    """

    layouts: Mapping[str, str]
    bare: str
    prefix: str

    def layout_of(self, architecture: str) -> str | None:
        """The head layout of a class; None for the bare encoder."""
        return self.layouts.get(architecture)

    def prefix_for(self, architecture: str) -> str:
        """What a class writes before the encoder's tensors."""
        return "" if architecture == self.bare else self.prefix

    def promised(self, published: Mapping[str, Any], fields: Fields) -> frozenset[str]:
        """The groups of tensors ("lm_head", "head") that the config's class promises.

        Raises:
            CheckpointError: a decoder, quantised weights, or a class that is not known.
        """
        for key in ("is_decoder", "add_cross_attention"):
            if published.get(key):
                raise fields.refuse(key, published[key], "false; only encoders are read")
        if published.get("quantization_config"):
            raise CheckpointError(
                f"{fields.where}: quantised weights (quantization_config); load the original "
                "weights"
            )
        names = fields.texts("architectures")
        allowed = [self.bare, *self.layouts]
        known = [name for name in names if name in allowed]
        if names and not known:
            raise fields.refuse("architectures", names, ", ".join(allowed))
        layout = self.layouts.get(known[0]) if known else None
        if layout is None:
            return frozenset()
        return frozenset({"lm_head" if layout == "lm" else "head"})

    def choose(
        self,
        config: Mapping[str, Any],
        head: Mapping[str, Any] | None,
        wanted: str | None,
        held_by: Callable[..., str | None] | None = None,
    ) -> str:
        """Class to publish a model as: that of its head if there is one, else the masked-LM.

        Args:
            held_by: the family's own `head_layout`.

        Raises:
            ConfigError: `wanted` cannot hold this model.
        """
        held = ((held_by or head_layout)(config, head), "lm" if config["lm_head"] else None)
        possible = [
            name
            for layout in held
            for name, one in self.layouts.items()
            if layout is not None and one == layout
        ]
        possible.append(self.bare)
        if wanted is None:
            return possible[0]
        if wanted not in possible:
            raise ConfigError(
                f"architecture is {wanted!r}; allowed for this model: {', '.join(possible)}"
            )
        return wanted


def head_config(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The engine's head of BERT's kin: the first token through a tanh layer, or every token
    through one linear layer; the tensors present tell which."""
    if "head.out.weight" not in shapes:
        return None
    per_sequence = "head.dense.weight" in shapes
    return {
        "pool": "cls" if per_sequence else "none",
        "hidden": config["width"] if per_sequence else 0,
        "outputs": shapes["head.out.weight"][0],
        "dropout": config["hidden_dropout"],
        "log_sigma": False,
    }


def head_layout(config: Mapping[str, Any], head: Mapping[str, Any] | None) -> str | None:
    """Which of those two can hold `head`: "sequence", "token" or None."""
    if head is None or head.get("log_sigma") or head.get("form", "tanh") != "tanh":
        return None
    if head["pool"] == "cls" and head["hidden"] == config["width"]:
        return "sequence"
    return "token" if head["pool"] == "none" and not head["hidden"] else None


def with_labels(
    published: dict[str, Any], source: Mapping[str, Any], outputs: int
) -> dict[str, Any]:
    """`published` with names of a head's outputs: those of `source` if they are as many."""
    labels = source.get("id2label")
    if not isinstance(labels, dict) or len(labels) != outputs:
        labels = {str(index): f"LABEL_{index}" for index in range(outputs)}
    label2id = {name: int(index) for index, name in labels.items()}
    return {**published, "id2label": labels, "label2id": label2id}
