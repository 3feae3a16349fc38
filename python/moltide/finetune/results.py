"""metrics.json, predictions.csv and split.csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moltide import pairs
from moltide.company import Comparison, company_verdict
from moltide.kinds import MOLECULE
from moltide.metrics import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    classification_metrics,
    mean_metrics,
    regression_metrics,
)
from moltide.tasks import MIXED
from moltide.verdict import Verdict, exact_values, panel_verdict

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.assay_model import Prediction
    from moltide.splits import Split

FloatArray = npt.NDArray[np.float64]
_BOUND = {-1: "<", 0: "", 1: ">"}
#: Columns on the training molecule most like a molecule: the Tanimoto similarity, and its rows in
#: the training table.
NEAREST = ["nearest_similarity", "nearest_row"]


@dataclass
class TargetResult:
    """Metrics of one target on the test rows: of the model, and of each baseline; `n_train` and
    `n_test` count the rows where it was measured."""

    name: str
    task: str
    n_train: int
    n_test: int
    model: dict[str, float]
    baselines: dict[str, dict[str, float]]
    verdict: Verdict


def measure(
    table: AssayTable, index: npt.NDArray[np.int64], column: int, prediction: FloatArray
) -> dict[str, float]:
    """Metrics of one target on the rows at `index`; `prediction` is (n,) or (n, classes).

    Bounds (censored labels) are left out, unless there is hardly anything else.
    """
    y, censor = table.targets[index, column], table.censor[index, column]
    classes = table.classes_of(column)
    if classes:
        found = classification_metrics(y, prediction, len(classes))
        return {name: found[name] for name in CLASSIFICATION_METRICS}
    found = regression_metrics(exact_values(y, censor), prediction)
    return {name: found[name] for name in REGRESSION_METRICS}


def headline(task: str, each: Sequence[Mapping[str, float]]) -> float:
    """The mean over targets of what curves and terminal speak of, from their metrics: Spearman,
    AUROC, or with targets of both kinds the mean of Spearman and 2 AUROC - 1."""
    values = [
        one["spearman"]
        if "spearman" in one
        else 2 * one["auroc"] - 1
        if task == MIXED
        else one["auroc"]
        for one in each
    ]
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def metrics_document(
    table: AssayTable,
    split: Split,
    split_name: str,
    targets: Sequence[TargetResult],
    alone: Sequence[Comparison | None] = (),
) -> dict[str, Any]:
    """metrics.json. With several targets metrics are means over those that have them, and
    "endpoints" has the same fields for each.

    Args:
        alone: the same targets fitted each alone, where that was asked for.
    """
    counts = split.counts()
    names = dict.fromkeys(name for one in targets for name in one.baselines)
    document: dict[str, Any] = {
        "task": table.task,
        "target": ",".join(table.target_names),
        "split": split_name,
        "n_train": counts["train"],
        "n_test": counts["test"],
        "model": mean_metrics([one.model for one in targets]),
        "baselines": {
            name: mean_metrics([one.baselines[name] for one in targets if name in one.baselines])
            for name in names
        },
        "verdict": panel_verdict({one.name: one.verdict for one in targets}),
    }
    if len(targets) == 1:
        return document
    if alone:
        document["verdict"] += " " + company_verdict(alone, len(targets))
    document["endpoints"] = {
        one.name: {
            "task": one.task,
            "target": one.name,
            "split": split_name,
            "n_train": one.n_train,
            "n_test": one.n_test,
            "model": one.model,
            "baselines": one.baselines,
            "verdict": one.verdict.text,
        }
        for one in targets
    }
    for compared in alone:
        if compared is not None:
            document["endpoints"][compared.name]["alone"] = compared.to_dict()
    return document


def verdict_details(metrics: Mapping[str, Any]) -> list[str]:
    """What follows the verdict of metrics.json: with several targets each one's own, named."""
    lines = []
    for name, one in metrics.get("endpoints", {}).items():
        compared = one.get("alone")
        lines.append(f"{name}: {one['verdict']}" + (f" {compared['text']}" if compared else ""))
    return lines


def to_json(document: Any, *, line: bool = False) -> str:
    """JSON text; a metric that is not defined is null."""
    clean = _finite(document)
    return json.dumps(clean) if line else json.dumps(clean, indent=2) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def split_csv(table: AssayTable, split: Split) -> str:
    """rows (of the table, `;` between merged ones), part, sequence (of pairs heavy and light)."""
    rows = (
        [_rows(table, i), str(split.labels[i]) or "none", *_text_cells(table, i)]
        for i in range(len(table))
    )
    return to_csv(["rows", "split", *_text_columns(table)], rows)


def _text_columns(table: AssayTable) -> list[str]:
    return list(pairs.CHAINS) if table.paired else ["sequence"]


def _text_cells(table: AssayTable, i: int) -> list[str]:
    return pairs.chains(table.sequences[i]) if table.paired else [table.sequences[i]]


def predictions_csv(table: AssayTable, split: Split, predictions: Mapping[str, Prediction]) -> str:
    """One line a sequence of the validation and test rows; of molecules "given" is the structure as
    it stands in the table.

    Args:
        predictions: by part ("valid", "test"), in the order of `split.index(part)`.
    """
    header = ["rows", "split", *_text_columns(table)]
    header += ["given"] if table.kind == MOLECULE else []
    with_mutations = table.mutations is not None
    if with_mutations:
        header.append("mutations")
    several = len(table.target_names) > 1
    own = next(iter(predictions.values())).target_notes if predictions else {}
    for j, name in enumerate(table.target_names):
        named = several or table.scale_of(j).logarithmic
        header += prediction_columns(name, table.classes_of(j), several, named, measured=True)
        header += [f"in_domain_{name}"] if j in own else []
    header += ["in_domain", "domain_note"]
    if any(found.nearest is not None for found in predictions.values()):
        header += NEAREST
    return to_csv(header, _prediction_rows(table, split, predictions, with_mutations))


def prediction_columns(
    name: str, classes: Sequence[str] | None, several: bool, named: bool, *, measured: bool
) -> list[str]:
    """Column names of one target's predictions; `classes` of a target that has some, `named`: they
    hold its name (of several targets, and of one whose values are not those of the table)."""
    columns = ["measured", "bound"] if measured else []
    columns.append("predicted")
    if classes:
        columns += [f"p_{one}" for one in classes]
        columns += ["set90"] if several else []
        columns = [one for one in columns if one != "bound"]
    else:
        columns += ["std", "low90", "high90"]
    return [f"{one}_{name}" for one in columns] if named else columns


def _prediction_rows(
    table: AssayTable, split: Split, predictions: Mapping[str, Prediction], with_mutations: bool
) -> Iterable[list[Any]]:
    from moltide.assay import format_mutations

    for part, found in predictions.items():
        for at, i in enumerate(split.index(part)):
            row: list[Any] = [_rows(table, i), part, *_text_cells(table, i)]
            row += [table.given(i)] if table.kind == MOLECULE else []
            if with_mutations and table.mutations is not None:
                changes = table.mutations[i]
                row.append(format_mutations(changes, offset=table.numbering) if changes else "WT")
            for j in range(len(table.target_names)):
                y, classes = table.targets[i, j], table.classes_of(j)
                if classes:
                    row.append("" if np.isnan(y) else classes[int(y)])
                else:
                    row += [number(y), _BOUND[int(table.censor[i, j])]]
                row += predicted_cells(found, at, j, classes, len(table.target_names) > 1)
                if j in found.target_notes:
                    row.append("no" if found.target_notes[j][at] else "yes")
            note = found.notes[at] if found.notes else ""
            row += ["yes" if not note else "no", note, *nearest_cells(found, at)]
            yield row


def nearest_cells(found: Prediction, at: int) -> list[str]:
    """The cells of `NEAREST` for one molecule; none where the domain is of another kind."""
    if found.similarity is None or found.nearest is None:
        return []
    return [f"{found.similarity[at]:.3f}", found.nearest[at]]


def predicted_cells(
    found: Prediction, at: int, target: int, classes: Sequence[str] | None, several: bool
) -> list[str]:
    """The cells of one sequence and target, in the order of `prediction_columns`."""
    if classes and found.probabilities is not None:
        shares = found.probabilities[at, target, : len(classes)]
        cells = [str(classes[int(shares.argmax())]), *(number(p) for p in shares)]
        return [*cells, set_text(found, at, target, classes)] if several else cells
    cells = [number(found.values[at, target])]
    for array in (found.std, found.low, found.high):
        cells.append("" if array is None else number(array[at, target]))
    return cells


def set_text(found: Prediction, at: int, target: int, classes: Sequence[str]) -> str:
    """The classes that stay possible, `|` between them; "none", or "" where that is not known."""
    if found.sets is None:
        return ""
    possible = found.sets[at, target]
    return "|".join(name for c, name in enumerate(classes) if possible[c]) or "none"


def _rows(table: AssayTable, i: int) -> str:
    return ";".join(map(str, table.rows[i]))


def number(value: float) -> str:
    """Enough digits to sort and plot by; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.6g}"


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
