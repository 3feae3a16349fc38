"""What a run will take, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moltide.assay_model.memory import settle_memory, step_memory
from moltide.assay_model.model import ADAPTER
from moltide.assay_model.preparation import Preparation, prepare
from moltide.options import option
from moltide.training.plan import make_plan, time_steps
from moltide.training.progress import clock
from moltide.wording import bytes_text, count_text

if TYPE_CHECKING:
    from moltide.assay_model import ModelSpec, Rows
    from moltide.encoder import Encoder
    from moltide.training import TrainSettings


@dataclass(frozen=True)
class Estimate:
    """Resolved settings, and what they mean on this machine."""

    settings: TrainSettings
    lines: list[str]


def estimate(
    encoder: Encoder,
    train: Rows,
    spec: ModelSpec,
    settings: TrainSettings,
    *,
    timed: bool,
) -> Estimate:
    """Memory of a training step (refused if it does not fit), and with `timed` its time.

    The encoder is as before afterwards.

    Raises:
        MemoryPlanError: a step does not fit into the memory that is free.
        ConfigError, DataError: see `assay_model.preparation.prepare`.
    """
    said: list[str] = []
    try:
        ready = settle_memory(prepare(encoder, train, spec, settings), said.append)
        plan = step_memory(ready)
        lines = [*_model_lines(ready), *_class_lines(spec), *said]
        lines.append(
            f"memory of a step: {bytes_text(plan['total'])}; free: {bytes_text(plan['available'])}"
        )
        if timed:
            lines += _time_lines(ready)
        return Estimate(ready.settings, lines)
    finally:
        strip(encoder)


def strip(encoder: Encoder) -> None:
    """Take off the adapter and head that `prepare` puts on."""
    if ADAPTER in encoder.adapters:
        encoder.remove_adapter(ADAPTER)
    encoder.model.remove_head()


def _model_lines(ready: Preparation) -> list[str]:
    config, settings = ready.encoder.config, ready.settings
    parameters = ready.encoder.model.parameters()
    total = trained = 0
    for name, shape in parameters:
        size = 1
        for n in shape:
            size *= n
        own = name.startswith(("head.", "adapters."))
        total += 0 if own else size
        trained += size if own or settings.adapter == "full" else 0
    how = {
        "lora": f"LoRA of rank {settings.rank} on {', '.join(settings.targets)}",
        "full": "every weight",
        "head": "the head alone",
    }[settings.adapter]
    name = ready.encoder.name
    return [
        f"{name}: {config['layers']} layers, width {config['width']}, {count_text(total)} "
        f"parameters, {ready.encoder.dtype}",
        f"trained: {how} ({count_text(trained)} parameters); loss {settings.loss}, "
        f"learning rate {settings.lr:g}, batches of {settings.batch_size}, "
        f"at most {settings.epochs} epochs",
    ]


def _class_lines(spec: ModelSpec) -> list[str]:
    if not spec.binary:
        return []
    negative, positive = spec.classes
    return [
        f"positive class: {positive!r}, against {negative!r} (AUROC, AUPRC and ranks are for it)"
    ]


def _time_lines(ready: Preparation) -> list[str]:
    n = len(ready.data)
    a_step = time_steps(ready.trainer(), n, ready.settings)
    plan = make_plan(n, ready.settings, lambda: a_step)
    why = f" (cut to {option('max_minutes')})" if plan.why == "time" else ""
    return [
        f"time: {1000 * a_step:,.0f} ms a step, {plan.steps:,} steps{why}: about "
        f"{clock(a_step * plan.steps)} of training, if it does not end early"
    ]
