"""The verdict on one target: the fine-tuned model against the best baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from moltide.kinds import MOLECULE
from moltide.verdict import Verdict, make_verdict

if TYPE_CHECKING:
    from moltide.assay import AssayTable
    from moltide.baselines import BaselineResult
    from moltide.splits import Split


def judge(
    table: AssayTable,
    split: Split,
    split_name: str,
    prediction: npt.NDArray[np.float64],
    baselines: Sequence[BaselineResult],
    seed: int,
) -> Verdict:
    """Compare test predictions of the table's only target, (n,) or (n, classes), with its
    baselines; the best baseline is the one that is best on the validation rows."""
    test, valid = split.index("test"), split.index("valid")
    lengths = {len(one) for one in table.sequences}
    unit = "variants" if table.wildtype or len(lengths) == 1 else "sequences"
    return make_verdict(
        table.targets[test, 0],
        prediction,
        baselines,
        task=table.task,
        n_classes=len(table.classes or ()) or 2,
        split=split_name,
        y_valid=table.targets[valid, 0] if len(valid) else None,
        censor=table.censor[test, 0],
        censor_valid=table.censor[valid, 0] if len(valid) else None,
        groups=None if split.groups is None else split.groups[test],
        unit="molecules" if table.kind == MOLECULE else "pairs" if table.paired else unit,
        seed=seed,
    )
