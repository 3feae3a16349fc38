"""What 8-bit matrix products cost in accuracy, measured on a person's own sequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from moltide.conformers.places import coordinates_of
from moltide.errors import ConfigError
from moltide.kinds import MOLECULE
from moltide.packed import PackedModel
from moltide.wording import plural

# Enough to see what the weights' and activations' rounding does, and done in a moment.
SEQUENCES, RESIDUES = 8, 1000


@dataclass(frozen=True)
class Int8Cost:
    """How far int8 results are from float32's.

    Attributes:
        sequences, residues: measured on.
        relative_error: length of the difference of the residues' embeddings to their length.
        cosine: of the mean embeddings, the lowest of the sequences.
        log_probability: mean difference of the masked-LM head's log-probabilities of the residues
            that are there; None without that head.
    """

    sequences: int
    residues: int
    relative_error: float
    cosine: float
    log_probability: float | None

    def said(self) -> str:
        """One line for a person."""
        line = (
            f"int8 against float32, on {plural(self.residues, 'residue')} of "
            f"{plural(self.sequences, 'sequence')}: embeddings differ by "
            f"{self.relative_error:.2%}, cosine at least {self.cosine:.5f}"
        )
        if self.log_probability is not None:
            line += f", log-probabilities by {self.log_probability:.3f}"
        return line


def measure(encoder: PackedModel, sequences: Any, adapter: str | None = None) -> Int8Cost:
    """`Encoder.int8_cost`."""
    if encoder.dtype != "int8":
        raise ConfigError(f"the encoder computes in {encoder.dtype}; int8_cost is for dtype='int8'")
    listed = [sequences] if isinstance(sequences, str) else sequences
    chosen = sample(listed, encoder.tokenizer.kind == MOLECULE)
    if not chosen:
        raise ConfigError("no sequence with a residue to measure on")
    twin = _float_twin(encoder, adapter)
    exact = [_results(twin, text, adapter) for text in chosen]
    rounded = [_results(encoder, text, adapter) for text in chosen]
    a, b = (np.concatenate([one[0] for one in each]) for each in (exact, rounded))
    logs = [np.concatenate([one[1] for one in each]) for each in (exact, rounded)]
    return Int8Cost(
        len(chosen),
        sum(map(len, chosen)),
        float(np.linalg.norm(a - b) / np.linalg.norm(a)),
        min(_cosine(x[0].mean(0), y[0].mean(0)) for x, y in zip(exact, rounded, strict=True)),
        float(np.abs(logs[0] - logs[1]).mean()) if logs[0].size else None,
    )


def sample(sequences: Iterable[str], whole: bool = False) -> list[str]:
    """The first sequences, cut where there are enough residues, unless they are to stay whole."""
    chosen: list[str] = []
    left = RESIDUES
    for text in islice(sequences, SEQUENCES):
        part = text if whole and left > 0 else text[: max(left, 0)]
        left -= len(part)
        if part:
            chosen.append(part)
    return chosen


def _float_twin(encoder: PackedModel, adapter: str | None) -> PackedModel:
    """The same weights in float32, copied one parameter at a time."""
    from moltide import _engine
    from moltide.adapters import extract, install

    twin = PackedModel(_engine.Model(encoder.config, "float32"), encoder.tokenizer)
    for name, _ in twin.model.parameters():
        twin.model.set_parameter(name, encoder.model.get_parameter(name))
    if adapter is not None:
        install(twin, adapter, extract(encoder, adapter))
    return twin


def _results(encoder: PackedModel, text: str, adapter: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings (L, C), log-probabilities of the residues (L), or none of them) in float64."""
    tokens, cu_seqlens = encoder.tokenizer.encode([text], "unknown", 0)
    places = coordinates_of(tokens)
    hidden = encoder.model.hidden(tokens, cu_seqlens, adapter, False, places)
    hidden = hidden[1 : len(hidden) - encoder.tokenizer.trail].astype(np.float64)
    if not encoder.config["lm_head"]:
        return hidden, np.empty(0)
    logits = encoder.model.logits(tokens, cu_seqlens, adapter, places)[1:-1].astype(np.float64)
    top = logits.max(1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return hidden, logits[np.arange(len(logits)), tokens[1:-1]] - total


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
