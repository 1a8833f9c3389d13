"""One Delta table on a disk, as last looked at: the only module that imports deltalake.

Every commit is made on the very version that was looked at: it fails with `Moved` when anybody has committed
since, even where Delta itself would rebase. Whoever commits looks again, compares, and repeats (design.md 4
[snapshot]); Delta's own comparison of application transactions stands behind it as a second lock.
"""

import os
import random
import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from featureflow_cli.errors import Conflict, StoreUnavailable, UsageError

if TYPE_CHECKING:
    import deltalake
    import pyarrow as pa

CHECKPOINT_EVERY = 50
"""Commits between two checkpoints: what a reader that starts afresh has to read at most."""


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


class Table:
    """A Delta table with daily partitions by `_day`, seen at one version until `look` moves it on."""

    def __init__(self, table: "deltalake.DeltaTable", root: Path) -> None:
        self._table = table
        self.root = root
        self._folder = os.open(
            root / "_delta_log", os.O_RDONLY
        )  # held, so that no other folder gets its number
        weakref.finalize(self, os.close, self._folder)

    @staticmethod
    def open(root: Path, version: int | None = None) -> "Table | None":
        """The table at its newest version, or at an earlier one; None where there is none."""
        import deltalake
        from deltalake.exceptions import TableNotFoundError

        with reported(root):
            try:
                return Table(deltalake.DeltaTable(os.fspath(root), version=version), root)
            except TableNotFoundError:
                return None

    @staticmethod
    def create(root: Path, schema: "pa.Schema", properties: Mapping[str, str]) -> "Table":
        """An empty table; where another process was faster, the table that it made."""
        import deltalake
        from deltalake.exceptions import DeltaError

        with reported(root):
            root.mkdir(parents=True, exist_ok=True)
            try:
                deltalake.DeltaTable.create(
                    os.fspath(root),
                    schema,
                    partition_by="_day",
                    configuration={"delta.checkpointInterval": str(CHECKPOINT_EVERY), **properties},
                    raise_if_key_not_exists=False,
                )
            except DeltaError:
                table = Table.open(root)
                if table is None:
                    raise
                return table
            durable(root / "_delta_log" / f"{0:020}.json")
            return Table(deltalake.DeltaTable(os.fspath(root)), root)

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
        with reported(self.root):
            if not os.path.samestat((self.root / "_delta_log").stat(), os.fstat(self._folder)):
                message = "the table was removed and made anew while it was in use"
                raise OSError(message)
            self._table.update_incremental()

    def transaction(self, app_id: str) -> int | None:
        """The last version that a commit gave to that application id."""
        with reported(self.root):
            found: int | None = self._table.transaction_version(app_id)
        return found

    def files(self) -> "pa.Table":
        """One row a listed file: `path` (relative), `num_records`, `size_bytes`, `min.NAME`, `max.NAME`."""
        import pyarrow as pa

        with reported(self.root):
            actions = self._table.get_add_actions(flatten=True)
            return pa.RecordBatchReader.from_stream(actions).read_all()  # pa.table() would import pandas

    def commit(
        self, added: Sequence[DataFile], transactions: Mapping[str, int], removed: Sequence[DataFile] = ()
    ) -> None:
        """List files and set application transactions, in one version; then look. Raises Moved.

        With `removed` the rows are the same as before: compaction.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.transaction import AddAction, RemoveAction

        moment_ms = max((self._modified_ms(file) for file in added), default=0)
        changes = not removed
        actions = [
            AddAction(file.path, file.bytes, {"_day": file.day}, self._modified_ms(file), changes, file.stats)
            for file in added
        ] + [RemoveAction(file.path, False, moment_ms, file.bytes, {"_day": file.day}) for file in removed]
        with reported(self.root):
            self._table.create_write_transaction(
                actions,
                "append",
                self._table.schema(),
                ["_day"],
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(*item) for item in transactions.items()],
                    max_commit_retries=0,
                ),
            )
            self._seal()

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Set table properties in one version, then look; raises Moved. Makes every commit in flight fail."""
        from deltalake import CommitProperties

        with reported(self.root):
            self._table.alter.set_table_properties(
                dict(properties),
                raise_if_not_exists=False,
                commit_properties=CommitProperties(max_commit_retries=0),
            )
            self._seal()

    def add_columns(self, fields: Sequence["pa.Field"]) -> None:
        """Widen the schema by nullable columns in one version, then look; raises Moved."""
        from deltalake import CommitProperties, Field

        with reported(self.root):
            self._table.alter.add_columns(
                [Field.from_arrow(field) for field in fields],
                commit_properties=CommitProperties(max_commit_retries=0),
            )
            self._seal()

    def vacuum(self, retention_hours: int) -> list[str]:
        """Delete the files that no version of the last `retention_hours` lists; answers their paths."""
        with reported(self.root):
            return list(
                self._table.vacuum(
                    retention_hours, dry_run=False, enforce_retention_duration=retention_hours > 0
                )
            )

    def _seal(self) -> None:
        """Put the commit on the disk itself, then look."""
        durable(self.root / "_delta_log" / f"{self.version + 1:020}.json")
        self._table.update_incremental()

    def _modified_ms(self, file: DataFile) -> int:
        return (self.root / file.path).stat().st_mtime_ns // 1_000_000


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
    message = f"{table.root}: {ATTEMPTS} commits in a row were overtaken by others"
    raise Conflict(message, hint="raise `stream: {commit_interval: …}`")


def local(path: str) -> Path:
    """The folder that `path` names; object storage is refused by name, not mistaken for a folder."""
    if "://" in path:
        message = f"offline_store path '{path}': only local folders are supported yet"
        raise UsageError(message)
    return Path(path).absolute()


def durable(path: Path) -> None:
    """Wait until the file and its entry in its folder are on the disk: no commit may outlive its rows."""
    for place in (path, path.parent):
        if not place.exists():  # a version just made that a cleanup or another writer's checkpoint took away
            continue
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def reported(root: Path) -> Iterator[None]:
    """Turn what deltalake and the disk raise into Moved and StoreUnavailable."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    if _ESCAPE.search(os.fspath(root)):
        message = f"the path {root} holds a percent escape, which Delta takes for another character"
        raise StoreUnavailable(message, hint="rename that folder")
    try:
        yield
    except CommitFailedError as error:
        message = f"{root}: another process has committed meanwhile"
        raise Moved(message, hint="look again, and repeat") from error
    except (DeltaError, OSError) as error:
        message = f"the offline store does not answer: {plain(error)}"
        raise StoreUnavailable(message, at=os.fspath(root)) from error


def plain(error: Exception) -> str:
    """An error's text in one line: delta-rs draws a coloured tree of causes, and a stack beneath some."""
    text = _STACK.split(_COLOUR.sub("", str(error)), maxsplit=1)[0]
    lines = text.replace("↳", "").split("\n")
    return ": ".join(line.strip() for line in lines if line.strip())
