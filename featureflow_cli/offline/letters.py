"""The dead letters of all sources: an append-only Delta table in which each position stands once.

Letters are written before the commit that passes their offsets [letters], so a replay may bring them again:
what stands is kept, and the newcomer is dropped.
"""

from typing import TYPE_CHECKING, Any

from featureflow_cli.offline import files
from featureflow_cli.offline.delta import Moved, Table, local, settled

if TYPE_CHECKING:
    import pyarrow as pa

_LETTERED = "lettered_at"
_POSITION = ("source", "partition", "offset")


class DeadLetters:
    """The table in the folder `path`. For one thread; any number of processes may share the folder."""

    def __init__(self, path: str) -> None:
        self.root = local(path)
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

        They are on the disk when it returns. StoreUnavailable where that fails: then none of them is visible.
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
            written = files.write(self.root, fresh, _LETTERED, ("partition", "offset"))
            raised = {app_id: max(end, table.transaction(app_id) or 0) for app_id, end in ends.items()}
            try:
                table.commit(written, raised)
            except Moved:
                files.remove(self.root, written)
                raise
            return int(fresh.num_rows)

        return settled(table, turn)

    def read(
        self,
        source: str | None = None,
        reason: str | None = None,
        since_us: int | None = None,
        partition: int | None = None,
    ) -> "pa.Table":
        """The letters that match all that is given (`since_us`: of `lettered_at`), by time and position."""
        import pyarrow as pa
        import pyarrow.compute as pc

        where = pc.scalar(True)
        for name, wanted in (("source", source), ("reason", reason), ("partition", partition)):
            if wanted is not None:
                where = where & (pc.field(name) == wanted)
        if since_us is not None:
            where = where & (pc.field(_LETTERED) >= pa.scalar(since_us, pa.timestamp("us", tz="UTC")))
        table = self._look()
        found = self.schema.empty_table() if table is None else self._scan(table, self.schema, where)
        return found.sort_by([(name, "ascending") for name in (_LETTERED, *_POSITION)])

    def _fresh(self, table: Table, letters: "pa.Table", ends: dict[str, int]) -> "pa.Table":
        """The letters whose position the table has not, each once; reads it only where it may have one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        numbered = letters.append_column("_row", pa.array(range(letters.num_rows), pa.int64()))
        firsts = numbered.group_by(list(_POSITION)).aggregate([("_row", "min")]).column("_row_min")
        letters = letters.take(firsts)
        lowest = pc.min(letters.column("offset")).as_py()
        if all((table.transaction(app_id) or 0) <= lowest for app_id in ends):
            return letters
        sources = pc.unique(letters.column("source"))
        where = pc.field("source").isin(sources) & (pc.field("offset") >= lowest)
        positions = pa.schema([self.schema.field(name) for name in _POSITION])
        held = self._scan(table, positions, where)
        return letters.join(held, list(_POSITION), join_type="left anti").select(self.schema.names)

    def _scan(self, table: Table, schema: "pa.Schema", where: Any) -> "pa.Table":
        import pyarrow as pa

        return pa.Table.from_batches(
            files.scan(files.listed(table, _LETTERED), schema, schema.names, where), schema
        )

    def _look(self) -> Table | None:
        if self._table is None:
            self._table = Table.open(self.root)
        else:
            table, self._table = self._table, None  # opened afresh after an error
            table.look()
            self._table = table
        return self._table

    def _create(self) -> Table:
        import pyarrow as pa

        self._table = Table.create(self.root, self.schema.append(pa.field("_day", pa.date32())), {})
        return self._table


def _ends(letters: "pa.Table") -> dict[str, int]:
    """Per partition of a source, as an application id, one past the last offset."""
    found = letters.group_by(["source", "partition"]).aggregate([("offset", "max")])
    return {
        f"featureflow/{row['source']}/{row['partition']}": row["offset_max"] + 1 for row in found.to_pylist()
    }
