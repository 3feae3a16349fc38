"""Which piece of which record comes when: an endless stream that (seed, epoch) alone decide.

Plain epochs visit every record once. A record longer than `longest` is cut into pieces whose cuts
move from epoch to epoch (all its residues count), or gives one random window (long="crop").
Sampled epochs visit clusters in the manner of UniRef sampling: as many visits as there are
clusters (without clusters: as there are records), each to one member, one window of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.errors import DataError
from moltide.options import option
from moltide.pretraining.corpus import Corpus
from moltide.tokenizer import FRAME

Longs = npt.NDArray[np.int64]
# Windows looked up at a time.
_BLOCK = 4096
# Windows after which the number of batches in an epoch is extrapolated.
_COUNTED = 1_000_000


@dataclass(frozen=True)
class OrderSettings:
    """Attributes:
    seed: of everything random here. longest: residues of a window at most.
    shortest: pieces of long records below this are left out (other cuts show them).
    long: "pieces" or "crop", of records beyond `longest` in plain epochs.
    cluster_weight: None: plain epochs; else clusters are drawn in proportion to their size to this
        power: 0 visits each cluster once an epoch, 1 draws records alike.
    """

    seed: int = 0
    longest: int = 1022
    shortest: int = 1
    long: str = "pieces"
    cluster_weight: float | None = None


class Order:
    """The windows of each epoch over the records `records` of a corpus.

    Raises:
        DataError: all of them weigh nothing.
    """

    def __init__(self, corpus: Corpus, records: Longs, settings: OrderSettings) -> None:
        self.corpus, self.records, self.settings = corpus, records, settings
        self.begins: Longs = corpus.offsets[:-1][records].astype(np.int64)
        self.lengths: Longs = corpus.offsets[1:][records].astype(np.int64) - self.begins
        self.weights = None if corpus.weights is None else np.asarray(corpus.weights[records])
        self.sampled = settings.cluster_weight is not None or self.weights is not None
        if self.sampled:
            self._group(settings.cluster_weight)

    def _group(self, power: float | None) -> None:
        """Sort members by cluster, and add up what each cluster and each member weighs."""
        clusters = self.corpus.clusters
        n = len(self.records)
        if clusters is None or power is None:
            numbers = np.zeros(n, dtype=np.int64)
        else:
            _, numbers = np.unique(np.asarray(clusters[self.records]), return_inverse=True)
        self.members = np.argsort(numbers, kind="stable")
        sizes = np.bincount(numbers)
        self.ends = np.cumsum(sizes)
        own = np.ones(n) if self.weights is None else self.weights[self.members]
        self.member_sum = np.cumsum(own)
        before = np.concatenate([[0.0], self.member_sum])
        # A cluster whose members all weigh nothing is never visited.
        alive = before[self.ends] - before[self.ends - sizes] > 0
        if not alive.any():
            # No record would ever be drawn, and no batch ever be full.
            raise DataError(
                f"{', '.join(self.corpus.info['sources'])}: all {n:,} training records have the "
                f"weight 0 ({option('weight')}); at least one must be above 0"
            )
        self.cluster_sum = np.cumsum(np.where(alive, sizes ** float(power or 0.0), 0.0))
        self.each_once = np.flatnonzero(alive) if power == 0 else None
        self.visits = int(alive.sum()) if power is not None else n

    def epoch(self, number: int) -> Epoch:
        """The windows of epoch `number`, from 0."""
        seed = self.settings.seed
        rng = np.random.Generator(np.random.Philox(key=[seed, number]))
        return self._sample(rng) if self.sampled else self._shuffle(rng)

    def _shuffle(self, rng: np.random.Generator) -> Epoch:
        longest, shortest = self.settings.longest, self.settings.shortest
        draws = rng.random(len(self.records))
        if self.settings.long == "crop":
            return Epoch(self, rng.permutation(len(self.records)), self._crop(draws, self.lengths))
        # The first cut of a long record falls at `phase`, the others `longest` apart.
        phase = (draws * longest).astype(np.int64)
        phase[self.lengths <= longest] = 0
        head = phase >= max(1, shortest)
        rest = self.lengths - phase
        tail = rest % longest >= np.where(self.lengths <= longest, 1, max(1, shortest))
        counts = head + rest // longest + tail
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        return Epoch(self, rng.permutation(total), phase, ends, head)

    def _sample(self, rng: np.random.Generator) -> Epoch:
        if self.each_once is not None:
            clusters = rng.permutation(self.each_once)
        else:
            drawn = rng.random(self.visits) * self.cluster_sum[-1]
            clusters = np.searchsorted(self.cluster_sum, drawn, side="right")
            clusters = np.minimum(clusters, len(self.ends) - 1)
        before = np.concatenate([[0], self.ends])[clusters]
        sums = np.concatenate([[0.0], self.member_sum])
        low, high = sums[before], sums[self.ends[clusters]]
        drawn = low + rng.random(len(clusters)) * (high - low)
        places = np.searchsorted(self.member_sum, drawn, side="right")
        places = np.clip(places, before, self.ends[clusters] - 1)
        visited = self.members[places].astype(np.int64)
        crops = self._crop(rng.random(len(visited)), self.lengths[visited])
        return Epoch(self, visited, crops, by_visit=True)

    def _crop(self, draws: Any, lengths: Longs) -> Longs:
        room = np.maximum(lengths - self.settings.longest, 0)
        return np.asarray(np.minimum((draws * (room + 1)).astype(np.int64), room))


@dataclass(frozen=True)
class Epoch:
    """Windows in their order. `order` holds records, or with `ends` numbers of pieces.

    `starts` is a record's first residue (a visit's with `by_visit`), or the phase of its cuts.
    """

    of: Order
    order: Longs
    starts: Longs
    ends: Longs | None = None
    head: npt.NDArray[np.bool_] | None = None
    by_visit: bool = False

    def __len__(self) -> int:
        return len(self.order)

    def windows(self, first: int, stop: int) -> tuple[Longs, Longs, Longs]:
        """(record of the order, first residue, residues) of windows first .. stop."""
        ids = self.order[first:stop]
        longest = self.of.settings.longest
        if self.ends is None or self.head is None:
            starts = self.starts[first:stop] if self.by_visit else self.starts[ids]
            return ids, starts, np.minimum(self.of.lengths[ids], longest)
        records = np.searchsorted(self.ends, ids, side="right")
        behind = ids - np.concatenate([[0], self.ends])[records] - self.head[records]
        phase, lengths = self.starts[records], self.of.lengths[records]
        starts = np.where(behind < 0, 0, phase + behind * longest)
        stops = np.where(behind < 0, phase, np.minimum(starts + longest, lengths))
        return records, starts, stops - starts


@dataclass(frozen=True)
class Batch:
    """Sequences of a step: where each lies in the corpus' letters. `place` is what comes next."""

    epoch: int
    begins: Longs
    lengths: Longs
    place: tuple[int, int]

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum()) + FRAME * len(self.lengths)


def batches(order: Order, tokens: int, place: tuple[int, int] = (0, 0)) -> Iterator[Batch]:
    """Endless batches of at most `tokens` tokens, each as full as the order allows, from `place`
    (epoch, window) on. A batch may hold the end of an epoch and the beginning of the next."""
    number, window = place
    epoch = order.epoch(number)
    held = np.empty((0, 4), dtype=np.int64)  # epoch, window, begin, residues
    while True:
        while held[:, 3].sum() + FRAME * len(held) <= tokens:
            if window >= len(epoch):
                number, window = number + 1, 0
                epoch = order.epoch(number)
            stop = min(window + _BLOCK, len(epoch))
            records, starts, lengths = epoch.windows(window, stop)
            block = np.empty((stop - window, 4), dtype=np.int64)
            block[:, 0], block[:, 1] = number, np.arange(window, stop)
            block[:, 2], block[:, 3] = order.begins[records] + starts, lengths
            held = np.concatenate([held, block])
            window = stop
        ends = np.cumsum(held[:, 3] + FRAME)
        begin = 0
        while begin < len(held):
            filled = int(ends[begin - 1]) if begin else 0
            stop = int(np.searchsorted(ends, filled + tokens, side="right"))
            if stop == len(held):
                break
            part = held[begin:stop]
            following = (int(held[stop, 0]), int(held[stop, 1]))
            yield Batch(int(part[0, 0]), part[:, 2], part[:, 3], following)
            begin = stop
        held = held[begin:]


def batches_an_epoch(order: Order, tokens: int) -> float:
    """Batches of the first epoch, the last one by its share; of a very long epoch from its first
    million windows."""
    epoch = order.epoch(0)
    counted = min(len(epoch), _COUNTED)
    first = 0
    for found, batch in enumerate(batches(order, tokens)):
        stop = first + len(batch.begins)
        if stop >= counted:
            share = (counted - first) / len(batch.begins)
            return (found + share) * len(epoch) / counted
        first = stop
    raise AssertionError("batches are endless")


class Assembler:
    """Batches as tokens, framed by <cls> and <eos>."""

    def __init__(self, corpus: Corpus) -> None:
        tokenizer = corpus.symbols.tokenizer
        self.letters, self.table = corpus.letters, corpus.symbols.ids
        self.cls, self.eos = tokenizer.cls_id, tokenizer.eos_id

    def __call__(self, begins: Longs, lengths: Longs) -> tuple[npt.NDArray[np.int32], Longs]:
        """(tokens int32 (T), offsets int64 (B + 1))."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths + FRAME, out=offsets[1:])
        tokens = np.empty(int(offsets[-1]), dtype=np.int32)
        tokens[offsets[:-1]] = self.cls
        tokens[offsets[1:] - 1] = self.eos
        spans = zip(begins.tolist(), lengths.tolist(), offsets[:-1].tolist(), strict=True)
        for begin, length, at in spans:
            inside = slice(at + 1, at + 1 + length)
            np.take(self.table, self.letters[begin : begin + length], out=tokens[inside])
        return tokens, offsets
