"""The stage that says what became of every row, and of molecules how they compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moltide.atomic import atomic_write_text
from moltide.finetune import folder as names
from moltide.finetune.accounts import (
    account_csv,
    cliff_line,
    cliffs_csv,
    cliffs_of,
    duplicates_csv,
)
from moltide.kinds import MOLECULE

if TYPE_CHECKING:
    from moltide.chem.cliffs import TargetCliffs
    from moltide.finetune.planned import PlannedRun

# Comparing two molecules, on a slow core; and the share of the time left that all may take.
_PAIR_SECONDS, _SHARE = 4e-8, 0.1


def write_accounts(run: PlannedRun) -> list[TargetCliffs]:
    """Write account.csv, and of molecules duplicates.csv and activity_cliffs.csv; the cliffs.

    Where they would take too much of a limited time, `run.cut_short` says that cliffs were not
    looked for.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    table, folder = run.table, run.folder
    if table.account is not None:
        atomic_write_text(folder.file(names.ACCOUNT), account_csv(table))
    if table.kind != MOLECULE:
        return []
    atomic_write_text(folder.file(names.DUPLICATES), duplicates_csv(table))
    if run.budget.limited and _PAIR_SECONDS * len(table) ** 2 > _SHARE * run.budget.left:
        run.cut_short.append("activity cliffs: not looked for")
        return []
    with run.voice.busy("comparing molecules") as status:

        def progress(done: int, total: int) -> None:
            if status is not None:
                status.update(f"comparing molecules: {done:,} of {total:,}")

        cliffs = cliffs_of(table, progress=progress)
    for one in cliffs:
        if one.alike:
            run.voice.say(cliff_line(one))
    atomic_write_text(folder.file(names.CLIFFS), cliffs_csv(table, run.split, cliffs))
    return cliffs
