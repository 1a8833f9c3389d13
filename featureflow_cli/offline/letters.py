"""The dead letters of all sources: an append-only Delta table in which each position stands once.

Letters are written before the commit that passes their offsets [letters], so a replay may bring them again:
what stands is kept, and the newcomer is dropped.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featureflow_cli.offline import compaction, drafts, files
from featureflow_cli.offline.delta import Moved, Table, settled
from featureflow_cli.offline.files import FileRef
from featureflow_cli.offline.places import Place, place_of

if TYPE_CHECKING:
    import pyarrow as pa

_LETTERED = "lettered_at"
_POSITION = ("source", "partition", "offset")
_IN_ORDER = [(name, "ascending") for name in (_LETTERED, *_POSITION)]


class DeadLetters:
    """The table at `place` (text: a folder). For one thread; any number of processes may share the place."""

    def __init__(self, place: str | Place) -> None:
        self.place = place_of(place)
        self._table: Table | None = None

    @property
    def schema(self) -> "pa.Schema":
        """One letter: its position, the reason, what came, and when (for the source, for the worker)."""
        import pyarrow as pa

        moment = pa.timestamp("us", tz="UTC")
        return pa.schema(
            [
                ("source", pa.string()),
                ("partition", pa.int32()),
                ("offset", pa.int64()),
                ("reason", pa.string()),
                ("detail", pa.string()),
                ("payload", pa.binary()),
                ("recorded_at", moment),
                (_LETTERED, moment),
            ]
        )

    def append(self, letters: "pa.Table") -> int:
        """Write those whose position (source, partition, offset) is new; answers how many.

        They are on the disk when it returns. StoreUnavailable where that fails: then none of them is visible,
        unless only the answer was lost; bringing them again settles that.
        """
        letters = letters.select(self.schema.names).cast(self.schema)
        if letters.num_rows == 0:
            return 0
        table = self._look() or self._create()
        ends = _ends(letters)

        def turn() -> int:
            fresh = self._fresh(table, letters, ends)
            if fresh.num_rows == 0:
                return 0
            draft = drafts.Draft(self.place, _LETTERED, _POSITION)
            draft.add(fresh)
            written = draft.put()
            known = table.transactions()
            raised = {app_id: max(end, known.get(app_id, 0)) for app_id, end in ends.items()}
            try:
                files.commit(table, written, raised)
            except Moved:
                drafts.remove(self.place, written)
                raise
            return int(fresh.num_rows)

        return settled(table, turn)

    def read(
        self,
        source: str | None = None,
        reason: str | None = None,
        since_us: int | None = None,
        partition: int | None = None,
        *,
        newest: int | None = None,
    ) -> "pa.Table":
        """The letters that match all that is given (`since_us`: of `lettered_at`), by time and position.

        Of these the last `newest` ones only; the others' payloads are not read.
        """
        where = _where(source, reason, since_us, partition)
        if newest is not None:
            moments = self._columns([_LETTERED], where, since_us).column(_LETTERED).cast("int64").to_numpy()
            if len(moments) > newest:
                moments.partition(len(moments) - newest)
                since_us = int(moments[-newest])
                where = _where(source, reason, since_us, partition)
        found = self._columns(self.schema.names, where, since_us).sort_by(_IN_ORDER)
        return found if newest is None else found.slice(max(0, found.num_rows - newest))

    def positions(
        self, source: str | None = None, reason: str | None = None, since_us: int | None = None
    ) -> "list[tuple[str, int, int]]":
        """(source, partition, offset) of the letters that match, in the order in which `read` has them."""
        names = [_LETTERED, *_POSITION]
        found = self._columns(names, _where(source, reason, since_us), since_us).sort_by(_IN_ORDER)
        return list(zip(*(found.column(name).to_pylist() for name in _POSITION), strict=True))

    def counts(
        self,
        by: str = "source",
        source: str | None = None,
        reason: str | None = None,
        since_us: int | None = None,
    ) -> dict[str, int]:
        """How many letters match, by `source` or `reason`."""
        found = self._columns([by], _where(source, reason, since_us), since_us)
        counted = found.column(by).value_counts().to_pylist()
        return {each["values"]: each["counts"] for each in counted}

    def compact(self, minimum: int = 2, dry_run: bool = False) -> compaction.Compacted:
        """Join the small files of each day that has at least `minimum`; beside any writer."""
        table = self._look()
        if table is None:
            return compaction.NOTHING
        return compaction.compact(table, _LETTERED, minimum, _POSITION, dry_run)

    def vacuum(self, retention_hours: int, dry_run: bool = False) -> list[str]:
        """Delete files that no version of that time lists; answers their paths."""
        table = self._look()
        return [] if table is None else table.vacuum(retention_hours, dry_run)

    def _fresh(self, table: Table, letters: "pa.Table", ends: dict[str, int]) -> "pa.Table":
        """The letters whose position the table has not, each once; reads no file but those that may have one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        numbered = letters.append_column("_row", pa.array(range(letters.num_rows), pa.int64()))
        firsts = numbered.group_by(list(_POSITION)).aggregate([("_row", "min")]).column("_row_min")
        letters = letters.take(firsts)
        known, lowest = table.transactions(), pc.min_max(letters.column("offset")).as_py()["min"]
        if all(known.get(app_id, 0) <= lowest for app_id in ends):
            return letters
        listed = [file for file in files.listed(table, _LETTERED, _POSITION) if _may_hold(file, letters)]
        where = pc.field("source").isin(pc.unique(letters.column("source"))) & (pc.field("offset") >= lowest)
        positions = pa.schema([self.schema.field(name) for name in _POSITION])
        held = pa.Table.from_batches(files.scan(listed, positions, _POSITION, where), positions)
        return letters.join(held, list(_POSITION), join_type="left anti").select(self.schema.names)

    def _columns(self, names: Sequence[str], where: Any, since_us: int | None) -> "pa.Table":
        """Some columns of the letters that `where` keeps, in no order; files that end before `since_us` stay shut."""
        import pyarrow as pa

        table = self._look()
        listed = () if table is None else files.listed(table, _LETTERED, _POSITION)
        opened = [file for file in listed if file.may_hold(since_us, None)]
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches(files.scan(opened, self.schema, names, where), schema)

    def _look(self) -> Table | None:
        if self._table is None:
            self._table = Table.open(self.place)
        else:
            table, self._table = self._table, None  # opened afresh after an error
            table.look()
            self._table = table
        return self._table

    def _create(self) -> Table:
        import pyarrow as pa

        self._table = Table.create(self.place, self.schema.append(pa.field("_day", pa.date32())), {})
        return self._table


def _where(source: str | None, reason: str | None, since_us: int | None, partition: int | None = None) -> Any:
    """As a pyarrow expression."""
    import pyarrow as pa
    import pyarrow.compute as pc

    where = pc.scalar(True)
    for name, wanted in (("source", source), ("reason", reason), ("partition", partition)):
        if wanted is not None:
            where = where & (pc.field(name) == wanted)
    if since_us is not None:
        where = where & (pc.field(_LETTERED) >= pa.scalar(since_us, pa.timestamp("us", tz="UTC")))
    return where


def _may_hold(file: FileRef, letters: "pa.Table") -> bool:
    """Whether the file can have a letter of one of these positions, by its bounds."""
    import pyarrow.compute as pc

    ranges = {name: pc.min_max(letters.column(name)).as_py() for name in _POSITION}
    return all(file.overlaps(name, wanted["min"], wanted["max"]) for name, wanted in ranges.items())


def _ends(letters: "pa.Table") -> dict[str, int]:
    """Per partition of a source, as an application id, one past the last offset."""
    found = letters.group_by(["source", "partition"]).aggregate([("offset", "max")])
    return {
        f"featureflow/{row['source']}/{row['partition']}": row["offset_max"] + 1 for row in found.to_pylist()
    }
