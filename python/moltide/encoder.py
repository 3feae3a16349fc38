"""An encoder with its tokenizer: embeddings, logits, contacts, heads, adapters, saving."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide import scoring
from moltide.conformers.places import coordinates_of
from moltide.errors import ConfigError
from moltide.packed import (
    Adapter,
    Compute,
    PackedModel,
    checked_batch,
    spans,
)
from moltide.sequences import ProgressCallback
from moltide.tokenization.base import Tokenizer

if TYPE_CHECKING:
    from moltide.int8_cost import Int8Cost
    from moltide.pretrained.checkpoint import Checkpoint

DEFAULT_TARGETS = ("attn.q", "attn.k", "attn.v", "attn.out")


class Encoder(PackedModel):
    """A published encoder on this machine; `moltide.load` makes one.

    Sequences are lists of text, generators, or columns (NumPy, pandas, polars, Arrow). They are
    packed end to end in runs of at most `batch_tokens` tokens; a sequence's result has the same
    bits whatever the others, the order and `batch_tokens` are.
    """

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, tokenizer: Tokenizer, *, name: str, dtype: str
    ) -> Encoder:
        """Build the engine's model over the checkpoint's files, which it keeps open: weights that
        only matmuls read are packed from there, and again when they are needed otherwise.

        Raises:
            CheckpointError: a weight is NaN or infinite, or a file cannot be read.
        """
        from moltide import _engine

        model = _engine.Model(checkpoint.config, dtype)
        if checkpoint.head is not None:
            model.set_head(checkpoint.head, 0)
        for path, tensors in checkpoint.by_file().items():
            model.load_parameters(path, tensors)
        for parameter, values in checkpoint.loose():
            model.set_parameter(parameter, values)
        return cls(
            model,
            tokenizer,
            family=str(checkpoint.published["model_type"]),
            published=checkpoint.published,
            kept=checkpoint.kept,
            name=name,
            notes=checkpoint.notes,
        )

    def __repr__(self) -> str:
        c = self.config
        return (
            f"Encoder({self.name!r}, layers={c['layers']}, width={c['width']}, "
            f"heads={c['heads']}, dtype={self.dtype!r})"
        )

    # ---- results for sequences -------------------------------------------------------------

    def embed(
        self,
        sequences: Any,
        pool: str | None = "mean",
        *,
        adapter: Adapter = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
        progress: bool | ProgressCallback | None = None,
    ) -> Any:
        """Embeddings of the last layer, after the final norm.

        Args:
            sequences: N sequences.
            pool: "mean" over the residues (<cls> and <eos> left out), "cls", or None.
            adapter: name of one adapter for all, or one name or None for each sequence.
            batch_tokens: tokens in one pass (None: 2,048, with many threads more); memory, never
                the result, depends on it.
            on_illegal: see `Tokenizer.encode`.
            progress: True for a bar, or a function of (sequences done, total or None).

        Returns:
            float32 (N, C); with pool=None a list of (L_i, C), L_i the tokens of a sequence without
            <cls> and <eos>.

        Raises:
            DataError: an empty or illegal sequence, or one beyond the model's positions.
            ConfigError: another `pool`, or an adapter that is not there.
        """
        compute = self._embedding(pool)
        passes = self._passes(
            sequences, compute, adapter, batch_tokens, on_illegal, progress, "embed"
        )
        if pool is None:
            return [rows for listed in passes for rows in listed]
        blocks = [np.asarray(block) for block in passes]
        return np.concatenate(blocks) if blocks else np.empty((0, self.width), dtype=np.float32)

    def _embedding(self, pool: str | None) -> Compute:
        if pool not in ("mean", "cls", None):
            raise ConfigError(f"pool is {pool!r}; allowed: 'mean', 'cls', None")

        trail = self.tokenizer.trail

        def residues(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> list[np.ndarray]:
            hidden = self.model.hidden(tokens, cu, use, False, coordinates_of(tokens))
            return [hidden[a + 1 : b - trail].copy() for a, b in spans(cu)]

        def pooled(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> Iterable[np.ndarray]:
            return np.asarray(self.model.pooled(tokens, cu, str(pool), use, coordinates_of(tokens)))

        return residues if pool is None else pooled

    def embed_iter(
        self,
        sequences: Any,
        pool: str | None = "mean",
        *,
        adapter: Adapter = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
        progress: bool | ProgressCallback | None = None,
    ) -> Iterator[np.ndarray]:
        """`embed`, one result at a time, for streams that do not fit in memory.

        No more than one pass of `batch_tokens` is held: its sequences and their results.
        """
        compute = self._embedding(pool)
        return self._run(sequences, compute, adapter, batch_tokens, on_illegal, progress, "embed")

    def hidden_states(
        self,
        sequences: Any,
        *,
        adapter: Adapter = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
    ) -> list[np.ndarray]:
        """Every layer's residual stream: list of float32 (layers + 1, L_i + 2, C).

        Entry 0 is the embedding, the last one is after the final norm (as in Transformers).
        """
        layers = int(self.model.config["layers"])

        def all_layers(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> list[np.ndarray]:
            hidden = self.model.hidden(tokens, cu, use, True, coordinates_of(tokens))
            return [hidden[:, a:b].copy() for a, b in spans(cu)]

        # Every layer's stream is kept, so a pass holds fewer tokens for the same memory.
        tokens = max(1, checked_batch(batch_tokens) // (layers + 1))
        return list(
            self._run(sequences, all_layers, adapter, tokens, on_illegal, None, "hidden states")
        )

    def logits(
        self,
        sequences: Any,
        *,
        adapter: Adapter = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
        progress: bool | ProgressCallback | None = None,
    ) -> list[np.ndarray]:
        """Masked-LM logits: list of float32 (L_i + 2, V), <cls> first and <eos> last.

        Raises:
            ConfigError: the model has no masked-LM head.
        """
        self._need("lm_head", "masked-LM head")

        def rows(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> list[np.ndarray]:
            values = self.model.logits(tokens, cu, use, coordinates_of(tokens))
            return [values[a:b].copy() for a, b in spans(cu)]

        return list(
            self._run(sequences, rows, adapter, batch_tokens, on_illegal, progress, "logits")
        )

    def contacts(
        self,
        sequences: Any,
        *,
        adapter: Adapter = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
    ) -> list[np.ndarray]:
        """Contact probabilities from the attention maps: list of symmetric float32 (L_i, L_i).

        Raises:
            ConfigError: the checkpoint has no contact head.
        """
        self._need("contact_head", "contact head")

        def maps(tokens: np.ndarray, cu: np.ndarray, use: Adapter) -> list[np.ndarray]:
            return list(self.model.contacts(tokens, cu, use))

        return list(self._run(sequences, maps, adapter, batch_tokens, on_illegal, None, "contacts"))

    def predict(
        self,
        sequences: Any,
        *,
        adapter: Adapter = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
        progress: bool | ProgressCallback | None = None,
    ) -> Any:
        """What the head says, before any softmax or sigmoid.

        An adapter that came with a head of its own is answered by that head.

        Returns:
            float32 (N, outputs); for a per-residue head a list of (L_i, outputs).

        Raises:
            ConfigError: no head, or per-sequence adapters whose heads differ in shape.
        """
        from moltide.adapters import predict

        return predict(self, sequences, adapter, batch_tokens, on_illegal, progress)

    def predict_with_input(
        self,
        sequences: Any,
        *,
        adapter: str | None = None,
        batch_tokens: int | None = None,
        on_illegal: str = "error",
        progress: bool | ProgressCallback | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the head says and what it reads, in one pass.

        Returns:
            float32 (N, outputs), the bits of `predict`, and float32 (N, C), those of `embed` with
            the head's pooling and this adapter.

        Raises:
            ConfigError: no head, or a per-residue head.
        """
        from moltide.adapters import predict_with_input

        return predict_with_input(self, sequences, adapter, batch_tokens, on_illegal, progress)

    def int8_cost(self, sequences: Any, adapter: str | None = None) -> Int8Cost:
        """What dtype="int8" costs in accuracy: results beside those of the same weights in float32.

        Measured on the first 8 of `sequences`, at most 1,000 residues of them; a float32 copy of
        the weights is held meanwhile.

        Args:
            adapter: name of the adapter to measure with.

        Raises:
            ConfigError: the encoder computes in another type, or there is no residue.
        """
        from moltide.int8_cost import measure

        return measure(self, sequences, adapter)

    # The functions themselves, so that signature and docstring stand in one place.
    score_variants = scoring.score_variants
    scan = scoring.scan

    # ---- adapters --------------------------------------------------------------------------

    def add_adapter(
        self,
        name: str,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] = DEFAULT_TARGETS,
        seed: int = 0,
    ) -> None:
        """Lay a fresh LoRA adapter over the backbone; it changes nothing until trained.

        Args:
            targets: among attn.q, attn.k, attn.v, attn.out, mlp.up, mlp.down (and mlp.gate).

        Raises:
            ConfigError: the name is taken, or rank, dropout or a target is not allowed.
        """
        from moltide.adapters import add

        add(self, name, rank, alpha, dropout, targets, seed)

    def load_adapter(
        self, folder: str | os.PathLike[str], name: str = "default", **options: Any
    ) -> None:
        """Lay an adapter in PEFT's format over the backbone; see `adapters.load_adapter`."""
        from moltide.adapters import load_adapter

        load_adapter(self, folder, name, **options)

    def save_adapter(self, name: str, folder: str | os.PathLike[str]) -> None:
        """Write an adapter in PEFT's format; see `adapters.save_adapter`."""
        from moltide.adapters import save_adapter

        save_adapter(self, name, folder)

    def merge_adapter(self, name: str) -> None:
        """Add an adapter into the weights for good; it is gone from `adapters` afterwards."""
        from moltide.adapters import merge

        merge(self, name)

    def remove_adapter(self, name: str) -> None:
        """Drop an adapter; the backbone is untouched."""
        from moltide.adapters import remove

        remove(self, name)

    # ---- head, saving, copying -------------------------------------------------------------

    def set_head(self, head: Mapping[str, Any], seed: int = 0) -> None:
        """Put a fresh head (the engine's head config) in place of the present one."""
        self.model.set_head(dict(head), seed)

    def save(
        self,
        folder: str | os.PathLike[str],
        dtype: str = "float32",
        architecture: str | None = None,
    ) -> None:
        """Write the published format: config.json, model.safetensors, vocabulary.

        Transformers loads the folder back to equal outputs. Adapters are not part of it: merge
        them first or write them with `save_adapter`.

        Args:
            dtype: of the file: "float32", or "bf16" (half the size, rounded).
            architecture: Transformers class to write for, such as "EsmForMaskedLM"; by default the
                class of the head if it has a published form (<cls> through a tanh layer of width
                C, or linear for each residue), else the masked-LM, which leaves the head out.

        Raises:
            ConfigError: `architecture` cannot hold this model, or another dtype.
            OSError: folder not writable, disk full; no file is left half written.
        """
        from moltide.pretrained.saving import save

        save(self, folder, dtype, architecture)

    def __getstate__(self) -> dict[str, Any]:
        from moltide.adapters import state_of

        return state_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        from moltide.adapters import restore

        restore(self, state)
