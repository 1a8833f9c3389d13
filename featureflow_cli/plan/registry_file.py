"""The registry's SQLite file: opened per transaction, its schema versioned, its failures explained.

A rollback journal rather than WAL: the file is tiny and rarely written, and must be readable on a read-only
mount. A reader never creates it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from featureflow_cli.errors import StoreUnavailable

BUSY_TIMEOUT_S = 30.0
MIGRATIONS = (
    """
    CREATE TABLE applied (
        project TEXT NOT NULL, target TEXT NOT NULL, version INTEGER NOT NULL,
        definitions TEXT NOT NULL, allowed_future_us INTEGER NOT NULL,
        summary TEXT NOT NULL, applied_by TEXT NOT NULL, applied_us INTEGER NOT NULL,
        PRIMARY KEY (project, target, version)
    ) STRICT;
    CREATE TABLE builds (
        project TEXT NOT NULL, target TEXT NOT NULL, number INTEGER NOT NULL,
        view TEXT NOT NULL, entity TEXT NOT NULL, fingerprint TEXT NOT NULL, version INTEGER NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('building', 'serving', 'retired', 'dropped')),
        floor TEXT, created_us INTEGER NOT NULL,
        PRIMARY KEY (project, target, number)
    ) STRICT;
    CREATE TABLE manifest (
        project TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, ordinal INTEGER NOT NULL,
        path TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL,
        listed_us INTEGER NOT NULL,
        PRIMARY KEY (project, target, source, ordinal),
        UNIQUE (project, target, source, path)
    ) STRICT;
    """,
    """
    CREATE TABLE replays (
        project TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, ordinal INTEGER NOT NULL,
        letter_partition INTEGER NOT NULL, letter_offset INTEGER NOT NULL, listed_us INTEGER NOT NULL,
        PRIMARY KEY (project, target, source, ordinal),
        UNIQUE (project, target, source, letter_partition, letter_offset)
    ) STRICT;
    """,
    """
    CREATE TABLE topics (
        project TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL, topic_id TEXT NOT NULL,
        PRIMARY KEY (project, target, source)
    ) STRICT;
    """,
)
"""Script n brings a file of schema n to n + 1; `PRAGMA user_version` says which one it has."""


class RegistryFile:
    """Transactions on one registry file; raises StoreUnavailable, with what to do, for all that fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A read transaction, or None where there is no registry yet."""
        with self._explained():
            if not self.path.exists():
                yield None
                return
            uri = f"file:{quote(str(self.path))}?mode=ro"
            with closing(
                sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                schema = self._schema(connection)
                if schema == 0:
                    yield None
                    return
                if schema < len(MIGRATIONS):
                    with self.writing():  # brings it up to date
                        pass
                connection.execute("BEGIN")
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """An IMMEDIATE transaction: one writer at a time, committed whole or not at all."""
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    self._migrate(connection)
                    yield connection
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")

    def _schema(self, connection: sqlite3.Connection) -> int:
        schema: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if schema > len(MIGRATIONS):
            what = f"the registry {self.path} was written by a newer featureflow (schema {schema})"
            raise StoreUnavailable(what, hint="upgrade: pip install --upgrade featureflow")
        return schema

    def _migrate(self, connection: sqlite3.Connection) -> None:
        schema = self._schema(connection)
        if schema == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            what = f"{self.path} is an SQLite file of something else"
            raise StoreUnavailable(what, hint="set `registry:` in feature_store.yaml to a file of its own")
        for script in MIGRATIONS[schema:]:
            for statement in script.split(";"):
                connection.execute(statement)  # executescript would commit the transaction
        if schema < len(MIGRATIONS):
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as err:
            what, hint = _explain(getattr(err, "sqlite_errorname", "") or "")
            what = f"the registry {self.path} {what} ({err})"
            raise StoreUnavailable(what, hint=hint) from err
        except OSError as err:
            what = f"the registry {self.path} cannot be written: {err.strerror or err}"
            raise StoreUnavailable(what, hint="check `registry:` in feature_store.yaml") from err


def _explain(error_name: str) -> tuple[str, str]:
    """What an SQLite error means for the registry, and what to do about it."""
    if error_name in {"SQLITE_NOTADB", "SQLITE_FORMAT"} or error_name.startswith("SQLITE_CORRUPT"):
        return (
            "is damaged or is no registry",
            "restore it from a copy, or check `registry:` in feature_store.yaml",
        )
    if error_name == "SQLITE_FULL":
        return (
            "cannot be written: the disk is full",
            "make room and run the command again; nothing was changed",
        )
    if error_name.startswith("SQLITE_READONLY"):
        return "cannot be written: it is read-only", "check the file's permissions and its mount"
    if error_name.startswith("SQLITE_BUSY"):
        return "is being written by another process", "run the command again"
    if error_name.startswith("SQLITE_CANTOPEN"):
        return "cannot be opened", "check `registry:` in feature_store.yaml and the permissions of its folder"
    return "does not answer", "check the disk it lies on"
