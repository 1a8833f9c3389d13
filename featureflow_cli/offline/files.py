"""Parquet files of a Delta table: sorted by time in daily folders, and found again by their statistics.

A file is invisible until a commit lists it; what a killed process leaves behind is never read.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline.delta import DataFile, Table, durable
from featureflow_cli.times import DAY_US, format_timestamp

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROW_GROUP_ROWS = 122_880
"""DuckDB's own size: one thread scans one group, and skips it by its statistics."""

LOG_BOUNDS = ("_partition", "_offset")


@dataclass(frozen=True)
class FileRef:
    """A listed file: its absolute path and what its rows lie between, both ends included.

    A bound is None where the file has no statistics for it: then it may hold anything; likewise `columns`, the
    names of those that it has.
    """

    path: str
    rows: int
    bytes: int
    first_us: int | None
    last_us: int | None
    partitions: tuple[int, int] | None
    offsets: tuple[int, int] | None
    columns: frozenset[str] | None

    def may_hold(self, since_us: int | None, before_us: int | None) -> bool:
        """Whether a row with `since_us <= timestamp < before_us` can be in it (None: no bound)."""
        return (since_us is None or self.last_us is None or self.last_us >= since_us) and (
            before_us is None or self.first_us is None or self.first_us < before_us
        )

    def may_hold_offsets(self, partition: int, start: int, end: int) -> bool:
        """Whether a row of `partition` with `start <= offset < end` can be in it."""
        return (self.partitions is None or self.partitions[0] <= partition <= self.partitions[1]) and (
            self.offsets is None or (self.offsets[0] < end and self.offsets[1] >= start)
        )


def write(
    root: Path, rows: "pa.Table", timestamp: str, bounded: Sequence[str] = LOG_BOUNDS
) -> list[DataFile]:
    """Write `rows` (without `_day`) as one file a day of `timestamp`, sorted by it; nothing is listed yet.

    `bounded` are integer columns that get statistics beside the timestamp. StoreUnavailable when the disk
    refuses: then none of the files is left.
    """
    import numpy as np
    import pyarrow.compute as pc

    rows = rows.take(pc.sort_indices(rows.column(timestamp)))
    days = microseconds(rows.column(timestamp)) // DAY_US
    cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    written: list[DataFile] = []
    try:
        for start, end in pairwise(cuts):
            if start < end:
                day_rows = rows.slice(start, end - start)
                written.append(write_day(root, day_rows, timestamp, int(days[start]), bounded))
    except BaseException:
        remove(root, written)
        raise
    return written


def write_day(
    root: Path, rows: "pa.Table", timestamp: str, day: int, bounded: Sequence[str] = LOG_BOUNDS
) -> DataFile:
    """Write one file of one day (days since the epoch); the rows are sorted by `timestamp`."""
    import pyarrow.parquet as pq

    date = format_timestamp(day * DAY_US)[:10]
    path = f"_day={date}/{uuid.uuid4()}.parquet"
    place = root / path
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, place, compression="zstd", row_group_size=ROW_GROUP_ROWS, store_schema=False)
        durable(place)
        return DataFile(path, place.stat().st_size, date, statistics(rows, timestamp, bounded))
    except OSError as error:
        remove(root, [DataFile(path, 0, date, "")])
        message = f"cannot write to the offline store: {error}"
        raise StoreUnavailable(message, at=os.fspath(root)) from error


def remove(root: Path, files: Sequence[DataFile]) -> None:
    """Take away files that were never listed; one that will not go is left for `vacuum`."""
    for file in files:
        try:
            (root / file.path).unlink(missing_ok=True)
        except OSError:
            continue


def statistics(rows: "pa.Table", timestamp: str, bounded: Sequence[str] = LOG_BOUNDS) -> str:
    """Delta's statistics of the columns that readers prune by."""
    import pyarrow.compute as pc

    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    for name in (timestamp, *bounded):
        bounds = pc.min_max(rows.column(name).cast("int64")).as_py()
        show = format_timestamp if name == timestamp else int
        lowest[name], highest[name] = show(bounds["min"]), show(bounds["max"])
    nulls = {name: rows.column(name).null_count for name in rows.column_names}
    return json.dumps(
        {"numRecords": rows.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}
    )


def listed(table: Table, timestamp: str) -> tuple[FileRef, ...]:
    """The files of the version that `table` shows, in order of path (so, of day)."""
    rows = table.files()
    count = rows.num_rows

    def bounds(name: str) -> "list[Any]":
        import pyarrow as pa

        pair = [
            rows.column(f"{side}.{name}").cast(pa.int64()).to_pylist()
            if f"{side}.{name}" in rows.column_names
            else [None] * count
            for side in ("min", "max")
        ]
        return list(zip(*pair, strict=True))

    found = [
        FileRef(
            path=os.fspath(table.root / path),
            rows=records,
            bytes=size,
            first_us=times[0],
            last_us=times[1],
            partitions=None if None in partitions else partitions,
            offsets=None if None in offsets else offsets,
            columns=held or None,
        )
        for path, records, size, times, partitions, offsets, held in zip(
            rows.column("path").to_pylist(),
            rows.column("num_records").to_pylist(),
            rows.column("size_bytes").to_pylist(),
            bounds(timestamp),
            bounds("_partition"),
            bounds("_offset"),
            _columns(rows),
            strict=True,
        )
    ]
    return tuple(sorted(found, key=lambda file: file.path))


def _columns(rows: "pa.Table") -> list[frozenset[str]]:
    """Per file the columns that it has a count of nulls for: a file that is older than a column has none."""
    prefix = "null_count."
    counted = {
        name.removeprefix(prefix): rows.column(name).is_valid().to_pylist()
        for name in rows.column_names
        if name.startswith(prefix)
    }
    return [frozenset(name for name, has in counted.items() if has[at]) for at in range(rows.num_rows)]


def scan(
    files: Sequence[FileRef], schema: "pa.Schema", columns: Sequence[str], where: Any
) -> "Iterator[pa.RecordBatch]":
    """Batches of `columns` from the rows that `where` (a pyarrow expression) keeps, in no order.

    A column that an older file has not is null.
    """
    import pyarrow.dataset as ds

    if not files:
        return
    try:
        yield from ds.dataset([file.path for file in files], schema=schema, format="parquet").to_batches(
            columns=list(columns), filter=where
        )
    except OSError as error:
        message = f"cannot read the offline store: {error}"
        raise StoreUnavailable(message) from error


def microseconds(column: "pa.ChunkedArray") -> "np.ndarray[Any, np.dtype[np.int64]]":
    """A timestamp[us] column without nulls as int64."""
    import numpy as np

    found: np.ndarray[Any, np.dtype[np.int64]] = column.cast("int64").to_numpy()
    return found


def day_files(table: Table) -> Mapping[str, list[DataFile]]:
    """The listed files by day, as a commit that removes them wants them."""
    by_day: dict[str, list[DataFile]] = {}
    rows = table.files()
    for path, size in zip(
        rows.column("path").to_pylist(), rows.column("size_bytes").to_pylist(), strict=True
    ):
        day = path.split("/", 1)[0].removeprefix("_day=")
        by_day.setdefault(day, []).append(DataFile(path, size, day, ""))
    return by_day
