"""The offline log of one source: a Delta table of its accepted events (design.md 4, "Offline commits").

The log decides: below a partition's end nothing is decided again. So commits must continue the ends
[continue], are made on the very snapshot whose ends were compared [snapshot], and one that comes too late is
trimmed to what the table has not [trim]. What decides about events has a version, raised by one commit
[meaning].
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import Conflict, FeatureflowError, StoreUnavailable
from featureflow_cli.offline import files
from featureflow_cli.offline.delta import DataFile, Moved, Table, local
from featureflow_cli.offline.files import FileRef
from featureflow_cli.offline.snapshots import MeaningMoved, Snapshot, Spans, trim
from featureflow_cli.spec.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MeaningMoved", "OfflineLog", "Snapshot", "trim"]

RESERVED = ("_partition", "_offset", "_ingested_at", "_day")
BELOW_ZERO = (-1, -2)
"""The partitions that are not Kafka's: files, and replayed dead letters."""
ATTEMPTS = 1000

_MEANING = "featureflow.meaning"
_ORDER = "featureflow.meaning_order"
_PARTITIONS = "featureflow/partitions"


class OfflineLog:
    """The log of `source` in the folder `path`. For one thread; any number of processes may share the folder.

    `meaning_order` numbers the applied versions of the source, for a table that is made new.
    """

    def __init__(self, path: str, source: Source, *, meaning_order: int = 1) -> None:
        self.root = local(path)
        self.source = source
        self._meaning_order = meaning_order
        self._table: Table | None = None
        self._shown: Snapshot | None = None

    @property
    def schema(self) -> "pa.Schema":
        """What `append` takes: the source's columns, `_partition`, `_offset`, `_ingested_at`."""
        import pyarrow as pa

        columns = [pa.field(name, arrow_type(kind)) for name, kind in self.source.columns.items()]
        return pa.schema(
            [
                *columns,
                pa.field("_partition", pa.int32()),
                pa.field("_offset", pa.int64()),
                pa.field("_ingested_at", pa.timestamp("us", tz="UTC")),
            ]
        )

    def snapshot(self, version: int | None = None) -> Snapshot:
        """The newest version, or an earlier one; StoreUnavailable where that is no longer there."""
        if version is None:
            table = self._look()
            return self._empty() if table is None else self._show(table)
        if version < 0:
            return self._empty()
        earlier = Table.open(self.root, version)
        if earlier is None:
            message = f"the offline log has no version {version}"
            raise StoreUnavailable(message, at=os.fspath(self.root))
        return self._show(earlier)

    def append(self, rows: "pa.Table", ends: Spans, base: Snapshot) -> Snapshot:
        """Commit the accepted `rows` of the offsets that `ends` spans, all or nothing; may make the table.

        `base` is the snapshot by whose meaning the rows were judged. A span without rows moves the end; empty
        spans commit nothing. Raises Conflict where the table ends elsewhere than the spans start (`trim` to
        a new snapshot and repeat), MeaningMoved where the meaning was raised, StoreUnavailable where the disk
        refuses: then nothing is visible, unless only the answer was lost, which `trim` settles as well.
        """
        self._check(rows, ends)
        written: list[DataFile] | None = None
        table = self._look() or self._create()
        for attempt in range(ATTEMPTS):
            now = self._show(table)
            try:
                self._continues(now, ends, base)
            except Conflict:
                self._withdraw(table, written or [])
                raise
            if all(start == end for start, end in ends.values()):
                return now
            if written is None:
                written = files.write(
                    self.root, rows.select(self.schema.names).cast(self.schema), self._timestamp
                )
            try:
                table.commit(written, self._transactions(now, ends))
            except Moved:
                time.sleep(random.uniform(0, 0.002 * min(attempt, 20)))  # noqa: S311 - who waits longer is no secret
                table.look()
                continue
            return self._committed(table, now, ends)
        self._withdraw(table, written or [])
        message = f"{self.root}: {ATTEMPTS} commits in a row were overtaken"
        raise Conflict(message, hint="raise commit_interval")

    def raise_meaning(self, base: Snapshot, order: int | None = None) -> Snapshot:
        """Make this source's meaning the one that may commit; the answer's ends are the new views' floor.

        Where it already is, nothing is committed. `order` (default: the next) must exceed the table's: an
        older meaning is refused with MeaningMoved, and so is one raised on a `base` that no longer holds.
        """
        table = self._look() or self._create()
        for _ in range(ATTEMPTS):
            now = self._show(table)
            if now.meaning == self.source.meaning:
                return now
            raised = now.meaning_order + 1 if order is None else order
            if base.meaning_order not in (now.meaning_order, 0) or raised <= now.meaning_order:
                message = f"source '{self.source.name}': a newer version of its definition has been applied"
                raise MeaningMoved(message)
            try:
                self._widen(table)
                table.set_properties({_MEANING: self.source.meaning, _ORDER: str(raised)})
            except Moved:
                table.look()
                continue
            return self._show(table)
        message = f"{self.root}: {ATTEMPTS} commits in a row were overtaken"
        raise Conflict(message)

    def newest_us(self, snapshot: Snapshot, partition: int) -> int | None:
        """The greatest timestamp among the partition's rows; None where it has none."""
        import pyarrow.compute as pc

        newest: int | None = None
        for file in sorted(snapshot.files, key=lambda file: file.last_us or 0, reverse=True):
            if newest is not None and file.last_us is not None and file.last_us <= newest:
                break
            for batch in self._scan([file], [self._timestamp], pc.field("_partition") == partition):
                if batch.num_rows:
                    found = pc.max(batch.column(0).cast("int64")).as_py()
                    newest = found if newest is None else max(newest, found)
        return newest

    def recent(self, snapshot: Snapshot, partition: int, since_us: int) -> "pa.Table":
        """The memory of ids [memory]: `ts` and `id` of the partition's rows since `since_us`, in no order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.source.event_id is None:
            message = f"source '{self.source.name}' has no event_id"
            raise FeatureflowError(message)
        moment = pa.scalar(since_us, pa.timestamp("us", tz="UTC"))
        where = (
            (pc.field("_partition") == partition)
            & (pc.field(self._timestamp) >= moment)
            & (pc.field("_offset") < snapshot.ends.get(partition, 0))
        )
        chosen = [file for file in snapshot.files if file.may_hold(since_us, None)]
        names = [self._timestamp, self.source.event_id]
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches(self._scan(chosen, names, where), schema).rename_columns(["ts", "id"])

    def rows(self, snapshot: Snapshot, partition: int, start: int, end: int) -> "pa.Table":
        """The partition's rows with `start <= offset < end`, in order of offset: for replays [log]."""
        import pyarrow as pa
        import pyarrow.compute as pc

        where = (
            (pc.field("_partition") == partition)
            & (pc.field("_offset") >= start)
            & (pc.field("_offset") < min(end, snapshot.ends.get(partition, 0)))
        )
        chosen = [file for file in snapshot.files if file.may_hold_offsets(partition, start, end)]
        return pa.Table.from_batches(self._scan(chosen, self.schema.names, where), self.schema).sort_by(
            "_offset"
        )

    @property
    def _timestamp(self) -> str:
        return self.source.timestamp_field

    def _scan(self, chosen: list[FileRef], names: list[str], where: object) -> "Iterator[pa.RecordBatch]":
        return files.scan(chosen, self.schema, names, where)

    def _look(self) -> Table | None:
        if self._table is None:
            self._table = Table.open(self.root)
        else:
            self._table.look()
        return self._table

    def _create(self) -> Table:
        import pyarrow as pa

        schema = self.schema.append(pa.field("_day", pa.date32()))
        properties = {_MEANING: self.source.meaning, _ORDER: str(self._meaning_order)}
        self._table = Table.create(self.root, schema, properties)
        return self._table

    def _empty(self) -> Snapshot:
        return Snapshot(-1, {}, self.source.meaning, 0, tuple)

    def _show(self, table: Table) -> Snapshot:
        if self._shown is None or self._shown.version != table.version or table is not self._table:
            shown = self._read(table)
            if table is not self._table:
                return shown
            self._shown = shown
        return self._shown

    def _read(self, table: Table) -> Snapshot:
        """Ask the table for every end, each of which costs a replay of its latest commits."""
        known = (*range(table.transaction(_PARTITIONS) or 0), *BELOW_ZERO)
        found = {partition: table.transaction(_app_id(partition)) for partition in known}
        properties = table.properties
        return Snapshot(
            version=table.version,
            ends={partition: end for partition, end in sorted(found.items()) if end is not None},
            meaning=properties.get(_MEANING, ""),
            meaning_order=int(properties.get(_ORDER, "0")),
            _files=partial(_files_of, self.root, table.version, self._timestamp),
        )

    def _committed(self, table: Table, before: Snapshot, ends: Spans) -> Snapshot:
        """The snapshot after our commit on `before`: known without asking, if nobody has committed since."""
        if table.version == before.version + 1:
            moved = before.ends | {partition: end for partition, (start, end) in ends.items() if start < end}
            self._shown = replace(
                before,
                version=table.version,
                ends=dict(sorted(moved.items())),
                _files=partial(_files_of, self.root, table.version, self._timestamp),
            )
        return self._show(table)

    def _transactions(self, now: Snapshot, ends: Spans) -> dict[str, int]:
        moved = {partition: end for partition, (start, end) in ends.items() if start < end}
        count = max(moved) + 1
        grown = {_PARTITIONS: count} if count > max(now.ends, default=-1) + 1 else {}
        return grown | {_app_id(partition): end for partition, end in moved.items()}

    def _continues(self, now: Snapshot, ends: Spans, base: Snapshot) -> None:
        if not now.meaning == self.source.meaning == base.meaning:
            message = (
                f"source '{self.source.name}': the log takes commits of another version of its definition"
            )
            raise MeaningMoved(message, hint="apply, or let the stream learn the applied definitions")
        for partition, (start, _) in ends.items():
            end = now.ends.get(partition, start)
            if end != start:
                message = f"{self.root}: partition {partition} ends at {end}, the commit starts at {start}"
                raise Conflict(message, hint="trim to the newest snapshot, and repeat")

    def _withdraw(self, table: Table, written: list[DataFile]) -> None:
        """Remove the files of a refused commit, unless it was made after all and only its answer was lost."""
        if written:
            known = set(table.files().column("path").to_pylist())
            files.remove(self.root, [file for file in written if file.path not in known])

    def _check(self, rows: "pa.Table", ends: Spans) -> None:
        """The caller's part of the bargain, looked at once more: every row lies in its partition's span."""
        if rows.num_rows != trim(rows, ends, self._empty())[0].num_rows or any(
            a > b for a, b in ends.values()
        ):
            message = (
                f"source '{self.source.name}': rows outside the offsets {dict(ends)} that the commit decides"
            )
            raise FeatureflowError(message)

    def _widen(self, table: Table) -> None:
        """Add the source's new columns to the table; a column cannot change its type."""
        held = table.schema
        changed = [
            f"{field.name} ({held.field(field.name).type} -> {field.type})"
            for field in self.schema
            if field.name in held.names and held.field(field.name).type != field.type
        ]
        if changed:
            message = f"source '{self.source.name}': the log holds {', '.join(changed)} with another type"
            raise FeatureflowError(
                message, hint="declare the column under a new name (`from:` keeps the path)"
            )
        added = [field for field in self.schema if field.name not in held.names]
        if added:
            table.add_columns(added)


def _app_id(partition: int) -> str:
    return f"featureflow/{partition}"


def _files_of(root: "os.PathLike[str]", version: int, timestamp: str) -> tuple[FileRef, ...]:
    table = Table.open(local(os.fspath(root)), version)
    return () if table is None else files.listed(table, timestamp)
