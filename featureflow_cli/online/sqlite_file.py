"""The one home of `sqlite3` for states: connections to one file, and what SQLite's errors mean for the user.

Why WAL with `synchronous=NORMAL` is enough: after a power loss SQLite recovers a *prefix* of the committed
transactions. States are committed before the marker that speaks of them, in the same file, so a marker never
outlives its states; transactions lost from the end are found by the marker, and replayed from the log. A
killed process loses nothing at all.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

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
ALL = "."
"""In place of a field: how often all of a project was withdrawn. It stays: who still writes is to hear of it."""
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


class _Opened(NamedTuple):
    """A connection, which file it is of, and how often the project had been emptied there.

    `frozen`: of a file that nobody may write, so that it has no locks.
    """

    connection: sqlite3.Connection
    seen: "_Seen"
    emptied: int
    is_writable: bool
    frozen: "_Content | None" = None


class SqliteFile:
    """One file, and a connection to it per thread; an SQLite error becomes StoreUnavailable and closes it.

    Whoever only reads never makes the file: one that is not there reads as an empty store, so that it can be
    put back. Where the file or its folder cannot be written, it is read all the same.
    """

    def __init__(self, path: Path, timeout_s: float, project: str) -> None:
        self._path = path
        self._project = project
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._opened: dict[int, sqlite3.Connection] = {}

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, opened where there is none, to read by; statements commit one by one."""
        with self._explained():
            opened = self._held() or self._open_to_read()
            if opened is None:
                with closing(_nothing()) as nothing:
                    yield nothing
                return
            yield opened.connection
            if opened.frozen is not None and opened.frozen != _content(self._path):
                what = "the online store was written while it was read without locks"
                raise _unavailable(what, self._path, "try again")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time from the first statement on, so that what it compares cannot move.

        The file is made where there is none. StoreUnavailable, once, where the project was emptied since this thread
        opened it [emptied].
        """
        with self._explained():
            held = self._held()
            opened = held if held is not None and held.is_writable else self._open_to_write()
            connection = opened.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                if _emptied(connection, self._project) != opened.emptied:
                    what = "the online store was emptied while in use"
                    raise _unavailable(what, self._path, "what it held is built again from the offline log")
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

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
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

    def _held(self) -> _Opened | None:
        """This thread's connection; StoreUnavailable, once, where its file is there no longer."""
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is None:
            return None
        if opened.seen != _identity(self._path):
            what = "the online store's file was removed or replaced while in use"
            raise _unavailable(what, self._path)
        if opened.frozen is not None and opened.frozen != _content(self._path):
            self._forget()  # nothing is lost: it was written, as it may be by others
            return None
        return opened

    def _open_to_write(self) -> _Opened:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            what = f"the folder of the online store cannot be made: {err.strerror}"
            raise _unavailable(what, self._path) from err
        opened = self._open("rwc")
        assert opened is not None
        return opened

    def _open_to_read(self) -> _Opened | None:
        """None: there is no file, or nothing in it."""
        if not _is_there(self._path):
            return None
        if os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK):
            return self._open("rw")
        content = _content(self._path)
        if content is None or content.has_log:
            return self._open("ro")
        # SQLite would want to make a log and its map beside the file, and take locks: here nobody can.
        return self._open("ro&immutable=1", content)

    def _open(self, mode: str, frozen: "_Content | None" = None) -> _Opened | None:
        """None: there is nothing in it, and `mode` does not make it."""
        self._forget()
        # Threads keep to their own connection; only `close` reaches for those of others.
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode={mode}",
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _refuse_others(connection, self._path)
            if mode != "rwc" and _application(connection) != _APPLICATION_ID:
                connection.close()
                return None
            connection.execute("PRAGMA cache_size = -65536")
            if mode in {"rwc", "rw"}:
                _prepare(connection, self._timeout_s)
        except BaseException:
            connection.close()
            raise
        emptied, is_writable = _emptied(connection, self._project), mode in {"rwc", "rw"}
        opened = _Opened(connection, _identity(self._path), emptied, is_writable, frozen)
        self._local.opened = opened
        self._opened[id(connection)] = connection
        return opened

    def _forget(self) -> None:
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is not None:
            self._local.opened = None
            self._opened.pop(id(opened.connection), None)
            opened.connection.close()


def _prepare(connection: sqlite3.Connection, timeout_s: float) -> None:
    _to_wal(connection, timeout_s)
    connection.execute("PRAGMA synchronous = NORMAL")
    # A checkpoint after 64 MB, not 4: a batch rewrites hot pages many times before they move to the file.
    connection.execute("PRAGMA wal_autocheckpoint = 16000")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if _application(connection) != _APPLICATION_ID:
        _make_tables(connection)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")


def _nothing() -> sqlite3.Connection:
    """An empty store, in memory: what a file that is not there reads as."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _make_tables(connection)
    return connection


def _application(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _emptied(connection: sqlite3.Connection, project: str) -> int:
    query = "SELECT count FROM withdrawals WHERE project = ? AND field = ?"
    row = connection.execute(query, (project, ALL)).fetchone()
    return int(row[0]) if row else 0


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


def _is_there(path: Path) -> bool:
    """Whether there is a file; also where that cannot be told, for SQLite to say why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


_Seen = tuple[int, int] | None


def _identity(path: Path) -> _Seen:
    """Which file lies at `path`: a store that was deleted and made anew is another one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Content(NamedTuple):
    """What tells whether anybody wrote to the file. `has_log`: there are transactions beside it (the WAL)."""

    size: int
    mtime_ns: int
    has_log: bool


def _content(path: Path) -> _Content | None:
    try:
        found, log = path.stat(), path.with_name(path.name + "-wal")
        return _Content(found.st_size, found.st_mtime_ns, log.exists() and log.stat().st_size > 0)
    except OSError:
        return None


def _unavailable(what: str, path: Path, hint: str = "") -> StoreUnavailable:
    return StoreUnavailable(what, at=str(path), hint=hint)
