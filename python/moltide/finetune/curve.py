"""How the test metric grows with the number of training rows, for the model and a baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moltide.assay_model import ModelSpec, Prediction, fit_assay_model
from moltide.baselines import fit_baselines
from moltide.baselines.result import CURVE_BASELINE
from moltide.finetune.budget import CURVE_FITS, Budget
from moltide.finetune.results import headline, measure
from moltide.finetune.table import kinds_of, rows_of
from moltide.kinds import UNIT
from moltide.tasks import CLASSIFICATION, REGRESSION
from moltide.training import CheckpointFile, FitResult, TrainSettings, catch_signals
from moltide.training.log import JsonLog

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.encoder import Encoder
    from moltide.finetune.folder import RunFolder
    from moltide.finetune.voice import Voice
    from moltide.splits import Split

SHARES = (1 / 16, 1 / 4)
_FEWEST_ROWS = 24


@dataclass(frozen=True)
class CurvePoint:
    """The test metric of "model", or of a baseline by its name, fitted to `n_train` rows."""

    method: str
    n_train: int
    value: float


def primary_metric(task: str) -> str:
    """The metric that curves and verdicts speak of; with targets of both kinds the mean "score"
    (see `results.headline`)."""
    return {REGRESSION: "spearman", CLASSIFICATION: "auroc"}.get(task, "score")


def nested_rows(index: npt.NDArray[np.int64], share: float, seed: int) -> npt.NDArray[np.int64]:
    """A share of the training rows; smaller shares lie within larger ones."""
    order = np.random.default_rng(seed).permutation(len(index))
    return np.sort(index[order[: round(share * len(index))]])


def epochs_for(share: float, main: int) -> int:
    """Fewer rows get more epochs, but fewer steps: the square root of the share."""
    return max(1, round(main / math.sqrt(share)))


def learning_curve(
    table: AssayTable,
    split: Split,
    spec: ModelSpec,
    settings: TrainSettings,
    main: FitResult,
    known: Sequence[CurvePoint],
    *,
    fresh: Callable[[], Encoder],
    folder: RunFolder,
    voice: Voice,
    log: JsonLog,
    budget: Budget,
    baseline_seconds: float,
) -> tuple[list[CurvePoint], dict[str, list[int]]]:
    """Points at parts of the training rows, and by method the numbers of rows left out for lack of
    time.

    Both methods fit the same rows. The validation rows choose the model's epoch, and are not shown
    to the baseline, which at small sizes would have most of its rows from there.

    Args:
        settings: the main run's, resolved. main: what it did.
        known: points that are there already: the model's on all training rows.
        fresh: gives an encoder as training starts from.
        baseline_seconds: what `CURVE_BASELINE` of the kind took for each of its rows.
    """
    test, train = split.index("test"), split.index("train")
    found = list(known)
    left_out: dict[str, list[int]] = {}
    a_step = main.seconds / max(1, main.steps)

    def add_baseline(part: npt.NDArray[np.int64]) -> None:
        if CURVE_FITS * baseline_seconds * len(part) > budget.left:
            left_out.setdefault(in_words(CURVE_BASELINE[table.kind]), []).append(len(part))
        else:
            found.append(baseline_point(table, split, part, int(settings.seed)))

    add_baseline(train)
    for share in SHARES:
        part = nested_rows(train, share, int(settings.seed))
        if not _usable(table, part):
            voice.say(
                f"learning curve: no point at {len(part):,} training rows (fewer than "
                f"{_FEWEST_ROWS}, or a target does not vary in them)"
            )
            continue
        add_baseline(part)
        epochs = epochs_for(share, max(one.epoch for one in main.history))
        steps = math.ceil(len(part) / settings.batch_size) * epochs
        left = budget.left - budget.for_predicting
        if steps * a_step > left:
            left_out.setdefault("the model", []).append(len(part))
            continue
        minutes = left / 60 if budget.limited else None
        own = dataclasses.replace(settings, epochs=epochs, patience=epochs, max_minutes=minutes)
        label = f"learning curve, {len(part):,} rows"
        with catch_signals() as stop:
            model, _ = fit_assay_model(
                fresh(),
                rows_of(table, part),
                rows_of(table, split.index("valid")),
                spec,
                own,
                checkpoint=CheckpointFile(folder.checkpoint / f"curve-{len(part)}.safetensors"),
                fingerprint=folder.fingerprint,
                log=log,
                stage=f"curve-{len(part)}",
                view=voice.training(spec.metric, label, f"{UNIT[table.kind]}s"),
                stop=stop,
                finish=False,
            )
        prediction = model.predict([table.sequences[i] for i in test])
        found.append(CurvePoint("model", len(part), _value(table, test, spec, prediction)))
    return sorted(found, key=lambda point: (point.method, point.n_train)), left_out


def _usable(table: AssayTable, part: npt.NDArray[np.int64]) -> bool:
    """Whether the part is large enough, and every target varies in it."""
    columns = (table.targets[part, j] for j in range(table.targets.shape[1]))
    varied = all(len(np.unique(one[~np.isnan(one)])) > 1 for one in columns)
    return len(part) >= _FEWEST_ROWS and varied


def in_words(method: str) -> str:
    """A point's method for a sentence: "ridge", "morgan forest"."""
    return method.replace("_", " ")


def baseline_point(
    table: AssayTable, split: Split, part: npt.NDArray[np.int64], seed: int
) -> CurvePoint:
    """`CURVE_BASELINE` fitted to the rows of `part` alone, its settings chosen by cross-validation
    in them."""
    test, name = split.index("test"), CURVE_BASELINE[table.kind]
    each = []
    for kind, columns in kinds_of(table):
        classes = table.classes_of(columns[0])
        (found,) = fit_baselines(
            [table.sequences[i] for i in part],
            table.targets[part][:, columns],
            [table.sequences[i] for i in test],
            task=kind,
            n_classes=len(classes) if classes else None,
            groups=None if split.groups is None else split.groups[part],
            seed=seed,
            names=[name],
            kind=table.kind,
        )
        assert found.predictions is not None
        each += [measure(table, test, j, found.predictions[:, at]) for at, j in enumerate(columns)]
    return CurvePoint(name, len(part), headline(table.task, each))


def _value(
    table: AssayTable, test: npt.NDArray[np.int64], spec: ModelSpec, prediction: Prediction
) -> float:
    targets = range(table.targets.shape[1])
    each = [measure(table, test, j, prediction.of(spec, j)) for j in targets]
    return headline(table.task, each)
