"""What a run leaves for people and programs: metrics.json, training.json, the model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moltide.kinds import RNA, UNIT
from moltide.pretraining.descriptors import COUNT
from moltide.pretraining.folder import FORMAT
from moltide.pretraining.loop import Progress
from moltide.pretraining.options import PretrainOptions
from moltide.pretraining.plan import Plan
from moltide.wording import count_text


def labels(unit: str) -> dict[str, str]:
    """Name in metrics.json -> what a reader reads; `unit` is "residues", "nucleotides" or
    "tokens"."""
    return {
        "unigram": f"{unit.removesuffix('s')} frequencies",
        "kmer": f"k-mer model (two {unit} on each side)",
    }


@dataclass(frozen=True)
class Facts:
    """What a finished run did. `data` are sentences about files and split; `identity` is the
    run's; `kind` is of the records, which are made of `unit`s."""

    options: PretrainOptions
    plan: Plan
    state: Progress
    model: dict[str, Any]
    data: list[str]
    train_sequences: int
    train_residues: int
    valid_sequences: int
    valid_residues: int
    hidden: int
    kind: str
    unit: str
    identity: dict[str, Any]


def metrics_document(
    facts: Facts, final: float, baselines: Mapping[str, Any], descriptors: float | None = None
) -> dict[str, Any]:
    """The content of metrics.json; `descriptors` is the R2 of those predicted."""
    state = facts.state
    document: dict[str, Any] = {
        "task": "masked language model",
        "kind": facts.kind,
        "n_train": facts.train_sequences,
        "n_valid": facts.valid_sequences,
        "hidden_residues": facts.hidden,
        "steps": state.step,
        "best_step": state.best_step,
        "tokens": state.tokens,
        "model": {"perplexity": final},
        "baselines": {name: {"perplexity": value} for name, value in baselines["all"].items()},
    }
    if descriptors is not None:
        document["descriptors"] = {
            "count": COUNT,
            "model": {"r2": descriptors},
            "baselines": {"token_counts": {"r2": baselines["descriptors"]}},
        }
    return {**document, "verdict": verdict(document)}


def verdict(metrics: Mapping[str, Any]) -> str:
    """One sentence: the model's perplexity beside the baselines'."""
    mine = float(metrics["model"]["perplexity"])
    others = {name: float(row["perplexity"]) for name, row in metrics["baselines"].items()}
    label = labels(f"{UNIT[metrics['kind']]}s")
    listed = ", ".join(f"{label[name]} {value:.2f}" for name, value in others.items())
    if mine < min(others.values()):
        return f"validation perplexity {mine:.2f}, better than {listed}"
    beaten = [name for name, value in others.items() if mine < value]
    short = "no better than" if not beaten else "not better than all of"
    return f"validation perplexity {mine:.2f}, {short} {listed}: train longer, or on more"


def configuration(facts: Facts, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The content of training.json."""
    from moltide.finetune.environment import environment

    return {
        "format": FORMAT,
        "format_version": 1,
        "model": facts.model,
        "plan": facts.plan.to_dict(),
        "training": {
            "steps": facts.state.step,
            "tokens": facts.state.tokens,
            "best_step": facts.state.best_step,
            "stopped": facts.state.stopped,
            "seconds": round(facts.state.seconds, 1),
            "history": facts.state.history,
        },
        "data": facts.data,
        "metrics": dict(metrics),
        "identity": facts.identity,
        "environment": environment(),
    }


def card(facts: Facts, metrics: Mapping[str, Any]) -> str:
    """A model card with everything the run knows; what only its author knows is asked for."""
    options, state, model = facts.options, facts.state, facts.model
    data = "\n".join(f"- {line}" for line in facts.data)
    rows = {
        "this model": metrics["model"],
        **{labels(facts.unit)[name]: row for name, row in metrics["baselines"].items()},
    }
    table = "\n".join(f"| {name} | {row['perplexity']:.3f} |" for name, row in rows.items())
    table += _descriptor_lines(metrics)
    start = "new weights" if options.backbone is None else f"the weights of {options.backbone}"
    values = {**dataclasses.asdict(options), "lr": options.peak_lr}
    settings = {
        name: value for name, value in values.items() if name in _SHOWN and value is not None
    }
    shown = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"""---
library_name: moltide
pipeline_tag: fill-mask
license: unknown
tags:
- {facts.kind}
- masked-lm
---
# (name of the model)

(What it is for, the licence of the weights, the source and licence of the data.)

{model["layers"]} layers, width {model["width"]}, {model["heads"]} heads, \
{count_text(model["parameters"])} parameters, in the layout of `{model["architecture"]}`.

```python
import moltide as mt
encoder = mt.load("FOLDER")
```
{_spelling_line(facts.kind)}
## Data

{data}

Training: {facts.train_sequences:,} sequences, {facts.train_residues:,} {facts.unit}; the model \
has seen {state.tokens:,} tokens in {state.step:,} steps, from {start}.

## Validation

Perplexity at {facts.hidden:,} hidden {facts.unit} (15 %, always the same) of \
{facts.valid_sequences:,} sequences:

| | perplexity |
|---|---|
{table}

The baselines were counted on the training part. The k-mer model predicts one from the two \
before and the two after it, hidden at the same rate.

## Training

Masked language model (moltide pretrain): {shown}.
"""


def _spelling_line(kind: str) -> str:
    """What the card says to readers with other libraries."""
    if kind != RNA:
        return ""
    return "\nmoltide reads lower case and T too; Transformers' tokenizer wants upper case and U.\n"


def _descriptor_lines(metrics: Mapping[str, Any]) -> str:
    """What the card says of descriptors that were learned too."""
    if "descriptors" not in metrics:
        return ""
    found = metrics["descriptors"]
    baseline = found["baselines"]["token_counts"]["r2"]
    return (
        f"\n\nR2 of {found['count']} RDKit descriptors (normal scores) that a linear layer "
        f"predicts from the mean over tokens: {found['model']['r2']:.3f}; ridge regression on the "
        f"counts of tokens: {baseline:.3f}."
    )


_SHOWN = (
    *("batch_tokens", "lr", "schedule", "min_lr_ratio", "beta1", "beta2", "weight_decay"),
    *("clip_norm", "mask_rate", "mask_token", "mask_random", "longest", "long", "cluster_weight"),
    *("augment", "descriptors", "descriptor_weight", "dtype", "keep", "seed"),
)
