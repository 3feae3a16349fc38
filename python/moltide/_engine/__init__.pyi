"""
The C++ engine of moltide; use it through the moltide package.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
from . import ops

__all__: list[str] = [
    "Model",
    "Trainer",
    "active_isa",
    "available_isas",
    "available_memory",
    "cpu_model",
    "num_threads",
    "ops",
    "set_isa",
    "set_num_threads",
]

class Model:
    """
    An encoder with its adapters and task head. Arrays are float32; tokens (T) int32 and cu_seqlens (B + 1) int32 describe a packed batch; a model that sees distances needs coordinates (T, 3) too; one with a stream of pairs a tuple of them and int16 categories, -1 for none: of tokens (T, 10), and of pairs (sum L^2, 5), pair (query i, key j) of a sequence at its row j * L + i.
    """
    def __init__(self, config: dict, dtype: str = "float32") -> None: ...
    def adapter_config(self, name: str) -> dict: ...
    def adapters(self) -> list[str]: ...
    def add_adapter(
        self,
        name: str,
        rank: typing.SupportsInt | typing.SupportsIndex,
        alpha: typing.SupportsFloat | typing.SupportsIndex,
        dropout: typing.SupportsFloat | typing.SupportsIndex,
        targets: collections.abc.Sequence[str],
        seed: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def attention_probs(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        layer: typing.SupportsInt | typing.SupportsIndex,
        adapter: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> list:
        """
        One (H, L, L) array a sequence.
        """
    def contacts(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        adapter: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> list:
        """
        One (l, l) array of contact probabilities a sequence.
        """
    def get_parameter(self, name: str) -> numpy.typing.NDArray[numpy.float32]:
        """
        A copy of the values.
        """
    def has_parameter(self, arg0: str) -> bool: ...
    def hidden(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        adapter: typing.Any = None,
        all_layers: bool = False,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> numpy.typing.NDArray[numpy.float32]:
        """
        (T, C), or (layers + 1, T, C) from the embedding output to the final norm's output.
        """
    def load_parameters(
        self,
        path: str,
        tensors: collections.abc.Sequence[
            tuple[str, str, str, typing.SupportsInt | typing.SupportsIndex]
        ],
    ) -> None:
        """
        Takes parameters from a file of weights that stays open: (parameter, name there, dtype F32, BF16, F16 or F64, first byte) of each. Their shapes must be those of the model.
        """
    def logits(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        adapter: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> numpy.typing.NDArray[numpy.float32]:
        """
        (T, V) of the masked-LM head.
        """
    def merge_adapter(self, name: str) -> None:
        """
        Add the adapter into the weights and drop it.
        """
    def parameters(self) -> list:
        """
        (name, shape) of every parameter.
        """
    def plan_memory(
        self,
        lengths: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        lm_head: bool = False,
    ) -> dict:
        """
        Bytes that inference over sequences of these token counts needs.
        """
    def pooled(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        pool: str = "mean",
        adapter: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> numpy.typing.NDArray[numpy.float32]:
        """
        (B, C): mean over residues, or the <cls> position.
        """
    def predict(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        adapter: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> numpy.typing.NDArray[numpy.float32]:
        """
        (B, outputs) of the task head, or (T, outputs).
        """
    def predict_with_input(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        cu_seqlens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        adapter: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.float32]]:
        """
        predict, and what the head reads: (B, C) pooled as the head pools, or (T, C).
        """
    def remove_adapter(self, name: str) -> None: ...
    def remove_head(self) -> None: ...
    def set_head(
        self, config: dict, seed: typing.SupportsInt | typing.SupportsIndex = 0
    ) -> None: ...
    def set_parameter(
        self, name: str, values: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
    ) -> None: ...
    @property
    def activations(self) -> str: ...
    @property
    def config(self) -> dict: ...
    @property
    def dtype(self) -> str: ...
    @property
    def has_head(self) -> bool: ...
    @property
    def head_config(self) -> typing.Any: ...

class Trainer:
    """
    Trains a Model: AdamW, clipping, schedule, gradient accumulation.
    """
    def __init__(self, model: Model, config: dict) -> None: ...
    def gradients(self, rows: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> tuple:
        """
        (loss, {parameter: gradient}) without an update.
        """
    def load_state(self, state: dict) -> None: ...
    def plan_memory(
        self,
        lengths: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        micro_batches: typing.SupportsInt | typing.SupportsIndex = 1,
    ) -> dict:
        """
        Bytes that a step of so many micro-batches needs, the largest of which has sequences of these token counts. Of a single one, what gradients and activations use in turn counts as gradients.
        """
    def set_dataset(
        self,
        tokens: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
        offsets: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        targets: typing.Any = None,
        censor: typing.Any = None,
        weights: typing.Any = None,
        coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.float32]
        | tuple[
            typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
            typing.Annotated[numpy.typing.ArrayLike, numpy.int16],
        ]
        | None = None,
    ) -> None:
        """
        tokens (sum L) int32, offsets (N + 1) int64, targets (N, k) or per residue (sum L, k) float32 with NaN = missing, censor (N, k) int8, weights (N), or for the objective mixed (N, k), float32; coordinates (sum L, 3) float32 for a model that sees distances, with what Model says where it has a stream of pairs.
        """
    def state(self) -> dict:
        """
        Everything a bit-exact resume needs, as arrays.
        """
    def step(self, rows: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]) -> dict:
        """
        One update on these dataset rows: loss, grad_norm, lr, tokens, sequences, step.
        """
    def trained_parameters(self) -> list[str]: ...

def active_isa() -> str: ...
def available_isas() -> list[str]: ...
def available_memory() -> int:
    """
    Bytes this process can still take (machine and cgroup).
    """

def cpu_model() -> str: ...
def num_threads() -> int:
    """
    Number of threads the engine computes with.
    """

def set_isa(name: str) -> None:
    """
    Force an instruction set (one of available_isas()); raises ValueError otherwise.
    """

def set_num_threads(n: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Number of threads the engine computes with (1..1024); results do not depend on it.
    """
