"""Validation windows, and which of their residues are hidden: the same for every model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.pretraining.corpus import Corpus
from moltide.pretraining.order import Assembler, Longs
from moltide.tokenizer import FRAME


@dataclass(frozen=True)
class HiddenWindows:
    """Pieces of records with some residues hidden.

    Attributes:
        corpus: where they are. begins, lengths: (n,) of each window, in the corpus' letters.
        hidden: (sum of lengths,) bool, window after window; of what is predicted only.
    """

    corpus: Corpus
    begins: Longs
    lengths: Longs
    hidden: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def count(self) -> int:
        """Hidden residues."""
        return int(self.hidden.sum())

    def letters(self, window: int) -> npt.NDArray[np.integer]:
        """The letters of a window."""
        begin = int(self.begins[window])
        return np.asarray(self.corpus.letters[begin : begin + int(self.lengths[window])])

    def starts(self) -> Longs:
        """(n + 1,) where each window begins in `hidden`."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    def runs(self, tokens: int) -> Iterator[tuple[int, int]]:
        """(first, stop) of consecutive windows with at most `tokens` tokens; one at least."""
        ends = np.cumsum(self.lengths + FRAME)
        first = 0
        while first < len(self):
            filled = int(ends[first - 1]) if first else 0
            stop = max(first + 1, int(np.searchsorted(ends, filled + tokens, side="right")))
            yield first, stop
            first = stop

    def sample(self, residues: int, seed: int) -> HiddenWindows:
        """Windows picked at random, with at most `residues` residues (one at least)."""
        order = np.random.Generator(np.random.Philox(key=[seed, 1])).permutation(len(self))
        taken = max(1, int(np.searchsorted(np.cumsum(self.lengths[order]), residues, "right")))
        picked = np.sort(order[:taken])
        starts = self.starts()
        pieces = [self.hidden[starts[i] : starts[i + 1]] for i in picked.tolist()]
        return HiddenWindows(
            self.corpus, self.begins[picked], self.lengths[picked], np.concatenate(pieces)
        )


def hide(corpus: Corpus, records: Longs, longest: int, rate: float, seed: int) -> HiddenWindows:
    """Cut records into pieces of at most `longest` residues, and hide residues at `rate`.

    Which ones depends on the records, `longest`, `rate` and `seed` alone.
    """
    begins, lengths = [], []
    for record in records.tolist():
        first, end = int(corpus.offsets[record]), int(corpus.offsets[record + 1])
        for begin in range(first, end, longest):
            begins.append(begin)
            lengths.append(min(longest, end - begin))
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    codes, none = corpus.symbols.codes, len(corpus.symbols.predicted)
    hidden = []
    for begin, length in zip(begins, lengths, strict=True):
        known = codes[corpus.letters[begin : begin + length]] != none
        hidden.append((rng.random(length) < rate) & known)
    return HiddenWindows(
        corpus,
        np.array(begins, dtype=np.int64),
        np.array(lengths, dtype=np.int64),
        np.concatenate(hidden) if hidden else np.zeros(0, dtype=bool),
    )


def perplexity(encoder: Any, windows: HiddenWindows, batch_tokens: int = 8192) -> float:
    """exp of the mean cross entropy at the hidden residues, each replaced by <mask>.

    The softmax runs over the whole vocabulary, so a model gains nothing by tokens that are no
    residues. The value has the same bits whatever `batch_tokens` is.
    """
    assemble = Assembler(windows.corpus)
    starts = windows.starts()
    losses = []
    for first, stop in windows.runs(batch_tokens):
        tokens, offsets = assemble(windows.begins[first:stop], windows.lengths[first:stop])
        inside = np.ones(len(tokens), dtype=bool)
        inside[offsets[:-1]] = inside[offsets[1:] - 1] = False
        hidden = np.zeros(len(tokens), dtype=bool)
        hidden[inside] = windows.hidden[starts[first] : starts[stop]]
        masked = np.where(hidden, encoder.tokenizer.mask_id, tokens).astype(np.int32)
        logits = encoder.model.logits(masked, offsets.astype(np.int32), None)
        picked = logits[hidden].astype(np.float64)
        picked -= picked.max(axis=1, keepdims=True)
        true = picked[np.arange(len(picked)), tokens[hidden]]
        losses.append(np.log(np.exp(picked).sum(axis=1)) - true)
    whole = np.concatenate(losses) if losses else np.zeros(0)
    return float(np.exp(whole.mean())) if len(whole) else float("nan")
