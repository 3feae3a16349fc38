"""How fast the encoder is here, and how many rows fit into the time for training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from moltide.encoder import Encoder

# A measurement lasts at least this long, or until all sequences have been seen.
_LONG_ENOUGH = 0.2
# Share of the time that scoring the validation rows once may take.
_A_SCORING = 0.03
_FEWEST, _MOST = 50, 2000
# Rows that a head starts from, and that uncertainty is learned from, for each one that is scored.
START_ROWS, UNCERTAINTY_ROWS = 2, 5


def seconds_a_pass(encoder: Encoder, sequences: Sequence[str], seed: int = 0) -> float:
    """Mean seconds to embed one of `sequences`, measured on more and more of them."""
    order = np.random.default_rng(seed).permutation(len(sequences))
    encoder.embed([sequences[order[0]]])  # packs weights
    rows = min(4, len(order))
    while True:
        start = time.perf_counter()
        encoder.embed([sequences[i] for i in order[:rows]])
        seconds = time.perf_counter() - start
        if seconds >= _LONG_ENOUGH or rows == len(order):
            return seconds / rows
        rows = min(2 * rows, len(order))


def scored_rows(seconds: float, a_pass: float) -> int:
    """Validation rows to score after each epoch in a training of so many seconds."""
    return int(min(_MOST, max(_FEWEST, _A_SCORING * seconds / max(1e-9, a_pass))))
