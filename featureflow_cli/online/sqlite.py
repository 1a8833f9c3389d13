"""The embedded online store: one SQLite file, a table per entity, a row per id, a column per view state.

A row is the hash of design.md 5: its version, its expiry, and for each field the blob and the moment of its
newest event. One row an entity costs a third of one row a field, and is what `sqlite3 online.db` shows best.
"""

import json
import random
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from featureflow_cli.compute.codes import Bools
from featureflow_cli.compute.packed import known_of, strings
from featureflow_cli.online.sqlite_file import ALL, SqliteFile
from featureflow_cli.online.store import FOREVER_US, Held, Send, Writes, at_once, version_words
from featureflow_cli.times import HOUR_US, Clock, system_clock

_POPULATIONS_KEPT_US = 2 * HOUR_US
_SCANNED_AT_ONCE = 2_000
_SWEPT_AT_ONCE = 1_000
_ALIVE = "(expires_us IS NULL OR expires_us > ?)"
_AMONG = "id IN (SELECT value FROM json_each(?))"  # any number of ids in one parameter


class SqliteStore:
    """An `OnlineStore` in one file, for any number of threads and processes of one machine.

    `clock` answers which rows have expired; `timeout_s` bounds the wait for other writers.
    """

    shards = 1

    def __init__(
        self, path: Path, project: str, clock: Clock = system_clock, timeout_s: float = 30.0
    ) -> None:
        self._file = SqliteFile(path, timeout_s, project)
        self._project = project
        self._clock = clock
        self._columns: dict[str, frozenset[str]] = {}  # as last seen: other processes add and drop them
        self._swept: dict[str, int] = {}

    # ---- states

    def read(self, entity: str, ids: Sequence[str], fields: Sequence[str]) -> list[Held]:
        table = self._table(entity)
        with self._file.connected() as connection:
            if not self._columns.get(table, frozenset()).issuperset(fields):
                self._columns[table] = _columns(connection, table)
            try:
                held = self._read(connection, table, ids, fields)
            except sqlite3.OperationalError as err:
                if not str(err).startswith("no such"):
                    raise
                self._columns[table] = _columns(connection, table)  # dropped by another process meanwhile
                held = self._read(connection, table, ids, fields)
        absent = Held(None, (None,) * len(fields))
        return [held.get(id, absent) for id in ids]

    def _read(
        self, connection: sqlite3.Connection, table: str, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, Held]:
        known = self._columns[table]
        if not known:
            return {}
        picked = ", ".join(
            ["id", "version", *(_quoted(field) if field in known else "NULL" for field in fields)]
        )
        one = len(ids) == 1
        rows = connection.execute(
            f"SELECT {picked} FROM {_quoted(table)} WHERE {'id = ?' if one else _AMONG} AND {_ALIVE}",
            (ids[0] if one else json.dumps(list(ids)), self._clock()),
        )
        return {row[0]: Held(row[1], row[2:]) for row in rows}

    def write(self, entity: str, fields: Sequence[str], writes: Writes) -> Bools:
        if not len(writes):
            return np.empty(0, np.bool_)
        table, now_us = self._table(entity), self._clock()
        with self._file.transaction() as connection:
            set_ = [
                field
                for field, column in zip(fields, writes.blobs, strict=True)
                if column.null_count < len(column)
            ]
            _add_columns(connection, table, set_)
            rows = connection.execute(
                f"SELECT id, version, expires_us FROM {_quoted(table)} WHERE {_AMONG}",
                (json.dumps(list(writes.ids)),),
            ).fetchall()
            dead = {id for id, _, expires_us in rows if expires_us is not None and expires_us <= now_us}
            connection.executemany(f"DELETE FROM {_quoted(table)} WHERE id = ?", [(id,) for id in dead])
            versions = {id: version for id, version, _ in rows if id not in dead}
            applied: Bools = version_words([versions.get(id) for id in writes.ids]) == writes.expected
            _upsert(connection, table, fields, writes.take(np.flatnonzero(applied)))
            self._sweep(connection, table, now_us)
        return applied

    def sending(self) -> AbstractContextManager[Send]:
        return at_once(self.write)

    def scan(self, entity: str, field: str, since_us: int) -> Iterator[list[tuple[str, bytes]]]:
        table, after = self._table(entity), ""
        while True:  # a statement a chunk: a long one would keep the WAL from being checkpointed
            with self._file.connected() as connection:
                if field not in _columns(connection, table):
                    return
                chunk = connection.execute(
                    f"SELECT id, {_quoted(field)} FROM {_quoted(table)}"
                    f" WHERE id > ? AND {_quoted(_newest(field))} >= ? AND {_ALIVE}"
                    f" ORDER BY id LIMIT {_SCANNED_AT_ONCE}",
                    (after, since_us, self._clock()),
                ).fetchall()
            if not chunk:
                return
            yield chunk
            after = chunk[-1][0]

    def sample(self, entity: str, field: str, count: int, seed: int) -> list[str]:
        ids = [id for (id,) in self._holding(entity, field, "id", "ORDER BY id")]
        return random.Random(seed).sample(ids, min(count, len(ids)))  # noqa: S311  (a sample, not a secret)

    def count(self, entity: str, field: str) -> int:
        return sum(number for (number,) in self._holding(entity, field, "count(*)", ""))

    def _holding(self, entity: str, field: str, what: str, order: str) -> list[tuple]:  # type: ignore[type-arg]
        table = self._table(entity)
        with self._file.connected() as connection:
            if field not in _columns(connection, table):
                return []
            holds = f"{_quoted(_newest(field))} IS NOT NULL AND {_ALIVE}"
            query = f"SELECT {what} FROM {_quoted(table)} WHERE {holds} {order}"
            return connection.execute(query, (self._clock(),)).fetchall()

    def shard_of(self, entity: str, id: str) -> int:
        return 0

    # ---- markers

    def marker(self, shard: int, field: str) -> dict[int, int] | None:
        with self._file.connected() as connection:
            return self._marker(connection, field)

    def mark(self, shard: int, field: str, ends: Mapping[int, int]) -> None:
        with self._file.transaction() as connection:
            held = self._marker(connection, field) or {}
            raised = held | {partition: max(end, held.get(partition, end)) for partition, end in ends.items()}
            connection.execute(
                "INSERT OR REPLACE INTO markers VALUES (?, ?, ?)", (self._project, field, json.dumps(raised))
            )

    def _marker(self, connection: sqlite3.Connection, field: str) -> dict[int, int] | None:
        row = connection.execute(
            "SELECT ends FROM markers WHERE project = ? AND field = ?", (self._project, field)
        ).fetchone()
        return {int(partition): end for partition, end in json.loads(row[0]).items()} if row else None

    # ---- populations of ranks

    def population(self, field: str, feature: str, grid_us: int) -> bytes | None:
        with self._file.connected() as connection:
            row = connection.execute(
                "SELECT population FROM populations WHERE (project, field, feature, grid_us) = (?, ?, ?, ?)",
                (self._project, field, feature, grid_us),
            ).fetchone()
        return row[0] if row else None

    def withdrawals(self, field: str) -> int:
        with self._file.connected() as connection:
            return self._withdrawals(connection, field)

    def _withdrawals(self, connection: sqlite3.Connection, field: str) -> int:
        row = connection.execute(
            "SELECT count FROM withdrawals WHERE project = ? AND field = ?", (self._project, field)
        ).fetchone()
        return int(row[0]) if row else 0

    def publish(self, field: str, feature: str, grid_us: int, population: bytes, withdrawals: int) -> None:
        with self._file.transaction() as connection:
            if self._withdrawals(connection, field) != withdrawals:
                return
            connection.execute(
                "INSERT OR IGNORE INTO populations VALUES (?, ?, ?, ?, ?)",
                (self._project, field, feature, grid_us, population),
            )
            connection.execute(
                "DELETE FROM populations WHERE (project, field, feature) = (?, ?, ?) AND grid_us < ?",
                (self._project, field, feature, grid_us - _POPULATIONS_KEPT_US),
            )

    def withdraw(self, field: str, after_us: int) -> None:
        with self._file.transaction() as connection:
            connection.execute(
                "DELETE FROM populations WHERE project = ? AND field = ? AND grid_us > ?",
                (self._project, field, after_us),
            )
            self._count(connection, field)

    def _count(self, connection: sqlite3.Connection, field: str) -> None:
        connection.execute(
            "INSERT INTO withdrawals VALUES (?, ?, 1)"
            " ON CONFLICT (project, field) DO UPDATE SET count = count + 1",
            (self._project, field),
        )

    # ---- housekeeping

    def fields(self) -> set[str]:
        found: set[str] = set()
        with self._file.connected() as connection:
            for shared in ("markers", "populations", "withdrawals"):
                rows = connection.execute(f"SELECT field FROM {shared} WHERE project = ?", (self._project,))
                found.update(field for (field,) in rows)
            for table in self._tables(connection):
                columns = _columns(connection, table)
                found.update(column for column in columns if _newest(column) in columns)
        return found - {ALL}

    def drop(self, field: str) -> None:
        with self._file.transaction() as connection:
            for shared in ("markers", "populations", "withdrawals"):
                connection.execute(
                    f"DELETE FROM {shared} WHERE project = ? AND field = ?", (self._project, field)
                )
            for table in self._tables(connection):
                if field in _columns(connection, table):
                    for column in (field, _newest(field)):
                        connection.execute(f"ALTER TABLE {_quoted(table)} DROP COLUMN {_quoted(column)}")

    def teardown(self) -> None:
        with self._file.transaction() as connection:
            for table in self._tables(connection):
                connection.execute(f"DROP TABLE {_quoted(table)}")
            for shared in ("markers", "populations", "withdrawals"):
                connection.execute(
                    f"DELETE FROM {shared} WHERE project = ? AND field <> ?", (self._project, ALL)
                )
            self._count(connection, ALL)
        self._file.close()  # who empties it need not be told

    def bytes_held(self) -> int:
        total = 0
        with self._file.connected() as connection:
            for table in self._tables(connection):
                columns = _columns(connection, table)
                blobs = sorted(column for column in columns if _newest(column) in columns)
                sizes = ["length(id)", *(f"coalesce(length({_quoted(blob)}), 0)" for blob in blobs)]
                query = f"SELECT coalesce(sum({' + '.join(sizes)}), 0) FROM {_quoted(table)}"
                total += int(connection.execute(query).fetchone()[0])
        return total

    def ping(self) -> None:
        with self._file.connected() as connection:
            connection.execute("SELECT count(*) FROM markers").fetchone()

    def close(self) -> None:
        self._file.close()

    def _table(self, entity: str) -> str:
        return _prefix(self._project) + _told_apart(entity)

    def _tables(self, connection: sqlite3.Connection) -> list[str]:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in names if name.startswith(_prefix(self._project))]

    def _sweep(self, connection: sqlite3.Connection, table: str, now_us: int) -> None:
        """Purge the expired among the next rows: each write pays for a few, and no read ever waits."""
        after = self._swept.get(table, 0)
        connection.execute(
            f"DELETE FROM {_quoted(table)} WHERE rowid > ? AND rowid <= ? AND expires_us <= ?",
            (after, after + _SWEPT_AT_ONCE, now_us),
        )
        (last,) = connection.execute(f"SELECT max(rowid) FROM {_quoted(table)}").fetchone()
        self._swept[table] = after + _SWEPT_AT_ONCE if after + _SWEPT_AT_ONCE < (last or 0) else 0


def _prefix(project: str) -> str:
    return _told_apart(project) + "/"


def _told_apart(name: str) -> str:
    """A capital gets a caret: to SQLite the tables `User` and `user` would be one."""
    return re.sub("[A-Z]", r"^\g<0>", name)


def _quoted(name: str) -> str:
    """An identifier. In backticks: SQLite takes an unknown name in double quotes for a text."""
    return "`" + name.replace("`", "``") + "`"


def _newest(field: str) -> str:
    """The column that holds the moment of the newest event in `field`."""
    return f"{field}@"


def _columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """The table's columns; none where there is no such table."""
    return frozenset(
        name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    )


def _add_columns(connection: sqlite3.Connection, table: str, fields: Sequence[str]) -> None:
    known = _columns(connection, table)
    if not known:
        connection.execute(
            f"CREATE TABLE {_quoted(table)}"
            " (id TEXT PRIMARY KEY NOT NULL, version BLOB NOT NULL, expires_us INTEGER)"
        )
    for field in sorted(set(fields) - known):
        connection.execute(f"ALTER TABLE {_quoted(table)} ADD COLUMN {_quoted(_newest(field))} INTEGER")
        connection.execute(f"ALTER TABLE {_quoted(table)} ADD COLUMN {_quoted(field)} BLOB")


def _upsert(connection: sqlite3.Connection, table: str, fields: Sequence[str], writes: Writes) -> None:
    """One statement for the writes of the same fields, in order of id: neighbours share a page.

    The expiry only moves outwards, and a write that never expires takes it off (design.md 5 [longest]).
    """
    order = sorted(range(len(writes)), key=writes.ids.__getitem__)
    known = np.array([known_of(column) for column in writes.blobs]).T
    alike: dict[bytes, list[int]] = defaultdict(list)
    for place in order:
        alike[known[place].tobytes()].append(place)
    for places in alike.values():
        group, set_ = writes.take(np.array(places)), np.flatnonzero(known[places[0]]).tolist()
        columns = [_quoted(name) for at in set_ for name in (_newest(fields[at]), fields[at])]
        marks = ", ".join("?" for _ in range(3 + len(columns)))
        values = [
            group.ids,
            strings(group.versions).to_pylist(),
            [None if each == FOREVER_US else each for each in group.expires_us.tolist()],
            *(part for at in set_ for part in (group.newest_us[at].tolist(), group.blobs[at].to_pylist())),
        ]
        connection.executemany(
            f"INSERT INTO {_quoted(table)} ({', '.join(['id', 'version', 'expires_us', *columns])})"
            f" VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET version = excluded.version,"
            " expires_us = CASE WHEN expires_us IS NULL OR excluded.expires_us IS NULL THEN NULL"
            " ELSE max(expires_us, excluded.expires_us) END"
            + "".join(f", {column} = excluded.{column}" for column in columns),
            zip(*values, strict=True),
        )
