"""One Delta table, as last looked at: the only module that imports deltalake.

Every commit is made on the very version that was looked at: it fails with `Moved` when anybody has committed
since, even where Delta itself would rebase. Whoever commits looks again, compares, and repeats (design.md 4
[snapshot]); Delta's own comparison of application transactions stands behind it as a second lock.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from featureflow_cli.errors import Conflict, StoreUnavailable
from featureflow_cli.offline.places import LOG, Place
from featureflow_cli.offline.transactions import NOTHING, Known, LogFiles, follow

if TYPE_CHECKING:
    import deltalake
    import pyarrow as pa

CHECKPOINT_EVERY = 20
"""Commits between two checkpoints: what a reader that starts afresh has to read at most, file by file."""
PROPERTIES = {
    "delta.checkpointInterval": str(CHECKPOINT_EVERY),
    # A commit lists the log, and there are seventeen thousand a day: what it takes must not grow with them.
    "delta.logRetentionDuration": "interval 2 hours",
    "delta.deletedFileRetentionDuration": "interval 1 days",
}

ATTEMPTS = 1000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")  # delta-rs 1.6 writes to such a path and reads from the decoded one
_STACK = re.compile(r"\n\s*0: \S+")
Answer = TypeVar("Answer")


class Moved(Conflict):
    """Somebody has committed since the table was looked at; nothing was committed now."""


@dataclass(frozen=True)
class DataFile:
    """A Parquet file that lies in the table's folder, listed or not yet. `stats` is Delta's JSON."""

    path: str
    bytes: int
    day: str
    stats: str
    modified_ms: int


class Table:
    """A Delta table with daily partitions by `_day`, seen at one version until `look` moves it on."""

    def __init__(self, table: "deltalake.DeltaTable", place: Place) -> None:
        self._table = table
        self.place = place
        self._watch = place.watch()
        self._watch.mark(self.version)
        self._known = NOTHING

    @staticmethod
    def open(place: Place, version: int | None = None) -> "Table | None":
        """The table at its newest version, or at an earlier one; None where there is none."""
        from deltalake.exceptions import TableNotFoundError

        with reported(place):
            try:
                return Table(_opened(place, version), place)
            except TableNotFoundError:
                return None

    @staticmethod
    def create(place: Place, schema: "pa.Schema", properties: Mapping[str, str]) -> "Table":
        """An empty table; where another process was faster, the table that it made."""
        import deltalake
        from deltalake.exceptions import DeltaError

        with reported(place):
            place.prepare()
            try:
                deltalake.DeltaTable.create(
                    place.url,
                    schema,
                    partition_by="_day",
                    configuration={**PROPERTIES, **properties},
                    raise_if_key_not_exists=False,
                    storage_options=place.options,
                )
            except DeltaError:
                table = Table.open(place)
                if table is None:
                    raise
                return table
            place.seal(_commit_path(0))
            return Table(_opened(place), place)

    @property
    def version(self) -> int:
        return int(self._table.version())

    @property
    def properties(self) -> Mapping[str, str]:
        return dict(self._table.metadata().configuration)

    @property
    def schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema(self._table.schema())

    def look(self) -> None:
        """Move on to the newest version; StoreUnavailable where the table has been removed or replaced meanwhile.

        A commit on what was removed would be one that nobody can read.
        """
        from deltalake.exceptions import DeltaError

        with reported(self.place):
            if self._watch.holds():
                self._update()
                return
            message = "the table was removed, or made anew, while it was in use"
            try:
                fresh = _opened(self.place)  # where only its log was cut behind us, it is the same
            except DeltaError as error:
                raise OSError(message) from error
            if fresh.metadata().id != self._table.metadata().id or fresh.version() < self.version:
                raise OSError(message)
            self._table, self._watch = fresh, self.place.watch()
            self._watch.mark(self.version)

    def transactions(self) -> Mapping[str, int]:
        """The last version that commits gave to each application id."""
        if self._known.version != self.version:
            log = LogFiles(lambda name: self.place.get(f"{LOG}/{name}"), lambda: self.place.names(LOG))
            with reported(self.place):
                self._known = follow(log, self.version, self._known)
        return self._known.last

    def files(self) -> "pa.Table":
        """One row a listed file: `path` (relative), `num_records`, `size_bytes`, `min.NAME`, `max.NAME`."""
        import pyarrow as pa

        with reported(self.place):
            actions = self._table.get_add_actions(flatten=True)
            return pa.RecordBatchReader.from_stream(actions).read_all()  # pa.table() would import pandas

    def paths(self) -> set[str]:
        """The paths of the listed files."""
        return set(self.files().column("path").to_pylist())

    def commit(
        self, added: Sequence[DataFile], transactions: Mapping[str, int], removed: Sequence[DataFile] = ()
    ) -> None:
        """List files and set application transactions, in one version; then look. Raises Moved.

        With `removed` the rows are the same as before: compaction.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.transaction import AddAction, RemoveAction

        moment_ms = max((file.modified_ms for file in added), default=0)
        changes = not removed
        actions = [
            AddAction(file.path, file.bytes, {"_day": file.day}, file.modified_ms, changes, file.stats)
            for file in added
        ] + [RemoveAction(file.path, False, moment_ms, file.bytes, {"_day": file.day}) for file in removed]
        with reported(self.place):
            self._table.create_write_transaction(
                actions,
                "append",
                self._table.schema(),
                ["_day"],
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(*item) for item in transactions.items()],
                    max_commit_retries=0,
                ),
                post_commithook_properties=self._upkeep(),
            )
            before = self.version
            self._seal()
            if self._known.version == before and self.version == before + 1:
                self._known = Known(self.version, {**self._known.last, **transactions})

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Set table properties in one version, then look; raises Moved. Makes every commit in flight fail."""
        from deltalake import CommitProperties

        with reported(self.place):
            self._table.alter.set_table_properties(
                dict(properties),
                raise_if_not_exists=False,
                commit_properties=CommitProperties(max_commit_retries=0),
                post_commithook_properties=self._upkeep(),
            )
            self._seal()

    def add_columns(self, fields: Sequence["pa.Field"]) -> None:
        """Widen the schema by nullable columns in one version, then look; raises Moved."""
        from deltalake import CommitProperties, Field

        with reported(self.place):
            self._table.alter.add_columns(
                [Field.from_arrow(field) for field in fields],
                commit_properties=CommitProperties(max_commit_retries=0),
                post_commithook_properties=self._upkeep(),
            )
            self._seal()

    def vacuum(self, retention_hours: int, dry_run: bool = False) -> list[str]:
        """Delete the files that are older and that no version of that time lists; answers their paths."""
        with reported(self.place):
            return list(
                self._table.vacuum(
                    retention_hours,
                    dry_run=dry_run,
                    enforce_retention_duration=retention_hours > 0,
                    post_commithook_properties=self._upkeep(),
                    full=True,  # also what a killed process left behind
                )
            )

    def _seal(self) -> None:
        """Put the commit on the disk itself, then look."""
        self.place.seal(_commit_path(self.version + 1))
        self._update()

    def _update(self) -> None:
        before = self.version
        self._table.update_incremental()
        if self.version != before:
            self._watch.mark(self.version)

    def _upkeep(self) -> Any:
        """With a checkpoint the log is cut; in between nobody lists all of it."""
        from deltalake import PostCommitHookProperties

        is_due = (
            self.version + 2
        ) % CHECKPOINT_EVERY == 0  # as deltalake counts: it makes one after 19, 39, …
        return PostCommitHookProperties(create_checkpoint=is_due, cleanup_expired_logs=is_due)


def _opened(place: Place, version: int | None = None) -> "deltalake.DeltaTable":
    import deltalake

    return deltalake.DeltaTable(place.url, version=version, storage_options=place.options)


def _commit_path(version: int) -> str:
    return f"{LOG}/{version:020}.json"


def settled(table: Table, turn: Callable[[], Answer]) -> Answer:
    """The answer of the first `turn` that is not overtaken; before each other one the table is looked at.

    A turn compares with what `table` shows, and commits on that. Conflict after ATTEMPTS turns.
    """
    for attempt in range(ATTEMPTS):
        try:
            return turn()
        except Moved:
            time.sleep(random.uniform(0, 0.002 * min(attempt, 20)))  # noqa: S311 - no secret, only a spread
            table.look()
    message = f"{table.place}: {ATTEMPTS} commits in a row were overtaken by others"
    raise Conflict(message, hint="raise `stream: {commit_interval: …}`")


@contextmanager
def reported(place: Place) -> Iterator[None]:
    """Turn what deltalake and the disk raise into Moved and StoreUnavailable."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    if _ESCAPE.search(place.url):
        message = f"the path {place} holds a percent escape, which Delta takes for another character"
        raise StoreUnavailable(message, hint="rename that folder")
    try:
        yield
    except CommitFailedError as error:
        message = f"{place}: another process has committed meanwhile"
        raise Moved(message, hint="look again, and repeat") from error
    except (DeltaError, OSError) as error:
        message = f"the offline store does not answer: {plain(error)}"
        raise StoreUnavailable(message, at=str(place)) from error


def plain(error: Exception) -> str:
    """An error's text in one line: delta-rs draws a coloured tree of causes, and a stack beneath some."""
    text = _STACK.split(_COLOUR.sub("", str(error)), maxsplit=1)[0]
    lines = text.replace("↳", "").split("\n")
    return ": ".join(line.strip() for line in lines if line.strip())
