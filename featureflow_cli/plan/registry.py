"""The registry: what is applied, by whom and since when; the builds of view states; the files of sources.

One registry may hold several projects and targets; an object of this class speaks for one of them. Every
change is one transaction. Planning only reads; a registry that does not exist yet reads as empty.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from featureflow_cli.errors import Conflict, NotFound, StoreUnavailable
from featureflow_cli.plan.applied import Applied, Build, Version, ViewState
from featureflow_cli.plan.manifest import ListedFile, Replay, SeenFile
from featureflow_cli.plan.registry_file import RegistryFile
from featureflow_cli.times import format_timestamp


class Registry:
    def __init__(self, url: str | Path, project: str, target: str | None) -> None:
        """`url` is the path of an SQLite file; its folder is created by the first write."""
        if "://" in str(url):
            scheme = str(url).partition("://")[0]
            what = f"a registry at {scheme}:// is not in this version"
            raise StoreUnavailable(
                what, hint="set `registry:` to the path of a file, such as data/registry.db"
            )
        self._file = RegistryFile(Path(url))
        self._scope = (project, target or "")

    @property
    def path(self) -> Path:
        return self._file.path

    def applied(self) -> Applied | None:
        """The newest applied state; None where nothing was ever applied."""
        with self._file.reading() as connection:
            return None if connection is None else self._newest(connection)

    def at(self, version: int) -> Applied:
        """The state that `version` applied; NotFound where there is no such version."""
        with self._file.reading() as connection:
            row = (
                connection
                and connection.execute(
                    f"SELECT {_APPLIED} FROM applied WHERE project = ? AND target = ? AND version = ?",
                    (*self._scope, version),
                ).fetchone()
            )
        if not row:
            what = f"the registry has no version {version}"
            raise NotFound(what, hint="run: featureflow registry history")
        return Applied(*row)

    def history(self) -> list[Version]:
        """Every apply, newest first."""
        with self._file.reading() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT version, applied_us, applied_by, summary FROM applied"
                " WHERE project = ? AND target = ? ORDER BY version DESC",
                self._scope,
            ).fetchall()
        return [Version(*row) for row in rows]

    def record(
        self,
        *,
        definitions: str,
        allowed_future_us: int,
        views: Iterable[ViewState],
        expected_version: int,
        applied_by: str,
        at_us: int,
        summary: str,
    ) -> Applied:
        """Makes `definitions` the applied ones, and says which builds their views need; all or nothing.

        A view whose fingerprint a live build has keeps that build; any other gets a new one, `building`,
        while the serving one goes on until `serve` says so; builds of views that are gone are retired.
        `expected_version` is the version that the plan was made from (0: nothing applied); Conflict, saying
        who was first, where another one stands.
        """
        with self._file.writing() as connection:
            newest = self._newest(connection)
            if (newest.version if newest else 0) != expected_version:
                raise _overtaken(newest, expected_version)
            version = expected_version + 1
            applied = Applied(version, at_us, applied_by, summary, definitions, allowed_future_us)
            connection.execute(
                f"INSERT INTO applied (project, target, {_APPLIED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*self._scope, version, at_us, applied_by, summary, definitions, allowed_future_us),
            )
            self._settle_builds(connection, list(views), version, at_us)
            return applied

    def builds(self) -> list[Build]:
        """All builds but the dropped ones, in order of (view, number)."""
        with self._file.reading() as connection:
            return [] if connection is None else self._builds(connection)

    def fields(self) -> set[str]:
        """The states of all builds but the dropped ones, of whichever target of the project."""
        with self._file.reading() as connection:
            if connection is None:
                return set()
            return {build.field for build in _read_builds(connection, "project = ?", self._scope[:1])}

    def set_floor(self, number: int, ends: Mapping[int, int]) -> Mapping[int, int]:
        """Records a bootstrap's floor, unless one is recorded already; returns the one that stands."""
        with self._file.writing() as connection:
            build = self._build(connection, number)
            if build.floor is not None:
                return build.floor
            self._update(
                connection, number, "floor", json.dumps({str(key): ends[key] for key in sorted(ends)})
            )
            return dict(ends)

    def serve(self, number: int) -> bool:
        """A build that has caught up serves, and the one before is retired; False: it is retired itself."""
        with self._file.writing() as connection:
            build = self._build(connection, number)
            if not build.is_live:
                return False
            for other in self._builds(connection):
                if other.view == build.view and other.status == "serving" and other.number != number:
                    self._update(connection, other.number, "status", "retired")
            self._update(connection, number, "status", "serving")
            return True

    def renew(self, number: int, at_us: int) -> Build:
        """A build for the same state as that one, to be made from the log anew; several who ask get the same.

        The one before it goes on serving until this one serves, or is retired at once where it never did. Conflict
        where other definitions have been applied since: who asks has not learned of them, and wants what nobody wants.
        """
        with self._file.writing() as connection:
            old = self._build(connection, number)
            state = ViewState(old.view, old.entity, old.fingerprint)
            newest = self._newest(connection)
            assert newest is not None
            later = [
                build
                for build in self._builds(connection)
                if build.number > number and build.is_live and build.view == old.view
            ]
            for build in later:
                if _follows(build, state):
                    return build
            if later or not old.is_live:
                what = f"{newest.applied_by} applied version {newest.version}, which wants another {old.view}"
                raise Conflict(what, hint="start the stream again: it is for the definitions before that")
            if old.status == "building":
                self._update(connection, number, "status", "retired")
            self._add_builds(connection, [state], newest.version, at_us)
            return next(build for build in reversed(self._builds(connection)) if build.view == old.view)

    def drop(self, number: int) -> None:
        """Notes that a retired build's state is gone from the online store; as often as one likes."""
        with self._file.writing() as connection:
            self._update(connection, number, "status", "dropped")

    def manifest(self, source: str) -> list[ListedFile]:
        """The files of a source, in order of ordinal: 0, 1, 2, … without gaps."""
        with self._file.reading() as connection:
            return [] if connection is None else self._manifest(connection, source)

    def list_files(self, source: str, seen: Sequence[SeenFile], at_us: int) -> list[ListedFile]:
        """Appends the files that are not listed yet, in the given order, and returns the whole manifest.

        Two processes at once agree: a file listed by the other is left as it was listed.
        """
        with self._file.writing() as connection:
            listed = self._manifest(connection, source)
            known = {file.path for file in listed}
            fresh = list({file.path: file for file in seen if file.path not in known}.values())
            appended = [
                ListedFile(ordinal, file.path, file.size, file.mtime_ns, file.digest, at_us)
                for ordinal, file in enumerate(fresh, start=len(listed))
            ]
            connection.executemany(
                "INSERT INTO manifest VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *self._scope,
                        source,
                        file.ordinal,
                        file.path,
                        file.size,
                        file.mtime_ns,
                        file.digest,
                        at_us,
                    )
                    for file in appended
                ],
            )
            return listed + appended

    def replays(self, source: str) -> list[Replay]:
        """The dead letters of a source that were asked to be replayed, in order of ordinal without gaps."""
        with self._file.reading() as connection:
            return [] if connection is None else self._replays(connection, source)

    def list_replays(self, source: str, positions: Sequence[tuple[int, int]], at_us: int) -> list[Replay]:
        """Appends letters, given by (partition, offset), that are not listed yet; returns those appended."""
        with self._file.writing() as connection:
            listed = self._replays(connection, source)
            known = {(replay.partition, replay.offset) for replay in listed}
            fresh = [position for position in dict.fromkeys(positions) if position not in known]
            appended = [
                Replay(ordinal, partition, offset, at_us)
                for ordinal, (partition, offset) in enumerate(fresh, start=len(listed))
            ]
            connection.executemany(
                "INSERT INTO replays VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (*self._scope, source, replay.ordinal, replay.partition, replay.offset, at_us)
                    for replay in appended
                ],
            )
            return appended

    def topics(self) -> dict[str, str]:
        """Per source the id of the Kafka topic that its offsets are of."""
        with self._file.reading() as connection:
            return {} if connection is None else self._topics(connection)

    def note_topic(self, source: str, topic_id: str) -> str:
        """Notes which topic a source's offsets are of, unless one is noted; answers the one that stands."""
        noted = self.topics().get(source)  # nearly always there: no need to write
        if noted is not None:
            return noted
        with self._file.writing() as connection:
            connection.execute(
                "INSERT INTO topics VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*self._scope, source, topic_id),
            )
            return self._topics(connection)[source]

    def _newest(self, connection: sqlite3.Connection) -> Applied | None:
        row = connection.execute(
            f"SELECT {_APPLIED} FROM applied WHERE project = ? AND target = ? ORDER BY version DESC LIMIT 1",
            self._scope,
        ).fetchone()
        return Applied(*row) if row else None

    def _settle_builds(
        self, connection: sqlite3.Connection, views: Sequence[ViewState], version: int, at_us: int
    ) -> None:
        live = self._builds(connection)
        wanted = {state.view: state for state in views}
        kept = {build.view for build in live if build.is_live and _follows(build, wanted.get(build.view))}
        for build in live:
            goes_on_serving = build.status == "serving" and build.view in wanted
            if not goes_on_serving and not _follows(build, wanted.get(build.view)):
                self._update(connection, build.number, "status", "retired")
        fresh = [state for state in wanted.values() if state.view not in kept]
        self._add_builds(connection, fresh, version, at_us)

    def _add_builds(
        self, connection: sqlite3.Connection, fresh: Sequence[ViewState], version: int, at_us: int
    ) -> None:
        next_number = connection.execute(
            "SELECT coalesce(max(number), 0) + 1 FROM builds WHERE project = ? AND target = ?", self._scope
        ).fetchone()[0]
        connection.executemany(
            "INSERT INTO builds VALUES (?, ?, ?, ?, ?, ?, ?, 'building', NULL, ?)",
            [
                (*self._scope, number, state.view, state.entity, state.fingerprint, version, at_us)
                for number, state in enumerate(fresh, start=next_number)
            ],
        )

    def _builds(self, connection: sqlite3.Connection) -> list[Build]:
        return _read_builds(connection, "project = ? AND target = ?", self._scope)

    def _build(self, connection: sqlite3.Connection, number: int) -> Build:
        for build in self._builds(connection):
            if build.number == number:
                return build
        what = f"build {number} was dropped by a later apply"
        raise Conflict(what, hint="run the command again")

    def _update(self, connection: sqlite3.Connection, number: int, column: str, value: str) -> None:
        connection.execute(
            f"UPDATE builds SET {column} = ? WHERE project = ? AND target = ? AND number = ?",
            (value, *self._scope, number),
        )

    def _manifest(self, connection: sqlite3.Connection, source: str) -> list[ListedFile]:
        rows = connection.execute(
            "SELECT ordinal, path, size, mtime_ns, digest, listed_us FROM manifest"
            " WHERE project = ? AND target = ? AND source = ? ORDER BY ordinal",
            (*self._scope, source),
        ).fetchall()
        return [ListedFile(*row) for row in rows]

    def _topics(self, connection: sqlite3.Connection) -> dict[str, str]:
        rows = connection.execute(
            "SELECT source, topic_id FROM topics WHERE project = ? AND target = ? ORDER BY source",
            self._scope,
        ).fetchall()
        return dict(rows)

    def _replays(self, connection: sqlite3.Connection, source: str) -> list[Replay]:
        rows = connection.execute(
            "SELECT ordinal, letter_partition, letter_offset, listed_us FROM replays"
            " WHERE project = ? AND target = ? AND source = ? ORDER BY ordinal",
            (*self._scope, source),
        ).fetchall()
        return [Replay(*row) for row in rows]


_APPLIED = "version, applied_us, applied_by, summary, definitions, allowed_future_us"


def _read_builds(connection: sqlite3.Connection, where: str, scope: Sequence[str]) -> list[Build]:
    rows = connection.execute(
        "SELECT number, view, entity, fingerprint, version, status, floor, created_us FROM builds"
        f" WHERE {where} AND status <> 'dropped' ORDER BY view, number",
        scope,
    ).fetchall()
    return [
        Build(number, view, entity, fingerprint, version, status, _ends(floor), created_us)
        for number, view, entity, fingerprint, version, status, floor, created_us in rows
    ]


def _follows(build: Build, state: ViewState | None) -> bool:
    return state is not None and (build.fingerprint, build.entity) == (state.fingerprint, state.entity)


def _ends(text: str | None) -> Mapping[int, int] | None:
    return None if text is None else {int(partition): end for partition, end in json.loads(text).items()}


def _overtaken(newest: Applied | None, expected_version: int) -> Conflict:
    if newest is None:
        return Conflict("the registry was emptied since this plan was made", hint="run: featureflow plan")
    what = (
        f"{newest.applied_by} applied version {newest.version} at {format_timestamp(newest.applied_us)};"
        f" this plan was made from version {expected_version}, and nothing of it was applied"
    )
    return Conflict(what, hint="run `featureflow plan` again and look at what is left to change")
