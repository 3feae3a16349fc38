"""How many steps a run takes, what they cost, and whether they fit into memory."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moltide.assay_model.memory import step_too_large
from moltide.options import option
from moltide.pretraining.options import PretrainOptions
from moltide.pretraining.order import Batch, Order, batches, batches_an_epoch
from moltide.pretraining.start import engine_trainer
from moltide.tokenizer import FRAME

if TYPE_CHECKING:
    from moltide.encoder import Encoder

_TIMED_STEPS = 3
_FEWEST_STEPS = 20
_VALIDATIONS, _VALID_APART = 20, 50


@dataclass(frozen=True)
class Plan:
    """Attributes:
    steps: of the run; `why` says what decided: "steps", "epochs" or "time".
    warmup: steps of rising rate. valid_every: steps between validations.
    steps_an_epoch: batches in one pass over the data.
    """

    steps: int
    warmup: int
    valid_every: int
    steps_an_epoch: float
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(options: PretrainOptions, order: Order, seconds_a_step: float | None) -> Plan:
    """The plan of a run; `seconds_a_step` cuts it to `max_minutes`."""
    an_epoch = batches_an_epoch(order, options.batch_tokens)
    candidates: list[tuple[int, str]] = []
    if options.steps is not None:
        candidates.append((options.steps, "steps"))
    if options.epochs is not None or (options.steps is None and options.max_minutes is None):
        wanted = 1.0 if options.epochs is None else options.epochs
        candidates.append((max(1, round(wanted * an_epoch)), "epochs"))
    if options.max_minutes is not None and seconds_a_step is not None:
        fitting = int(60 * options.max_minutes / max(1e-9, seconds_a_step))
        candidates.append((max(_FEWEST_STEPS, fitting), "time"))
    steps, why = min(candidates)
    warmup = options.warmup
    if warmup is None:
        warmup = min(max(10, min(2000, round(0.02 * steps))), steps // 2)
    every = options.valid_every or max(_VALID_APART, math.ceil(steps / _VALIDATIONS))
    return Plan(steps, warmup, min(every, steps), an_epoch, why)


def time_a_step(
    encoder: Encoder,
    options: PretrainOptions,
    order: Order,
    dataset: Callable[[Batch], tuple[Any, ...]],
) -> float:
    """Median seconds of a step, by computing gradients that change nothing."""
    trainer = engine_trainer(encoder, options, 1, 0)
    seconds = []
    for batch in itertools.islice(batches(order, options.batch_tokens), _TIMED_STEPS + 1):
        start = time.perf_counter()
        trainer.set_dataset(*dataset(batch))
        trainer.gradients(np.arange(len(batch.begins), dtype=np.int64))
        seconds.append(time.perf_counter() - start)
    # The first one also packs weights and grows the arena.
    return float(np.median(seconds[1:] or seconds))


def step_memory(encoder: Encoder, options: PretrainOptions) -> dict[str, int]:
    """Bytes of the largest step by purpose, with "total" and "available".

    Raises:
        MemoryPlanError: it does not fit; what is needed, by part, and what helps.
    """
    trainer = engine_trainer(encoder, options, 1, 0)
    tokens = min(options.max_tokens, options.batch_tokens)
    longest = options.longest + FRAME
    whole, rest = divmod(tokens, longest)
    lengths = [longest] * whole + ([rest] if rest else [])
    micro_batches = math.ceil(options.batch_tokens / options.max_tokens)
    plan = {name: int(n) for name, n in trainer.plan_memory(lengths, micro_batches).items()}
    if plan["activations"] + plan["packed_weights"] > plan["available"]:
        raise step_too_large(
            plan,
            f"a smaller {option('max_tokens')} (and {option('longest')}), "
            f"{option('recompute', True)}, or a smaller model",
        )
    return plan


def flops_a_token(encoder: Encoder, mean_length: float) -> float:
    """Floating-point operations of a training step per token: forward, and twice that backward."""
    config = encoder.config
    inner = config["heads"] * config["head_dim"]
    matrices = 0
    for name, shape in encoder.model.parameters():
        if name.endswith(".features"):
            continue
        if len(shape) == 2 and not name.startswith(("embed.", "contact.", "head.")):
            matrices += shape[0] * shape[1]
    if config["tie_lm_head"]:
        matrices += config["vocab"] * config["width"]
    # Products with every key, or with sums over keys: features of both, the sums, the output.
    width = 4 * config["features"] if config["attention"] == "linear" else 2 * mean_length
    attention = config["layers"] * inner * width
    return float(3 * 2 * (matrices + attention))


def parameter_count(encoder: Encoder) -> int:
    """Parameters of the encoder with its masked-LM head."""
    return sum(math.prod(shape) for _, shape in encoder.model.parameters())
