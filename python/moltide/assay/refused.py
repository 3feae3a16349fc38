"""Sequences that can be read, but not by the model they are for."""

from __future__ import annotations

from collections.abc import Sequence

from moltide.assay.ledger import Ledger, problems_text
from moltide.assay.numbered_rows import NumberedRows
from moltide.assay.options import ReadOptions
from moltide.options import option

REFUSED = "cannot be read by the backbone"


def leave_out_refused(
    source: NumberedRows, sequences: Sequence[str], options: ReadOptions, ledger: Ledger
) -> None:
    """Ask `options.refusals` about every row that is still in.

    Raises:
        DataError: refused rows, unless they are to be set aside.
    """
    if options.refusals is None:
        return
    rows = ledger.used().tolist()
    found = options.refusals([sequences[i] for i in rows])
    refused = {rows[index]: reason for index, reason in found.items()}
    if refused and options.on_bad_row == "error":
        listed = problems_text([(source.row(i), reason) for i, reason in refused.items()])
        raise source.fail(
            f"the backbone cannot read {len(refused):,} of {len(rows):,} rows ({listed}); leave "
            f"them out ({option('on_bad_row', 'set_aside')})"
        )
    ledger.leave_out(refused, REFUSED, refused)
