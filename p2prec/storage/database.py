"""The SQLite file under the store: opened safely, migrated, and with errors that say what to do.

WAL with synchronous=FULL: when a transaction's `with` block has ended it is on disk, and a killed process costs
nothing that was acknowledged. The command line and the daemon write to one file at the same time; each waits for the
other.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2prec.errors import StoreError
from p2prec.storage.schema import APPLICATION_ID, MIGRATIONS, SCHEMA

BUSY_TIMEOUT_S = 15.0
"""How long a statement waits for another process's transaction."""
DISK_FULL = "the disk is full; free some space and repeat. Nothing stored before is lost"


class Database:
    """One connection, usable from any thread of its process, one transaction at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> Database:
        """Open or create (0600), and migrate to this version's schema.

        verify: also walk the whole file for damage, some 0.1 s per 10 MB.
        Raises StoreError: damaged, not a store, of a newer version, disk full, locked for too long.
        """
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}; check the permissions of its directory") from error
        with _errors_of(path):
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                _configure(path, connection)
                _migrate(path, connection)
                if verify and (finding := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    raise _damaged(path, str(finding))
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on disk when the block ends, and undone when it raises. Raises StoreError."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of the database, or writes to temporary tables only. Raises StoreError."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep this process's other threads away from several transactions that belong together."""
        with self._lock:
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, _errors_of(self.path):
            nested = self._connection.in_transaction
            if nested:  # part of the transaction around it
                yield self._connection
                return
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # SQLite itself rolls back when the disk is full; a second time would hide that error.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def pragma(self, text: str) -> int:
        """The first value of a PRAGMA. Raises StoreError."""
        with self._lock, _errors_of(self.path):
            row = self._connection.execute(f"PRAGMA {text}").fetchone()
            return int(row[0]) if row else 0

    def set_patience(self, seconds: float) -> None:
        """Wait this long for other processes' transactions from now on."""
        self.pragma(f"busy_timeout = {round(seconds * 1000)}")

    def close(self) -> None:
        """Close; the last process to do so folds the write-ahead log into the file. Idempotent."""
        with self._lock, _errors_of(self.path):
            self._connection.close()


def _configure(path: Path, connection: sqlite3.Connection) -> None:
    # One statement, so one moment: another process may be migrating just now.
    application, n_tables = connection.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    if application != APPLICATION_ID and (application or n_tables):
        raise StoreError(f"{path}: a SQLite file, but not a p2prec store; move it away or choose another --state")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what was forgotten is overwritten, not just unlinked
    connection.execute("PRAGMA temp_store = MEMORY")  # no history in a temporary file outside the state directory
    connection.execute("PRAGMA cache_size = -256")  # kB; nothing is read twice, and 2 MB a daemon would be for nothing
    connection.execute("PRAGMA journal_size_limit = 4194304")


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Again, now that no other process can be migrating.
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA:
            raise StoreError(
                f"{path}: written by a newer p2prec (schema {found}; this one knows {SCHEMA}). Upgrade p2prec"
            )
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StoreError with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: sqlite3.Error) -> StoreError:
    # The low byte is the primary code; the rest says more about the same thing.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{path}: {DISK_FULL}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{path}: another process keeps it locked for too long; repeat, or see who has it open")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreError(f"{path}: {error}; check the permissions of the file and its directory")
    return StoreError(f"{path}: {error}")


def _damaged(path: Path, detail: str) -> StoreError:
    return StoreError(
        f"{path}: the store is damaged ({detail}). It was left as it is: restore a backup, or rescue what is readable "
        f"with `sqlite3 {path.name} .recover`, or move it away to start with an empty one"
    )
