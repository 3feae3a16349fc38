"""Training rows as the engine takes them: tokens end to end, targets, bounds, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moltide.conformers.places import joined

if TYPE_CHECKING:
    from moltide.encoder import Encoder


@dataclass(frozen=True)
class TrainingData:
    """N tokenized sequences and what is to be learned from them.

    Attributes:
        tokens: (sum L,) int32, <cls> and <eos> included; `PlacedTokens` for a model that sees
            distances.
        offsets: (N + 1,) int64: sequence i is tokens[offsets[i]:offsets[i + 1]].
        targets: (N, k) float32, or (sum L, k) for a per-residue head; NaN = not measured.
        censor: like targets, int8: -1 the true value is below, +1 above, 0 exact; or None.
        weights: (N,) float32, or None.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    censor: npt.NDArray[np.int8] | None = None
    weights: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) tokens of each sequence."""
        return np.diff(self.offsets)


def tokenize(
    encoder: Encoder, sequences: Sequence[str]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """(tokens, offsets) of `TrainingData`.

    Raises:
        DataError: an empty or illegal sequence, or one longer than the model's positions.
    """
    # A call a block: offsets of one call are int32.
    tokens, lengths = [], [np.zeros(1, np.int64)]
    block = 4096
    for start in range(0, len(sequences), block):
        part, cu_seqlens = encoder.tokenizer.encode(
            list(sequences[start : start + block]), "error", start
        )
        encoder._check_lengths(cu_seqlens, start)
        tokens.append(part)
        lengths.append(np.diff(cu_seqlens).astype(np.int64))
    return joined(tokens), np.cumsum(np.concatenate(lengths))
