"""What has been predicted so far, in a database beside the output, which a kill leaves whole.

A chunk of rows and the number of the last one are one transaction: after a kill the database holds
complete chunks, and the same command goes on behind them. It also ranks: sorting millions of rows
takes a few megabytes of memory and room beside the output.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moltide.errors import ConfigError

_VERSION = 1
_BLOCK = 1 << 20
SKIPPED, INSIDE, OUTSIDE = 0, 1, 2


def identity_of(files: Sequence[Path], **what: Any) -> str:
    """SHA-256 over the contents of files and over what else decides the rows (JSON types)."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(b"\0file\0")
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    digest.update(json.dumps({"version": _VERSION, **what}, sort_keys=True).encode())
    return digest.hexdigest()


@dataclass
class Row:
    """A row of the input with the cells that join it; `a` and `b` are what it is ranked by, the
    largest first (None: not ranked)."""

    number: int
    name: str
    cells: list[Any]
    kind: int
    a: float | None = None
    b: float | None = None


class Partial:
    """The rows predicted so far; `done` is the number of the last one, `resumed` says whether there
    were any. A file of another identity is begun anew, and `replaced` says so.

    Raises:
        ConfigError: another process is writing this output.
        OSError: the folder is not writable, or the disk is full.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.replaced = False
        self._database = self._open(identity)
        held = self._get("done")
        self.resumed = held is not None
        self.done = -1 if held is None else int(held)

    def _open(self, identity: str) -> sqlite3.Connection:
        existed = self.path.exists()
        database = self._connect()
        if self._identity(database) == identity:
            return database
        database.close()
        self.replaced = existed
        remove(self.path)
        database = self._connect()
        with self._errors():
            database.execute("BEGIN")
            database.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
            database.execute(
                "CREATE TABLE rows (number INTEGER PRIMARY KEY, name TEXT, cells TEXT, "
                "kind INTEGER, a REAL, b REAL)"
            )
            database.execute("INSERT INTO meta VALUES ('identity', ?)", (identity,))
            database.execute("COMMIT")
        return database

    def _connect(self) -> sqlite3.Connection:
        with self._errors():
            database = sqlite3.connect(self.path, timeout=0.5, isolation_level=None)
            # One process at a time: the first transaction takes the lock, and it is kept.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
        return database

    def _identity(self, database: sqlite3.Connection) -> str | None:
        """What the file was made for; None where it is empty, or no such database."""
        with self._errors():
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("COMMIT")
                row = database.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return None
                database.close()
                raise
            except sqlite3.DatabaseError:
                return None
        return None if row is None else str(row[0])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What SQLite says of locks and disks, as the errors of other files."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            if "locked" in text:
                raise ConfigError(f"{self.path}: another process is writing this output") from error
            if "full" in text:
                raise OSError(28, "No space left on device", str(self.path)) from error
            raise OSError(5, text, str(self.path)) from error

    def _get(self, key: str) -> str | None:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows that follow those before; they are safe when this returns."""
        if not rows:
            return
        with self._errors():
            self._database.execute("BEGIN")
            self._database.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (row.number, row.name, json.dumps(row.cells), row.kind, row.a, row.b)
                    for row in rows
                ),
            )
            self._put("done", str(rows[-1].number))
            self._database.execute("COMMIT")
        self.done = rows[-1].number

    def _put(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def header(self, names: Sequence[str] | None = None) -> list[str]:
        """The names of the columns, kept with the rows; given, they are kept."""
        if names is not None:
            with self._errors():
                self._put("header", json.dumps(list(names)))
        return list(json.loads(self._get("header") or "[]"))

    def counts(self) -> dict[int, int]:
        """Rows by kind."""
        found = self._database.execute("SELECT kind, COUNT(*) FROM rows GROUP BY kind")
        return {SKIPPED: 0, INSIDE: 0, OUTSIDE: 0, **dict(found.fetchall())}

    def rank(self) -> None:
        """Find the rank of every row: 1 for the first, one rank for equals."""
        with self._errors():
            self._database.execute("BEGIN")
            self._database.execute("DROP TABLE IF EXISTS ranks")
            self._database.execute("CREATE TABLE ranks (number INTEGER PRIMARY KEY, rank INTEGER)")
            self._database.execute(
                "INSERT INTO ranks SELECT number, RANK() OVER (ORDER BY a DESC, b DESC) "
                "FROM rows WHERE kind > 0 AND a IS NOT NULL ORDER BY number"
            )
            self._database.execute("COMMIT")

    def ranked(
        self, by_rank: bool = False, limit: int = -1, last: bool = False
    ) -> Iterator[tuple[int, str, list[Any], int | None]]:
        """(number, name, cells, rank) of all rows, or of the first or `last` `limit` ranked ones;
        in the order of the input or `by_rank`, those without a rank at the end."""
        order = "rows.number"
        where = ""
        if by_rank:
            direction = "DESC" if last else "ASC"
            order = f"rank IS NULL, rank {direction}, rows.number {direction}"
        if limit >= 0:
            where = "WHERE rank IS NOT NULL"
        with self._errors():
            found = self._database.execute(
                "SELECT rows.number, name, cells, rank FROM rows LEFT JOIN ranks USING (number) "
                f"{where} ORDER BY {order} LIMIT ?",
                (limit,),
            )
            for row_number, name, cells, rank in found:
                yield row_number, name, json.loads(cells), rank

    def close(self, finished: bool) -> None:
        """Release the file; `finished`: it is no longer needed, and goes. So does one without
        rows."""
        try:
            empty = self._database.execute("SELECT 1 FROM rows LIMIT 1").fetchone() is None
        except sqlite3.Error:  # what went wrong before is what matters
            empty = False
        self._database.close()
        if finished or empty:
            remove(self.path)


def remove(path: Path) -> None:
    """The database and what SQLite may have left beside it."""
    for name in (path.name, f"{path.name}-journal", f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
