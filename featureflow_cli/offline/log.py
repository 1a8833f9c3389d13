"""The offline log of one source: a Delta table of its accepted events (design.md 4, "Offline commits").

The log decides: below a partition's end nothing is decided again. So commits must continue the ends
[continue], are made on the very snapshot whose ends were compared [snapshot], and one that comes too late is
trimmed to what the table has not [trim]. What decides about events has a version, raised by one commit
[meaning].
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import Conflict, FeatureflowError, StoreUnavailable
from featureflow_cli.offline import compaction, drafts, files, memory
from featureflow_cli.offline.delta import DataFile, Table, settled
from featureflow_cli.offline.drafts import Draft
from featureflow_cli.offline.files import FileRef
from featureflow_cli.offline.places import Place, place_of
from featureflow_cli.offline.snapshots import MeaningMoved, Snapshot, Spans, trim
from featureflow_cli.spec.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MeaningMoved", "OfflineLog", "Snapshot", "trim"]

RESERVED = ("_partition", "_offset", "_ingested_at", "_day")
_MEANING = "featureflow.meaning"
_ORDER = "featureflow.meaning_order"
_RAISED = "featureflow.meaning_raised"
_APP = "featureflow/"
"""Before a partition's number: the application id whose version is the partition's end."""


class OfflineLog:
    """The log of `source` at `place` (text: a folder). For one thread; any number of processes may share the place.

    `meaning_order` numbers the applied versions of the definitions; None: whoever raises is the newest.
    """

    def __init__(self, place: str | Place, source: Source, *, meaning_order: int | None = None) -> None:
        self.place = place_of(place)
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
        earlier = Table.open(self.place, version)
        if earlier is None:
            message = f"the offline log has no version {version}"
            raise StoreUnavailable(message, at=str(self.place))
        return self._show(earlier)

    def draft(self) -> Draft:
        """What takes rows of `schema` before they are committed, so that `append` has less left to do."""
        return drafts.Draft(self.place, self._timestamp)

    def append(self, rows: "pa.Table", ends: Spans, base: Snapshot, draft: Draft | None = None) -> Snapshot:
        """Commit the accepted `rows` of the offsets that `ends` spans, all or nothing; may make the table.

        A `draft` holds the first ones of them already, in whatever parts; it is used up.
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
                making = draft or self.draft()
                making.add(judged.slice(making.rows))
                written.extend(making.put())
            files.commit(table, written, _transactions(ends))
            return self._show(table)

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
            table.set_properties({_MEANING: self.source.meaning, _ORDER: str(raised), _RAISED: str(raised)})
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

    def compact(self, minimum: int = 2, dry_run: bool = False) -> compaction.Compacted:
        """Join the small files of each day that has at least `minimum`; beside any other writer."""
        table = self._look()
        if table is None:
            return compaction.NOTHING
        return compaction.compact(table, self._timestamp, minimum, dry_run=dry_run)

    def vacuum(self, retention_hours: int, dry_run: bool = False) -> list[str]:
        """Delete files that no version of that time lists, nor a commit in flight; answers their paths."""
        table = self._look()
        return [] if table is None else table.vacuum(retention_hours, dry_run)

    @property
    def _timestamp(self) -> str:
        return self.source.timestamp_field

    def _look(self) -> Table | None:
        if self._table is None:
            self._table, self._shown = Table.open(self.place), None
        else:
            table, self._table = self._table, None  # opened afresh after an error
            table.look()
            self._table = table
        return self._table

    def _create(self) -> Table:
        import pyarrow as pa

        schema = self.schema.append(pa.field("_day", pa.date32()))
        properties = {_MEANING: self.source.meaning, _ORDER: str(self._meaning_order or 1)}
        self._table = Table.create(self.place, schema, properties)
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
        properties = table.properties
        return Snapshot(
            version=table.version,
            ends=_ends(table.transactions()),
            meaning=properties.get(_MEANING, ""),
            meaning_order=int(properties.get(_ORDER, "0")),
            _files=partial(_files_of, table, table.version, self._timestamp),
            raised_order=int(properties.get(_RAISED, "0")),
        )

    def _continues(self, now: Snapshot, ends: Spans, base: Snapshot) -> None:
        is_mine = now.meaning == self.source.meaning == base.meaning
        if not is_mine or base.meaning_order not in (now.meaning_order, 0):  # raised, perhaps there and back
            message = (
                f"source '{self.source.name}': the log takes commits of another version of its definition"
            )
            raise MeaningMoved(message, hint="apply, or let the stream learn the applied definitions")
        for partition, (start, _) in ends.items():
            end = now.ends.get(partition, start)
            if end != start:
                message = f"{self.place}: partition {partition} ends at {end}, the commit starts at {start}"
                raise Conflict(message, hint="trim to the newest snapshot, and repeat")

    def _withdraw(self, table: Table, written: list[DataFile]) -> None:
        """Remove the files of a failed commit, unless it was made after all and only its answer was lost."""
        if not written:
            return
        try:
            table.look()
            known = table.paths()
        except StoreUnavailable:  # nobody can say: `vacuum` will
            return
        drafts.remove(self.place, [file for file in written if file.path not in known])

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


def _transactions(ends: Spans) -> dict[str, int]:
    return {f"{_APP}{partition}": end for partition, (start, end) in ends.items() if start < end}


def _ends(transactions: Mapping[str, int]) -> dict[int, int]:
    found = {
        app_id.removeprefix(_APP): end for app_id, end in transactions.items() if app_id.startswith(_APP)
    }
    return dict(sorted((int(partition), end) for partition, end in found.items()))


def _files_of(table: Table, version: int, timestamp: str) -> tuple[FileRef, ...]:
    """The files of a version that `table` showed; it may have moved on since."""
    shown = table if table.version == version else Table.open(table.place, version)
    return () if shown is None else files.listed(shown, timestamp)
