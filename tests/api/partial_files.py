"""What an unfinished `moltide predict` has done so far."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def rows_held(path: Path) -> int:
    """Rows of a partial file, read without a lock; 0 where it is not there or being written."""
    try:
        with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as database:
            return int(database.execute("SELECT COUNT(*) FROM rows").fetchone()[0])
    except sqlite3.Error:
        return 0
