"""Each target of several fitted alone: which of them gain by company, and which lose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moltide.assay_model import fit_assay_model
from moltide.bootstrap import paired_bootstrap
from moltide.company import Comparison
from moltide.finetune.curve import primary_metric
from moltide.finetune.results import measure
from moltide.finetune.table import rows_of, spec_of
from moltide.kinds import UNIT
from moltide.tasks import CLASSIFICATION
from moltide.training import CheckpointFile, catch_signals
from moltide.training.log import JsonLog
from moltide.verdict import MIN_TEST, exact_values

if TYPE_CHECKING:
    from moltide.assay_model import Prediction
    from moltide.encoder import Encoder
    from moltide.finetune.planned import PlannedRun


def compare_alone(
    run: PlannedRun, column: int, found: Prediction, fresh: Callable[[], Encoder], log: JsonLog,
    minutes: float | None,
) -> Comparison:  # fmt: skip
    """Fit one target alone, on the rows where it was measured, and compare test predictions.

    Args:
        found: what the model of all targets predicts for the test rows.
        fresh: gives an encoder as training starts from.
        minutes: for training; None: as long as it takes.
    """
    table = run.table.endpoint(column)
    measured = ~np.isnan(table.targets[:, 0])
    train, valid, test = (
        index[measured[index]] for index in map(run.split.index, ("train", "valid", "test"))
    )
    spec = spec_of(table)
    # As if it had been fitted by itself: epochs, loss and rates by its own number of rows.
    settings = dataclasses.replace(run.options.settings, max_minutes=minutes)
    if spec.task == CLASSIFICATION and run.table.task != CLASSIFICATION:
        settings = dataclasses.replace(settings, loss="auto")
    name, stage = table.target_names[0], f"alone-{column}"
    with catch_signals() as stop:
        model, _ = fit_assay_model(
            fresh(),
            rows_of(table, train),
            rows_of(table, valid),
            spec,
            settings,
            checkpoint=CheckpointFile(run.folder.checkpoint / f"{stage}.safetensors"),
            fingerprint=run.folder.fingerprint,
            log=log,
            stage=stage,
            view=run.voice.training(spec.metric, f"{name} alone", f"{UNIT[table.kind]}s"),
            stop=stop,
            finish=False,
        )
    alone = model.predict([table.sequences[i] for i in test]).of(spec, 0)
    rows = measured[run.split.index("test")]
    together = found.of(run.spec, column)[rows]
    y = exact_values(table.targets[test, 0], table.censor[test, 0])
    metric = primary_metric(spec.task)
    difference, low, high = paired_bootstrap(
        y,
        together,
        alone,
        metric,
        seed=int(run.settings.seed),
        groups=None if run.split.groups is None else run.split.groups[test],
    )
    own = measure(table, test, 0, alone)
    n_test = int((~np.isnan(y)).sum())
    sure = n_test >= MIN_TEST and (low > 0 or high < 0)
    return Comparison(
        name,
        metric,
        measure(table, test, 0, together)[metric],
        own[metric],
        difference,
        low,
        high,
        bool(low > 0) if sure else None,
        len(train),
        n_test,
        own,
    )
