"""Whether a training step fits into memory, found out before the first one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from moltide.assay_model.preparation import Preparation
from moltide.errors import MemoryPlanError
from moltide.options import option
from moltide.wording import bytes_text


def largest_pass(lengths: np.ndarray, max_tokens: int, batch_size: int) -> list[int]:
    """Token counts of the largest micro-batch that any order of the sequences can make."""
    longest = np.sort(lengths)[::-1][:batch_size]
    fitting = max(1, int(np.searchsorted(np.cumsum(longest), max_tokens, side="right")))
    return [int(n) for n in longest[:fitting]]


def step_memory(ready: Preparation) -> dict[str, int]:
    """Bytes by purpose ("weights", "activations", ..., "total", "available", and "missing": what
    the first step will still allocate) of the largest step.

    Raises:
        MemoryPlanError: gradients and optimizer state alone do not fit.
    """
    settings = ready.settings
    trainer = ready.trainer()
    largest = min(int(settings.batch_size), len(ready.data.lengths))
    lengths = largest_pass(ready.data.lengths, int(settings.max_tokens), largest)
    micro_batches = 1 if len(lengths) == largest else 2
    plan = {name: int(n) for name, n in trainer.plan_memory(lengths, micro_batches).items()}
    # Weights, gradients and optimizer state are held by now.
    plan["missing"] = plan["activations"] + plan["packed_weights"]
    return plan


def settle_memory(ready: Preparation, say: Callable[[str], None] | None = None) -> Preparation:
    """The preparation with recomputation decided: off if a step fits without it, else on.

    Raises:
        MemoryPlanError: it does not fit either way; what is needed, by part, and what helps.
    """
    asked = ready.settings.recompute
    ready = ready.with_recompute(bool(asked))
    plan = step_memory(ready)
    if plan["missing"] <= plan["available"]:
        return ready
    if asked is None:
        frugal = ready.with_recompute(True)
        smaller = step_memory(frugal)
        if smaller["missing"] <= smaller["available"]:
            if say is not None:
                say(
                    f"blocks are recomputed in the backward pass: without, a step would take "
                    f"{bytes_text(plan['total'])} of {bytes_text(plan['available'])} free"
                )
            return frugal
        plan = min(plan, smaller, key=lambda one: one["missing"])
    settings = ready.settings
    advice = "a smaller backbone, or shorter sequences"
    if settings.adapter == "full":
        advice = f"{option('adapter', 'lora')}, {advice}"
    longest = int(ready.data.lengths.max())
    if longest < settings.max_tokens:
        advice = (
            f"{option('max_tokens')} below {settings.max_tokens:,} (the longest sequence has "
            f"{longest:,}), {advice}"
        )
    raise step_too_large(plan, advice)


def step_too_large(plan: Mapping[str, int], advice: str) -> MemoryPlanError:
    """The error that says what a step needs, part by part, and what helps."""
    parts = ", ".join(
        f"{name.replace('_', ' ')} {bytes_text(plan[name])}"
        for name in ("weights", "packed_weights", "gradients", "optimizer", "activations")
    )
    return MemoryPlanError(
        f"a training step needs {bytes_text(plan['total'])} ({parts}); "
        f"{bytes_text(plan['available'])} are free. What helps: {advice}"
    )
