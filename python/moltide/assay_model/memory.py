"""Whether a training step fits into memory, found out before the first one."""

from __future__ import annotations

import dataclasses
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


def largest_step(ready: Preparation) -> tuple[list[int], int]:
    """Token counts of the largest step's largest micro-batch, and how many of these it has: 1, or 2
    for any more."""
    settings = ready.settings
    sequences = min(int(settings.batch_size), len(ready.data.lengths))
    lengths = largest_pass(ready.data.lengths, int(settings.max_tokens), sequences)
    return lengths, 1 if len(lengths) == sequences else 2


def step_memory(ready: Preparation) -> dict[str, int]:
    """Bytes by purpose ("weights", "activations", ..., "total", "available", and "missing": what
    the first step will still allocate) of the largest step.

    Raises:
        MemoryPlanError: gradients and optimizer state alone do not fit.
    """
    plan = {name: int(n) for name, n in ready.trainer().plan_memory(*largest_step(ready)).items()}
    # Weights, gradients and optimizer state are held by now.
    plan["missing"] = plan["activations"] + plan["packed_weights"]
    return plan


def recompute_levels(ready: Preparation) -> tuple[str, ...]:
    """What of the backward pass's recomputation may be tried, the fastest first."""
    asked = ready.settings.recompute
    if asked is not None:
        return ("blocks",) if asked else ("none",)
    # Gradients of a single pass lie where its activations were. In float32 these can be twice as
    # large, and "mlp" saves most of what recomputing whole blocks does at half the time.
    _, micro_batches = largest_step(ready)
    full = ready.settings.adapter == "full" and ready.encoder.dtype == "float32"
    return ("mlp", "blocks") if full and micro_batches == 1 else ("none", "mlp", "blocks")


def settle_memory(ready: Preparation, say: Callable[[str], None] | None = None) -> Preparation:
    """The preparation with recomputation decided: the least with which a step fits.

    Raises:
        MemoryPlanError: it does not fit with any; what is needed, by part, and what helps.
    """
    plans = []
    for level in recompute_levels(ready):
        settled = dataclasses.replace(ready, recompute=level)
        plans.append(step_memory(settled))
        if plans[-1]["missing"] <= plans[-1]["available"]:
            if len(plans) > 1 and say is not None:
                what = "blocks are" if level == "blocks" else "a part of each block is"
                say(
                    f"{what} recomputed in the backward pass: without, a step would take "
                    f"{bytes_text(plans[0]['total'])} of {bytes_text(plans[0]['available'])} free"
                )
            return settled
    plan = min(plans, key=lambda one: one["missing"])
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
