"""SMILES as they stand in a table: standardised, and what cannot be read set aside."""

from __future__ import annotations

from collections.abc import Sequence

from moltide.assay.ledger import Ledger, problems_text
from moltide.assay.numbered_rows import NumberedRows
from moltide.assay.options import ReadOptions
from moltide.assay.residue_texts import RowSequences
from moltide.chem.standardise import standardise_all
from moltide.options import option

NO_MOLECULE = "no SMILES"
UNREADABLE = "structure that cannot be read"


def molecules_from_column(
    source: NumberedRows, texts: Sequence[str], where: str, options: ReadOptions, ledger: Ledger
) -> RowSequences:
    """Standard SMILES of each row ("" for a row set aside).

    Raises:
        DataError: unreadable structures, unless they are to be set aside.
        MissingDependencyError: without RDKit.
    """
    column = standardise_all(texts, options.chemistry, options.progress)
    broken = source.broken
    empty = [i for i, text in enumerate(texts) if not text.strip() and i not in broken]
    ledger.leave_out(empty, NO_MOLECULE)
    wrong = {
        i: broken.get(i, one.reason)
        for i, one in enumerate(column.molecules)
        if one.reason and ledger.alive[i]
    }
    if wrong and options.on_bad_row == "error":
        listed = problems_text([(source.row(i), reason) for i, reason in wrong.items()])
        raise source.fail(
            f"{where}: structures that cannot be read in {len(wrong):,} of {len(texts):,} rows "
            f"({listed}); correct them, or leave these rows out "
            f"({option('on_bad_row', 'set_aside')})"
        )
    ledger.leave_out(wrong, UNREADABLE, wrong)
    return RowSequences([one.smiles for one in column.molecules], notes=column.notes())
