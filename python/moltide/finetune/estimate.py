"""What a run will take, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moltide.assay_model.memory import settle_memory, step_memory
from moltide.assay_model.model import ADAPTER
from moltide.assay_model.preparation import Preparation, prepare
from moltide.assay_model.weighting import MOST
from moltide.options import option
from moltide.tasks import MIXED
from moltide.training.plan import make_plan, time_steps
from moltide.training.progress import clock
from moltide.wording import bytes_text, count_text

if TYPE_CHECKING:
    from moltide.assay_model import ModelSpec, Rows
    from moltide.encoder import Encoder
    from moltide.training import TrainSettings

_SHOWN = 6
# Ratios of the weights of two classes that are worth a word.
_UNEVEN = 1.5


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
        lines = [*_model_lines(ready), *_class_lines(spec), *weighting_lines(ready), *said]
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
    spelled = []
    if settings.augment:
        spelled.append(
            f"spellings: each molecule in its canonical SMILES and {settings.augment} random ones, "
            "another in each epoch"
        )
    return [
        f"{name}: {config['layers']} layers, width {config['width']}, {count_text(total)} "
        f"parameters, {ready.encoder.dtype}",
        f"trained: {how} ({count_text(trained)} parameters); loss {settings.loss}, "
        f"learning rate {settings.lr:g}, batches of {settings.batch_size}, "
        f"at most {settings.epochs} epochs",
        *spelled,
    ]


def _class_lines(spec: ModelSpec) -> list[str]:
    if not spec.binary:
        return []
    if len(spec.target_names) == 1:
        negative, positive = spec.classes
        return [
            f"positive class: {positive!r}, against {negative!r} (AUROC, AUPRC and ranks are for "
            "it)"
        ]
    words = [
        f"{spec.target_names[j]} {spec.classes_of(j)[1]!r} (against {spec.classes_of(j)[0]!r})"
        for j in spec.of_classes
    ]
    return [f"positive classes: {_listed(words)}"]


def weighting_lines(ready: Preparation) -> list[str]:
    """What values weigh, where that differs between targets or classes."""
    names, weighting = ready.spec.target_names, ready.weighting
    lines: list[str] = []
    if ready.spec.task == MIXED:
        lines.append("score: the mean over targets of Spearman and 2 AUROC - 1 (0 is chance)")
    if ready.column_losses is not None and len(names) > 1:
        by_loss: dict[str, list[str]] = {}
        for name, loss in zip(names, ready.column_losses, strict=True):
            by_loss.setdefault(loss, []).append(name)
        parts = [f"{loss} for {_listed(own)}" for loss, own in by_loss.items()]
        lines += [f"losses: {'; '.join(parts)}"] if len(by_loss) > 1 else []
    counts, each = weighting.counts, weighting.endpoint
    few, many = int(counts.argmin()), int(counts.argmax())
    if ready.settings.endpoint_weights != "rows" and counts[few] < counts[many]:
        root = ready.settings.endpoint_weights == "root"
        rule = "the square root of its number" if root else "its number"
        lines.append(
            f"targets: a value weighs one over {rule} of training values, so one of "
            f"{names[few]!r} ({counts[few]:,}) {each[few] / each[many]:.1f} times one of "
            f"{names[many]!r} ({counts[many]:,})"
        )
    ratios = {j: own.max() / own.min() for j, own in enumerate(weighting.classes) if len(own)}
    words = [f"{names[j]} {ratio:.1f} to 1" for j, ratio in ratios.items() if ratio > _UNEVEN]
    if words:
        lines.append(
            f"classes of unequal number: the rarer one weighs more ({_listed(words)}; at most "
            f"{MOST:g} to 1), and probabilities are corrected for it"
        )
    return lines


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _time_lines(ready: Preparation) -> list[str]:
    n = ready.rows
    a_step = time_steps(ready.trainer(), n, ready.settings)
    plan = make_plan(n, ready.settings, lambda: a_step)
    why = f" (cut to {option('max_minutes')})" if plan.why == "time" else ""
    return [
        f"time: {1000 * a_step:,.0f} ms a step, {plan.steps:,} steps{why}: about "
        f"{clock(a_step * plan.steps)} of training, if it does not end early"
    ]
