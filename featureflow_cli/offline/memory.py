"""What a worker that takes up a partition reads from the log: its newest moment and its ids (design.md 4)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featureflow_cli.offline.files import FileRef, scan
from featureflow_cli.offline.snapshots import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa


def newest_us(files: Sequence[FileRef], timestamp: "pa.Field", partition: int) -> int | None:
    """The greatest timestamp among the partition's rows; None where it has none. Opens few files, newest first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    newest: int | None = None
    where = pc.field("_partition") == partition
    for file in sorted(files, key=_last, reverse=True):
        if newest is not None and _last(file) <= newest:
            break
        for batch in scan(
            [file], pa.schema([timestamp, ("_partition", pa.int32())]), [timestamp.name], where
        ):
            if batch.num_rows:
                found = pc.max(batch.column(0).cast("int64")).as_py()
                newest = found if newest is None else max(newest, found)
    return newest


def recent(
    snapshot: Snapshot, timestamp: "pa.Field", id: "pa.Field", partition: int, since_us: int
) -> "pa.Table":
    """`ts` and `id` of the partition's rows below the snapshot's end, at or after `since_us`, in no order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    where = _within(snapshot, partition, 0, snapshot.ends.get(partition, 0)) & (
        pc.field(timestamp.name) >= pa.scalar(since_us, timestamp.type)
    )
    chosen = [file for file in snapshot.files if file.may_hold(since_us, None)]
    found = scan(
        chosen,
        pa.schema([timestamp, id, ("_partition", pa.int32()), ("_offset", pa.int64())]),
        [timestamp.name, id.name],
        where,
    )
    return pa.Table.from_batches(found, pa.schema([timestamp, id])).rename_columns(["ts", "id"])


def _within(snapshot: Snapshot, partition: int, start: int, end: int) -> Any:
    import pyarrow.compute as pc

    offset, stop = pc.field("_offset"), min(end, snapshot.ends.get(partition, 0))
    return (pc.field("_partition") == partition) & (offset >= start) & (offset < stop)


def _last(file: FileRef) -> float:
    """A file without statistics may hold anything, so it comes first."""
    return float("inf") if file.last_us is None else file.last_us
