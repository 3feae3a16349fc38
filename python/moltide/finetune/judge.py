"""The verdict on one target: the fine-tuned model against the best baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moltide.verdict import Verdict, make_verdict

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.baselines import BaselineResult
    from moltide.splits import Split


def judge(
    table: AssayTable,
    split: Split,
    split_name: str,
    column: int,
    prediction: npt.NDArray[np.float64],
    baselines: Sequence[BaselineResult],
    seed: int,
) -> Verdict:
    """Compare test predictions of target `column`, (n,) or (n, classes), with the baselines of the
    whole table; the best baseline is the one that is best on the validation rows."""
    test, valid = split.index("test"), split.index("valid")
    lengths = {len(one) for one in table.sequences}
    return make_verdict(
        table.targets[test, column],
        prediction,
        [one.for_target(column) for one in baselines],
        task=table.task,
        n_classes=len(table.classes or ()) or 2,
        split=split_name,
        y_valid=table.targets[valid, column] if len(valid) else None,
        censor=table.censor[test, column],
        censor_valid=table.censor[valid, column] if len(valid) else None,
        groups=None if split.groups is None else split.groups[test],
        unit="variants" if table.wildtype or len(lengths) == 1 else "sequences",
        seed=seed,
    )
