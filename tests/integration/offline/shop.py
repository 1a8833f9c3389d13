"""A small source and its events, for tests of the offline log. Processes of tests run this module's functions."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import Conflict
from featureflow_cli.offline.files import FileRef
from featureflow_cli.offline.log import OfflineLog, Snapshot, trim
from featureflow_cli.offline.places import Place
from featureflow_cli.spec.types import DOUBLE, INT64, STRING, TIMESTAMP, decimal_type
from featureflow_cli.times import HOUR_US, parse_timestamp

NOON_US = parse_timestamp("2026-01-01T12:00:00Z")


def source(**changes: Any) -> Source:
    """user_events with a decimal and an event id; `extra` adds a double column."""
    columns = {"event_id": STRING, "user_id": INT64, "amount": decimal_type(18, 2), "timestamp": TIMESTAMP}
    if changes.pop("extra", False):
        columns["extra"] = DOUBLE
    made: dict[str, Any] = {
        "name": "user_events",
        "columns": columns,
        "paths": {},
        "formats": {},
        "not_null": frozenset(),
        "timestamp_field": "timestamp",
        "created_timestamp": None,
        "event_id": "event_id",
        "dedupe_within_us": HOUR_US,
        "allowed_future_us": 60_000_000,
        "files": None,
        "batch": None,
        "until_us": None,
        "streamed": True,
        "meaning": "m1",
    }
    return Source(**{**made, **changes})


def events(log: OfflineLog, partition: int, start: int, end: int, *, step_us: int = 1_000_000) -> pa.Table:
    """One row an offset of [start, end), a step apart from NOON_US on."""
    offsets = np.arange(start, end)
    moments = pa.array(NOON_US + offsets * step_us, pa.timestamp("us", tz="UTC"))
    columns = {
        "event_id": pa.array([f"{partition}-{offset}" for offset in offsets], pa.string()),
        "user_id": pa.array(offsets % 7, pa.int64()),
        "amount": pa.nulls(end - start, pa.decimal128(18, 2)),
        "timestamp": moments,
        "extra": pa.array(offsets / 2, pa.float64()),
        "_partition": pa.array(np.full(end - start, partition), pa.int32()),
        "_offset": pa.array(offsets, pa.int64()),
        "_ingested_at": moments,
    }
    return pa.table({name: columns[name] for name in log.schema.names}, schema=log.schema)


def positions(snapshot: Snapshot) -> list[tuple[int, int]]:
    """(partition, offset) of every row that the snapshot lists, sorted: read from the files themselves."""
    rows = (read(file).select(["_partition", "_offset"]).to_pylist() for file in snapshot.files)
    return sorted(tuple(row.values()) for each in rows for row in each)


def read(file: FileRef) -> pa.Table:
    """A file's rows: fetched anew, past any cache."""
    return pq.ParquetFile(pa.BufferReader(file.place.get(file.name))).read()


def append_all(place: Place, partition: int, commits: int, size: int) -> int:
    """Commit `commits` times `size` events, trimming and repeating on conflict; answers how many conflicts."""
    log = OfflineLog(place, source())
    conflicts = 0
    for number in range(commits):
        start, end = number * size, (number + 1) * size
        rows, spans = events(log, partition, start, end), {partition: (start, end)}
        base = log.snapshot()
        while spans:
            try:
                log.append(rows, spans, base)
                break
            except Conflict:
                conflicts += 1
                base = log.snapshot()
                rows, spans = trim(rows, spans, base)
    return conflicts


def write_and_stop(place: Place, start: int, end: int) -> None:
    """Write the files of a commit, and die before the commit lists them."""
    import os
    import signal

    from featureflow_cli.offline.delta import Table

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    log = OfflineLog(place, source())
    base = log.snapshot()
    Table.commit = die  # type: ignore[method-assign]  # the process dies here, so nobody else sees it
    log.append(events(log, 0, start, end), {0: (start, end)}, base)
