"""The one home of `sqlite3` for states: connections to one file, and what SQLite's errors mean for the user.

Why WAL with `synchronous=NORMAL` is enough: after a power loss SQLite recovers a *prefix* of the committed
transactions. States are committed before the marker that speaks of them, in the same file, so a marker never
outlives its states; transactions lost from the end are found by the marker, and replayed from the log. A
killed process loses nothing at all.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featureflow_cli.errors import StoreUnavailable

_APPLICATION_ID = 0x66663031  # "ff01"; another layout of the tables gets another number
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS markers"
    " (project TEXT, field TEXT, ends TEXT NOT NULL, PRIMARY KEY (project, field))",
    "CREATE TABLE IF NOT EXISTS populations"
    " (project TEXT, field TEXT, feature TEXT, grid_us INTEGER, population BLOB NOT NULL,"
    " PRIMARY KEY (project, field, feature, grid_us))",
    "CREATE TABLE IF NOT EXISTS withdrawals"
    " (project TEXT, field TEXT, count INTEGER NOT NULL, PRIMARY KEY (project, field))",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)
_REBUILD = "move the file away and run `featureflow stream`: it is rebuilt from the offline log"
_MEANINGS = {
    sqlite3.SQLITE_FULL: ("the disk of the online store is full", "free some space; nothing is lost"),
    sqlite3.SQLITE_READONLY: ("the online store is read-only", "check the mount and the file's permissions"),
    sqlite3.SQLITE_CANTOPEN: ("the online store cannot be opened", "check that its folder is writable"),
    sqlite3.SQLITE_BUSY: ("another process held the online store for too long", "try again"),
    sqlite3.SQLITE_IOERR: ("the disk of the online store fails", "check the disk; nothing is lost"),
    sqlite3.SQLITE_NOTADB: ("the online store is not an SQLite file", _REBUILD),
    sqlite3.SQLITE_CORRUPT: ("the online store is damaged", _REBUILD),
}


class SqliteFile:
    """One file, and a connection to it per thread; an SQLite error becomes StoreUnavailable and closes it."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._opened: dict[int, sqlite3.Connection] = {}

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, opened where there is none; statements commit one by one."""
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._open()
            elif _identity(self._path) != self._local.identity:
                what = "the online store's file was removed or replaced while in use"
                raise _unavailable(what, self._path)
            yield connection
        except sqlite3.Error as err:
            self._forget()
            # Python gives no code to errors of its own, such as a closed handle.
            code = getattr(err, "sqlite_errorcode", 0) & 0xFF
            what, hint = _MEANINGS.get(code, ("the online store does not answer", ""))
            what = f"{what} ({err})"
            raise _unavailable(what, self._path, hint) from err
        except StoreUnavailable:
            self._forget()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time from the first statement on, so that what it compares cannot move."""
        with self.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connections of all threads; a later call opens a new one."""
        while self._opened:
            self._opened.popitem()[1].close()
        self._local = threading.local()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            what = f"the folder of the online store cannot be made: {err.strerror}"
            raise _unavailable(what, self._path) from err
        # Threads keep to their own connection; only `close` reaches for those of others.
        connection = sqlite3.connect(
            self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, self._path, self._timeout_s)
        except BaseException:
            connection.close()
            raise
        self._local.connection, self._local.identity = connection, _identity(self._path)
        self._opened[id(connection)] = connection
        return connection

    def _forget(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            self._opened.pop(id(connection), None)
            connection.close()


def _prepare(connection: sqlite3.Connection, path: Path, timeout_s: float) -> None:
    _refuse_others(connection, path)
    _to_wal(connection, timeout_s)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -65536")
    # A checkpoint after 64 MB, not 4: a batch rewrites hot pages many times before they move to the file.
    connection.execute("PRAGMA wal_autocheckpoint = 16000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if _application(connection) != _APPLICATION_ID:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")


def _application(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and _application(connection) != _APPLICATION_ID:
        what = "this SQLite file is not an online store of this version of FeatureFlow"
        raise _unavailable(what, path, "set `online_store: path` to a file of its own")


def _to_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch the file to WAL; SQLite's busy timeout does not cover two processes that both do so first."""
    give_up = time.monotonic() + timeout_s
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as err:
            if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.005)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at `path`: a store that was deleted and made anew is another one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unavailable(what: str, path: Path, hint: str = "") -> StoreUnavailable:
    return StoreUnavailable(what, at=str(path), hint=hint)
