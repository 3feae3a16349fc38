"""The table as training rows: parts, tasks, zero-shot scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moltide.assay_model import ModelSpec, Rows
from moltide.errors import DataError
from moltide.options import option
from moltide.pairs import is_pair, of_chains
from moltide.tasks import CLASSIFICATION, REGRESSION

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.encoder import Encoder
    from moltide.splits import Split

FloatArray = npt.NDArray[np.float64]


def spec_of(table: AssayTable) -> ModelSpec:
    """The model's task.

    Raises:
        ConfigError: several targets with more than two classes.
    """
    classes = tuple(table.classes or ())
    own = tuple(tuple(one or ()) for one in table.target_classes)
    scales = tuple(map(table.scale_of, range(len(table.target_names))))
    names = tuple(table.target_names)
    return ModelSpec(table.task, "sequence", names, classes, own, scales, table.paired)


def rows_of(table: AssayTable, index: npt.ArrayLike) -> Rows:
    """Rows of the table."""
    chosen = np.asarray(index, np.int64)
    censor = table.censor[chosen].astype(np.int8)
    return Rows(
        [table.sequences[i] for i in chosen],
        np.ascontiguousarray(table.targets[chosen], np.float64),
        censor if censor.any() else None,
        names=[";".join(map(str, table.rows[i])) for i in chosen],
    )


def kinds_of(table: AssayTable) -> list[tuple[str, list[int]]]:
    """(task, its targets): numbers before classes."""
    tasks = [table.task_of(j) for j in range(len(table.target_names))]
    return [
        (kind, [j for j, task in enumerate(tasks) if task == kind])
        for kind in (REGRESSION, CLASSIFICATION)
        if kind in tasks
    ]


def check_parts(table: AssayTable, split: Split) -> None:
    """Refuse a split whose training part holds nothing to learn for some target, or a table of a
    single target without a test value.

    Raises:
        DataError: naming part and target.
    """
    several = len(table.target_names) > 1
    for j, name in enumerate(table.target_names):
        for part in ("train",) if several else ("train", "test"):
            values = table.targets[split.index(part), j]
            values = values[~np.isnan(values)]
            if not len(values):
                raise DataError(
                    f"{table.summary.source}: target {name!r} has no value in the {part} part of "
                    f"the {split.method} split; choose another {option('split')}"
                    + (f", or leave it out of {option('target')}" if several else "")
                )
            if part == "train" and len(np.unique(values)) < 2:
                classes = table.classes_of(j)
                only = f"{values[0]:g}" if classes is None else repr(classes[int(values[0])])
                raise DataError(
                    f"{table.summary.source}: target {name!r} is {only} in every one of "
                    f"{len(values)} training rows of the {split.method} split; there is nothing "
                    "to learn" + (f"; leave it out of {option('target')}" if several else "")
                )


def zero_shot(table: AssayTable, encoder: Encoder) -> Callable[[list[str]], FloatArray] | str:
    """Scores of sequences from the frozen masked language model, or why there are none.

    Variants of a wild type: masked marginals (one pass a mutated position), and the lowest of
    them for the few of another length. Other tables: the mean log probability of the residues in
    one unmasked pass.
    """
    if not encoder.config["lm_head"]:
        return "the backbone has no masked-LM head"
    wild = table.wildtype
    if wild is not None and table.substitutions is not None:
        parent: str = wild

        def marginals(sequences: list[str]) -> FloatArray:
            from moltide.assay import diff

            fitting = [i for i, text in enumerate(sequences) if len(text) == len(parent)]
            changes = [diff(parent, sequences[i]) for i in fitting]
            scores: FloatArray = np.full(len(sequences), np.nan)
            scores[fitting] = encoder.score_variants(parent, changes)
            return np.where(np.isnan(scores), np.nanmin(scores), scores)

        return marginals
    return lambda sequences: mean_log_probability(encoder, sequences)


def mean_log_probability(encoder: Encoder, sequences: list[str]) -> FloatArray:
    """(n,) mean over residues of the log probability of what stands there, one pass each."""
    scores = np.zeros(len(sequences))
    block = 256
    for start in range(0, len(sequences), block):
        part = sequences[start : start + block]
        tokens, cu = encoder.tokenizer.encode(part)
        for i, logits in enumerate(encoder.logits(part)):
            wide = np.asarray(logits[1:-1], np.float64)
            top = wide.max(axis=1)
            norm = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
            own = tokens[cu[i] + 1 : cu[i + 1] - 1]
            each = wide[np.arange(len(own)), own] - norm
            if is_pair(part[i]):  # the linker says nothing of the chains
                each = each[of_chains(part[i])]
            scores[start + i] = float(np.mean(each))
    return scores
