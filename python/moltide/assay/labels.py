"""Class labels, and whether a target is a number to regress on or a class to tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from moltide.assay.values import MISSING_WORDS, FloatArray, Numbers
from moltide.options import option

LABEL_NAMES = frozenset([
    "label", "labels", "class", "classes", "target", "y", "activity", "active", "phenotype",
    "outcome", "category", "binder", "binding", "soluble", "solubility", "functional", "stable",
    "localization", "localisation",
])  # fmt: skip
_NEGATIVE = frozenset([
    "0", "no", "n", "false", "f", "neg", "negative", "inactive", "off", "dead", "-1",
])  # fmt: skip
_POSITIVE = frozenset([
    "1", "yes", "y", "true", "t", "pos", "positive", "active", "on", "alive", "+1",
])  # fmt: skip
# Words that order two classes but do not make a column one of yes and no.
_LESS = _NEGATIVE | {"low", "weak", "poor", "bad", "slow", "unfolded"}
_MORE = _POSITIVE | {"high", "strong", "good", "fast", "folded"}
_PREFIXES = ("non-", "non_", "non ", "not ", "not_", "non", "in", "un", "no ", "dys")


def _word(text: str) -> str:
    """A label reduced for comparison: `1.0` and `1` are the same class."""
    return re.sub(r"^([+-]?\d+)\.0*$", r"\1", text.strip())


def is_yes_no(texts: Sequence[str]) -> bool:
    """Whether a column says one thing or its opposite in common words (`yes`/`no`, `+1`/`-1`)."""
    words = {text.lower() for text in texts if text.lower() not in MISSING_WORDS}
    return len(words) == 2 and bool(words & _NEGATIVE) and bool(words & _POSITIVE)


def order_classes(labels: Sequence[str]) -> list[str]:
    """Classes in the order of their index: for two, the negative one first; else sorted.

    "Negative" is a word such as `no`, `0`, `inactive`, `low`, or the one that negates the other
    (`insoluble`, `non-binder`). Numbers sort as numbers.
    """
    classes = sorted(set(labels), key=_sort_key)
    if len(classes) != 2:
        return classes
    first, second = (label.lower() for label in classes)
    swapped = (
        second in _LESS
        or (first in _MORE and second not in _MORE)
        or any(second == prefix + first for prefix in _PREFIXES)
    )
    return classes[::-1] if swapped and first not in _LESS else classes


def _sort_key(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def read_labels(texts: Sequence[str]) -> list[str | None]:
    """Each cell's label, None where missing. Labels that differ only in case are one class."""
    spelling: dict[str, str] = {}
    labels: list[str | None] = []
    for text in texts:
        if text.lower() in MISSING_WORDS:
            labels.append(None)
            continue
        word = _word(text)
        labels.append(spelling.setdefault(word.lower(), word))
    return labels


def encode_labels(labels: Sequence[str | None], classes: Sequence[str]) -> FloatArray:
    """Class indices as float64 (n,), NaN where missing."""
    index = {label: float(i) for i, label in enumerate(classes)}
    return np.array(
        [np.nan if label is None else index[label] for label in labels], dtype=np.float64
    )


def detect_task(texts: Sequence[str], numbers: Numbers, name: str) -> tuple[str, str]:
    """`("regression" | "classification", sentence)` for one target column."""
    said = len(texts) - sum(numbers.missing_words.values())
    if said and len(numbers.bad) > 0.5 * said:
        return "classification", f"task: classification ({name!r} holds labels)"
    values = numbers.values[~np.isnan(numbers.values)]
    levels = np.unique(values)
    censored = bool(numbers.censor.any())
    if len(levels) == 2 and not censored and not numbers.bad and said > 2:
        shown = " and ".join(f"{level:g}" for level in levels)
        return "classification", f"task: classification ({name!r} holds only {shown})"
    sentence = f"task: regression ({len(levels):,} distinct values of {name!r})"
    if 3 <= len(levels) <= 10 and len(values) >= 50 and (levels == np.rint(levels)).all():
        sentence += f"; if these are classes, say {option('task', 'classification')}"
    return "regression", sentence
