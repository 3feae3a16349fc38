"""Running an engine's model over sequences of any number: tokenized, packed, checked."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.errors import ConfigError, DataError
from moltide.sequences import Progress, ProgressCallback, as_texts, packs
from moltide.tokenization.base import FRAME, Tokenizer

if TYPE_CHECKING:
    from moltide import _engine
    from moltide.peft_format import AdapterSettings

# One pass over so many tokens, and so many for each thread, keeps the engine busy and its buffers
# in the caches.
_BATCH_TOKENS, _THREAD_TOKENS = 2048, 512

# One adapter for all sequences, one (or None) for each, or none at all.
Adapter = str | Sequence[str | None] | None
# From tokens, cu_seqlens and adapter to one array a sequence.
Compute = Callable[[np.ndarray, np.ndarray, Adapter], Iterable[np.ndarray]]


class PackedModel:
    """A model with its tokenizer, and the loop over packed runs that every result goes through.

    Attributes:
        model: the engine's model (`moltide._engine.Model`).
        tokenizer: text to ids, as published.
        name: what it was loaded as.
        notes: facts about the checkpoint worth a line to its user.
    """

    def __init__(
        self,
        model: _engine.Model,
        tokenizer: Tokenizer,
        *,
        family: str = "esm",
        published: Mapping[str, Any] | None = None,
        kept: Mapping[str, np.ndarray] | None = None,
        name: str = "",
        notes: Iterable[str] = (),
    ) -> None:
        self.model = model
        self._config: dict[str, Any] = model.config
        self.tokenizer = tokenizer
        self.name = name
        self.notes = list(notes)
        self._family = family
        self._published = dict(published or {})
        self._kept = dict(kept or {})
        self._adapters: dict[str, AdapterSettings] = {}
        self._adapter_heads: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}

    @property
    def config(self) -> dict[str, Any]:
        """The engine's EncoderConfig as a dict (a copy)."""
        return dict(self._config)

    @property
    def dtype(self) -> str:
        """Arithmetic: "float32", "bf16", or "int8" (8-bit matrix products)."""
        return str(self.model.dtype)

    @property
    def width(self) -> int:
        """Length of an embedding, C."""
        return int(self._config["width"])

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters over this backbone."""
        return list(self.model.adapters())

    @property
    def head(self) -> dict[str, Any] | None:
        """The engine's head config, or None."""
        config: dict[str, Any] | None = self.model.head_config
        return config

    def _need(self, part: str, name: str) -> None:
        if not self._config[part]:
            raise ConfigError(f"{self.name or 'this model'} has no {name}")

    def _run(
        self,
        sequences: Any,
        compute: Compute,
        adapter: Adapter,
        batch_tokens: int | None,
        on_illegal: str,
        progress: bool | ProgressCallback | None,
        what: str,
    ) -> Iterator[np.ndarray]:
        """Tokenize, pack and compute run by run; yields one array a sequence, in order."""
        for rows in self._passes(
            sequences, compute, adapter, batch_tokens, on_illegal, progress, what
        ):
            yield from rows

    def _passes(
        self,
        sequences: Any,
        compute: Compute,
        adapter: Adapter,
        batch_tokens: int | None,
        on_illegal: str,
        progress: bool | ProgressCallback | None,
        what: str,
    ) -> Iterator[Iterable[np.ndarray]]:
        """`_run`, the arrays of one run at a time."""
        texts = as_texts(sequences)
        each = not isinstance(adapter, str | None)
        if each:
            texts = list(texts)
        total = len(texts) if isinstance(texts, Sequence | np.ndarray) else _length_of(texts)
        self._check_adapter(adapter)
        if adapter is not None and each and total != len(adapter):
            raise ConfigError(f"{len(adapter)} adapter names for {total} sequences")
        done = 0
        with Progress(progress, total, what) as bar:
            for pack in packs(texts, checked_batch(batch_tokens), self.tokenizer.cost):
                tokens, cu_seqlens = self.tokenizer.encode(pack, on_illegal, done)
                self._check_lengths(cu_seqlens, done)
                use = adapter
                if adapter is not None and each:
                    use = list(adapter[done : done + len(pack)])
                yield compute(tokens, cu_seqlens, use)
                done += len(pack)
                bar.add(len(pack))

    def _check_adapter(self, adapter: Adapter) -> None:
        named = [adapter] if isinstance(adapter, str | None) else adapter
        known = self.adapters
        for name in named:
            if name is not None and name not in known:
                raise ConfigError(f"no adapter {name!r}; loaded: {', '.join(known) or 'none'}")

    @property
    def longest(self) -> int | None:
        """Tokens that a sequence may have, its frame included; None: any number."""
        config = self._config
        if config["position"] != "learned":
            return None
        return int(config["max_positions"]) - int(config.get("position_offset", 0))

    def refusals(self, sequences: Sequence[Any]) -> dict[int, str]:
        """Which of the sequences (clean, of the tokenizer's kind) the model cannot take, by index,
        and why: more tokens than it has learned positions for, more atoms than it was made for."""
        return self.tokenizer.refusals(sequences, self.longest)

    def _check_lengths(self, cu_seqlens: np.ndarray, first: int) -> None:
        """Empty sequences are refused, and those that outrun a learned position table."""
        lengths = np.diff(cu_seqlens)
        if lengths.size and lengths.min() <= 1 + self.tokenizer.trail:
            raise DataError(f"sequence {first + int(lengths.argmin())} is empty")
        limit = self.longest
        if limit is not None and lengths.max() > limit:
            index = int(lengths.argmax())
            raise DataError(
                f"sequence {first + index} has {lengths[index] - FRAME} residues; {self.name} has "
                f"learned positions for {limit - FRAME}"
            )


def spans(cu_seqlens: np.ndarray) -> Iterator[tuple[int, int]]:
    """Begin and end of every sequence of a packed batch."""
    bounds = cu_seqlens.tolist()
    return itertools.pairwise(bounds)


def _length_of(texts: Any) -> int | None:
    try:
        return len(texts)
    except TypeError:
        return None


def checked_batch(batch_tokens: int | None) -> int:
    """`batch_tokens`, if it is a number of tokens; for None what suits the number of threads."""
    if batch_tokens is None:
        from moltide._engine import num_threads

        return max(_BATCH_TOKENS, _THREAD_TOKENS * num_threads())
    if isinstance(batch_tokens, bool) or not isinstance(batch_tokens, int) or batch_tokens < 1:
        raise ConfigError(f"batch_tokens is {batch_tokens!r}; allowed: an integer above 0")
    return batch_tokens
