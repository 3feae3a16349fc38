"""One sentence on whether the fine-tuned model beats the best light baseline, with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from moltide.baselines.result import BaselineResult
from moltide.bootstrap import bootstrap_intervals, paired_bootstrap

LOWER_IS_BETTER = frozenset({"rmse", "mae"})
METRIC_LABELS = {
    "spearman": "Spearman",
    "pearson": "Pearson",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "mcc": "MCC",
    "accuracy": "accuracy",
    "score": "score",
}
#: Fewer measured test rows than this give no verdict.
MIN_TEST = 20
_MIN_VALID = 20
_DECIMALS = 3


@dataclass(frozen=True)
class Verdict:
    """The comparison of a model with the best baseline on one target.

    `difference`, `low` and `high` are oriented so that above 0 favours the model, whatever the
    metric. `better` is True where the whole interval is above 0, False where it is below, None
    where it holds 0 or there are too few rows. `chosen_on` is "validation" or "test": the rows on
    which the baseline was the best one. `note` says what a reader should know beside it.
    """

    text: str
    metric: str
    model: float
    baseline_name: str
    baseline: float
    difference: float
    low: float
    high: float
    better: bool | None
    baseline_label: str = ""
    n_test: int = 0
    chosen_on: str = "test"
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; an undefined number is None."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(self).items()
        }


def make_verdict(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    baselines: Sequence[BaselineResult],
    *,
    task: str = "regression",
    metric: str | None = None,
    n_classes: int = 2,
    split: str = "random",
    y_valid: npt.ArrayLike | None = None,
    censor: npt.ArrayLike | None = None,
    censor_valid: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    model_label: str = "the fine-tuned model",
    unit: str = "variants",
    resamples: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Compare predictions for one target with the best of `baselines`.

    Args:
        y: (n,) measured test values or class indices, NaN = not measured.
        prediction: (n,) or (n, n_classes), the model's.
        baselines: results for this one target (`BaselineResult.for_target` of a table).
        metric: what is compared; None is "spearman" or, for classification, "auroc".
        y_valid: validation labels; with them the best baseline is chosen there, from
            `valid_predictions`, so that the choice owes nothing to the test rows.
        censor: (n,) of -1, 0, 1: bounds are left out where five or more exact values remain.
        groups: (n,) clusters that the bootstrap draws whole.
        unit: what a row is called.

    Raises:
        ConfigError: an unknown metric.
        DataError: lengths that differ.
    """
    name = metric or ("spearman" if task == "regression" else "auroc")
    truth = exact_values(y, censor)
    sign = -1.0 if name in LOWER_IS_BETTER else 1.0
    usable = [one for one in baselines if one.predictions is not None]

    def measure(labels: npt.ArrayLike, tables: Mapping[str, npt.ArrayLike]) -> dict[str, float]:
        if not tables:
            return {}
        found = bootstrap_intervals(labels, tables, [name], n_classes=n_classes, resamples=2)
        return {key: value[name][0] for key, value in found.items()}

    on_test = measure(truth, {one.name: one.predictions for one in usable if one.available})  # type: ignore[misc]
    value = measure(truth, {"model": prediction})["model"]
    n = int((~np.isnan(truth)).sum())
    bounds = int((~np.isnan(np.asarray(y, np.float64))).sum()) - n
    left_out = f"; {bounds:,} known only as a bound left out" if bounds else ""
    tail = f"{n:,} held-out {unit} (split: {split}{left_out})"
    label = METRIC_LABELS[name]
    if not usable:
        own = f"{model_label} has {fixed(value, _DECIMALS)} {label}"
        text = f"No baseline to compare with: {own} on {tail}."
        nan = float("nan")
        return Verdict(text, name, value, "", nan, nan, nan, nan, None, n_test=n)

    scores, chosen_on = on_test, "test"
    held = [one for one in usable if one.valid_predictions is not None]
    if y_valid is not None and len(held) == len(usable):
        labels = exact_values(y_valid, censor_valid)
        if (~np.isnan(labels)).sum() >= _MIN_VALID:
            tables = {one.name: one.valid_predictions for one in held}
            scores, chosen_on = measure(labels, tables), "validation"  # type: ignore[arg-type]
    best = max(usable, key=lambda one: _order(sign * scores[one.name]))
    assert best.predictions is not None
    difference, low, high = paired_bootstrap(
        truth, prediction, best.predictions, name,
        n=resamples, seed=seed, groups=groups, n_classes=n_classes,
    )  # fmt: skip
    if sign < 0:
        difference, low, high = -difference, -high, -low
    clusters = n if groups is None else len(np.unique(np.asarray(groups)[~np.isnan(truth)]))
    enough = n >= MIN_TEST and clusters >= MIN_TEST // 2 and not math.isnan(low)
    better = None
    if enough and (low > 0 or high < 0):
        better = bool(low > 0)
    few = f"{unit} ({n:,})" if n < MIN_TEST or groups is None else f"groups ({clusters:,})"
    text = _sentence(
        better, enough, model_label, _named(best), (difference, low, high), label, few, tail
    )
    note = _note(best, usable, on_test, sign, chosen_on, label)
    return Verdict(
        text, name, value, best.name, on_test[best.name], difference, low, high, better,
        best.label, n, chosen_on, note,
    )  # fmt: skip


def exact_values(y: npt.ArrayLike, censor: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    """`y` with bounds made NaN, where five or more exact values remain."""
    truth = np.array(y, np.float64).reshape(-1)
    if censor is not None:
        exact = np.asarray(censor).reshape(-1) == 0
        if (exact & ~np.isnan(truth)).sum() >= 5:
            truth[~exact] = np.nan
    return truth


def panel_verdict(verdicts: Mapping[str, Verdict]) -> str:
    """One sentence over several targets."""
    if len(verdicts) == 1:
        return next(iter(verdicts.values())).text
    won = [name for name, one in verdicts.items() if one.better is True]
    lost = [name for name, one in verdicts.items() if one.better is False]
    few = sum(one.better is None and one.n_test < MIN_TEST for one in verdicts.values())
    level = len(verdicts) - len(won) - len(lost) - few
    text = f"The fine-tuned model beats the best baseline on {len(won)} of {len(verdicts)} targets"
    parts = [f"is worse on {len(lost)}"] if lost else []
    parts += [f"cannot be told from it on {level}"] if level else []
    parts += [f"has too few test rows to be judged on {few}"] if few else []
    for at, part in enumerate(parts, 1):
        text += f", and {part}" if at == len(parts) and (at > 1 or not lost) else f", {part}"
    return text + "."


def interval_text(value: float, low: float, high: float) -> str:
    """`0.060 [0.021, 0.102]`: three decimals, whatever the run, and no sign on zero.

    Only an interval narrower than three thousandths, or one on one side of 0 with an end that would
    round to 0, has more; one wider than 100 (an error in large units) has none.
    """
    if any(math.isnan(one) for one in (value, low, high)) or value == low == high:
        return fixed(value, _DECIMALS) if not math.isnan(value) else "undefined"
    width = high - low
    decimals = _DECIMALS
    if width >= 100:
        decimals = 0
    elif width > 0:
        decimals = min(6, max(decimals, math.ceil(-math.log10(width / 3))))
    nearest = min(abs(low), abs(high))
    while low * high > 0 and decimals < 6 and round(nearest, decimals) == 0:
        decimals += 1
    return f"{fixed(value, decimals)} [{fixed(low, decimals)}, {fixed(high, decimals)}]"


def fixed(value: float, decimals: int) -> str:
    """The value with so many decimals, and no sign on zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def _named(baseline: BaselineResult) -> str:
    """The label as it reads within a sentence."""
    return (
        baseline.label
        if baseline.label.startswith(("ridge", "logistic", "gradient"))
        else "the " + baseline.label
    )


def _order(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _sentence(
    better: bool | None,
    enough: bool,
    model: str,
    baseline: str,
    interval: tuple[float, float, float],
    metric: str,
    few: str,
    tail: str,
) -> str:
    subject = model[:1].upper() + model[1:]
    if not enough:
        return (
            f"Too few held-out {few} for a verdict: {model} and {baseline} are "
            f"{interval_text(*interval)} {metric} apart."
        )
    if better is None:
        return (
            f"{subject} does not beat {baseline}: the difference is {interval_text(*interval)} "
            f"{metric} on {tail}."
        )
    if better:
        return f"{subject} beats {baseline} by {interval_text(*interval)} {metric} on {tail}."
    value, low, high = interval
    return (
        f"{subject} is worse than {baseline} by {interval_text(-value, -high, -low)} {metric} "
        f"on {tail}."
    )


def _note(
    best: BaselineResult,
    usable: Sequence[BaselineResult],
    on_test: Mapping[str, float],
    sign: float,
    chosen_on: str,
    metric: str,
) -> str:
    subject = _named(best)
    note = f"{subject[:1].upper()}{subject[1:]} is the best baseline on the {chosen_on} rows"
    if chosen_on == "test":
        return note + ", a choice that favours the baseline."
    top = max(usable, key=lambda one: _order(sign * on_test[one.name]))
    if top.name != best.name and sign * on_test[top.name] > sign * on_test[best.name]:
        return (
            f"{note}; on the test rows {_named(top)} is ahead of it "
            f"({on_test[top.name]:.3f} against {on_test[best.name]:.3f} {metric})."
        )
    return note + "."
