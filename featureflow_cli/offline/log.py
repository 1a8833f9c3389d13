"""The offline log of one source: a Delta table of its accepted events (design.md 4, "Offline commits").

The log decides: below a partition's end nothing is decided again. So commits must continue the ends
[continue], are made on the very snapshot whose ends were compared [snapshot], and one that comes too late is
trimmed to what the table has not [trim]. What decides about events has a version, raised by one commit
[meaning].
"""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import Conflict, FeatureflowError, StoreUnavailable
from featureflow_cli.offline import compaction, files, memory
from featureflow_cli.offline.delta import DataFile, Table, local, settled
from featureflow_cli.offline.files import FileRef
from featureflow_cli.offline.snapshots import MeaningMoved, Snapshot, Spans, trim
from featureflow_cli.spec.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MeaningMoved", "OfflineLog", "Snapshot", "trim"]

RESERVED = ("_partition", "_offset", "_ingested_at", "_day")
BELOW_ZERO = (-1, -2)
"""The partitions that are not Kafka's: files, and replayed dead letters."""

_MEANING = "featureflow.meaning"
_ORDER = "featureflow.meaning_order"
_PARTITIONS = "featureflow/partitions"


class OfflineLog:
    """The log of `source` in the folder `path`. For one thread; any number of processes may share the folder.

    `meaning_order` numbers the applied versions of the definitions; None: whoever raises is the newest.
    """

    def __init__(self, path: str, source: Source, *, meaning_order: int | None = None) -> None:
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
        table = self._look() or self._create()
        written: list[DataFile] = []

        def turn() -> Snapshot:
            now = self._show(table)
            self._continues(now, ends, base)
            if all(start == end for start, end in ends.values()):
                return now
            if rows.num_rows and not written:
                written.extend(files.write(self.root, judged, self._timestamp))
            table.commit(written, self._transactions(now, ends))
            return self._committed(table, now, ends)

        judged = rows.select(self.schema.names).cast(self.schema)
        try:
            return settled(table, turn)
        except (Conflict, StoreUnavailable):
            self._withdraw(table, written)
            raise

    def raise_meaning(self, base: Snapshot, order: int | None = None) -> Snapshot:
        """Make this source's meaning the one that may commit; the answer's ends are the new views' floor.

        Where it already is, nothing is committed. `order` (default: the log's own, or the next) must exceed
        the table's: an older meaning is refused with MeaningMoved, as is one raised on an outdated `base`.
        """
        table = self._look() or self._create()

        def turn() -> Snapshot:
            now = self._show(table)
            if now.meaning == self.source.meaning:
                return now
            raised = order or self._meaning_order or now.meaning_order + 1
            if base.meaning_order not in (now.meaning_order, 0) or raised <= now.meaning_order:
                message = f"source '{self.source.name}': a newer version of its definition has been applied"
                raise MeaningMoved(message)
            self._widen(table)
            table.set_properties({_MEANING: self.source.meaning, _ORDER: str(raised)})
            return self._show(table)

        return settled(table, turn)

    def newest_us(self, snapshot: Snapshot, partition: int) -> int | None:
        """The greatest timestamp among the partition's rows; None where it has none."""
        return memory.newest_us(snapshot.files, self.schema.field(self._timestamp), partition)

    def recent(self, snapshot: Snapshot, partition: int, since_us: int) -> "pa.Table":
        """The memory of ids [memory]: `ts` and `id` of the partition's rows since `since_us`, in no order."""
        if self.source.event_id is None:
            message = f"source '{self.source.name}' has no event_id"
            raise FeatureflowError(message)
        ts, id = self.schema.field(self._timestamp), self.schema.field(self.source.event_id)
        return memory.recent(snapshot, ts, id, partition, since_us)

    def compact(self, minimum: int = 2) -> tuple[int, int]:
        """Join the small files of each day; answers (files before, files after) of those joined."""
        import pyarrow as pa

        table = self._look()
        if table is None:
            return (0, 0)
        held = pa.schema([field for field in table.schema if field.name != "_day"])
        return compaction.compact(table, held, self._timestamp, minimum)

    def vacuum(self, retention_hours: int = 168) -> list[str]:
        """Delete files that no version of that time lists; versions before it can no longer be read."""
        table = self._look()
        return [] if table is None else table.vacuum(retention_hours)

    @property
    def _timestamp(self) -> str:
        return self.source.timestamp_field

    def _look(self) -> Table | None:
        if self._table is None:
            self._table, self._shown = Table.open(self.root), None
        else:
            table, self._table = self._table, None  # opened afresh after an error
            table.look()
            self._table = table
        return self._table

    def _create(self) -> Table:
        import pyarrow as pa

        schema = self.schema.append(pa.field("_day", pa.date32()))
        properties = {_MEANING: self.source.meaning, _ORDER: str(self._meaning_order or 1)}
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
        """Remove the files of a failed commit, unless it was made after all and only its answer was lost."""
        if not written:
            return
        try:
            table.look()
            known = set(table.files().column("path").to_pylist())
        except StoreUnavailable:  # nobody can say: `vacuum` will
            return
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
