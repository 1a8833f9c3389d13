"""Generated events and labels as files: Parquet, NDJSON or CSV, all read by the same source definition.

`metadata` is a struct in Parquet, a nested object in NDJSON (null fields are absent, as in real events),
dotted columns in CSV. Money is text with two digits, so that no format can round it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featureflow_cli.errors import UsageError
from featureflow_cli.generate.shop import (
    CATEGORIES,
    EVENT_TYPES,
    Events,
    Scale,
    deliveries,
    label_views,
    simulate,
)
from featureflow_cli.times import MINUTE_US, format_timestamp

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from featureflow_cli.generate.shop import Ints

Format = Literal["parquet", "ndjson", "csv"]
ROWS_AT_ONCE = 100_000
"""Arrow's text arrays end at 2 GiB; NDJSON is put together in slices."""


@dataclass(frozen=True)
class Generated:
    """What was written: `rows` are `events` and `repeated` (second deliveries) together."""

    files: tuple[Path, ...]
    events: int
    repeated: int
    late: int
    labels: Path | None
    label_rows: int


def generate(
    scale: Scale,
    out: Path,
    *,
    format: Format = "parquet",
    files: int = 8,
    labels: int = 0,
    labels_out: Path | None = None,
) -> Generated:
    """Simulate a shop and write its deliveries into `out`: `files` files, in order of arrival by name.

    Names hold the end of the span and the seed, so that a second run with another span adds files. UsageError
    where a file of the run exists already: a source's files never change.
    """
    if files < 1:
        message = f"--files must be at least 1, not {files}"
        raise UsageError(message)
    stamp = format_timestamp(scale.end_us)[:19].replace("-", "").replace(":", "")
    paths = tuple(out / f"events-{stamp}-{scale.seed}-{number:04d}.{format}" for number in range(files))
    if already := next((path for path in paths if path.exists()), None):
        message = f"{already} exists already, and a source's files never change"
        raise UsageError(message, hint="delete it, or say another --end, --seed or --out")

    events = simulate(scale)
    order = deliveries(events, scale)
    table = events_table(events, scale)
    out.mkdir(parents=True, exist_ok=True)
    edges = [len(order) * number // files for number in range(files + 1)]
    for path, first, last in zip(paths, edges, edges[1:], strict=False):
        write(table.take(order[first:last]), path, format)

    if labels:
        labels_out = labels_out or out.parent / f"labels.{'csv' if format == 'csv' else 'parquet'}"
        write_labels(events, labels, scale.seed, labels_out)
    return Generated(
        files=paths,
        events=scale.events,
        repeated=len(order) - scale.events,
        late=count_late(events.time_us[order]),
        labels=labels_out if labels else None,
        label_rows=labels,
    )


def write_labels(events: Events, count: int, seed: int, path: Path) -> None:
    """`count` labels (`labels_table`) as CSV or Parquet, by the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = labels_table(events, label_views(events, count, seed))
    write(chosen, path, "csv" if path.suffix == ".csv" else "parquet")


def events_table(events: Events, scale: Scale) -> "pa.Table":
    """The events as Arrow, in the order of `events`: nested `metadata`, timestamps in microseconds UTC."""
    import numpy as np
    import pyarrow as pa

    # Other runs of the same seed make other ids: their events are not duplicates of these.
    ids = np.random.default_rng([scale.seed, 3, scale.events, scale.span_us, abs(scale.end_us)])
    sessions = hex_ids(ids, int(events.session[-1]) + 1, 6)
    metadata = pa.StructArray.from_arrays(
        [
            _words(CATEGORIES, events.category),
            _money(events.amount_cents),
            pa.array(events.rating, mask=np.isnan(events.rating)),
        ],
        names=["category", "total_amount", "rating"],
    )
    return pa.table(
        {
            "event_id": hex_ids(ids, len(events.type), 16),
            "user_id": events.user,
            "event_type": _words(EVENT_TYPES, events.type),
            "item_id": pa.array(events.item, mask=events.item < 0),
            "session_id": sessions.take(pa.array(events.session)),
            "timestamp": pa.array(events.time_us, type=pa.timestamp("us", tz="UTC")),
            "metadata": metadata,
        }
    )


def labels_table(events: Events, views: "Ints") -> "pa.Table":
    """`user_id, item_id, timestamp, label`: somebody looks at an item; will this session buy it?"""
    import pyarrow as pa

    return pa.table(
        {
            "user_id": events.user[views],
            "item_id": events.item[views],
            "timestamp": pa.array(events.time_us[views], type=pa.timestamp("us", tz="UTC")),
            "label": events.bought[views].astype("int64"),
        }
    )


def write(table: "pa.Table", path: Path, format: Format) -> None:
    """Write `table` whole: a reader sees the finished file or none, never a half."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    with _atomic(path) as unfinished:
        if format == "parquet":
            pq.write_table(table, unfinished, compression="zstd")
        elif format == "csv":
            csv.write_csv(_iso_timestamps(table.flatten()), unfinished)
        else:
            with unfinished.open("wb") as lines:
                for start in range(0, table.num_rows, ROWS_AT_ONCE):
                    lines.write(json_objects(table.slice(start, ROWS_AT_ONCE), "\n").buffers()[2])


def hex_ids(rng: "np.random.Generator", count: int, width: int) -> "pa.Array":
    """`count` random ids of 2 * `width` hexadecimal digits, cut from one long text."""
    import numpy as np
    import pyarrow as pa

    digits = rng.bytes(count * width).hex().encode()
    offsets = np.arange(count + 1, dtype=np.int64) * 2 * width
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(digits)).cast(
        pa.string()
    )


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` (no source's pattern matches it), renamed once it is whole."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def count_late(times_us: "Ints") -> int:
    """How many arrive a minute or more behind the newest event that arrived before them."""
    import numpy as np

    return int((times_us < np.maximum.accumulate(times_us) - MINUTE_US).sum())


def _words(words: tuple[str, ...], index: "Ints") -> "pa.Array":
    """The word at each index; null at -1."""
    import pyarrow as pa

    return pa.array(words).take(pa.array(index, mask=index < 0))


def _money(cents: "Ints") -> "pa.Array":
    """`1999` -> `19.99` by moving the point of a decimal, never by dividing; null at -1."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    unscaled = np.stack([cents, np.zeros_like(cents)], axis=1)
    exact = pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(unscaled)])
    return pc.if_else(pa.array(cents >= 0), exact.cast(pa.string()), None)


def _iso_timestamps(table: "pa.Table") -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    bare = pc.cast(
        pc.cast(table["timestamp"], pa.timestamp("us")), pa.string()
    )  # strftime takes 20 times as long
    text = pc.binary_join_element_wise(pc.utf8_replace_slice(bare, 10, 11, "T"), "Z", "")
    return table.set_column(table.schema.get_field_index("timestamp"), "timestamp", text)


def json_objects(table: "pa.Table", ending: str = "") -> "pa.Array":
    """Each row as a JSON object, put together by Arrow's text kernels; null fields are left out.

    No value needs escaping: ids are hexadecimal, words and timestamps are ours.
    """
    import pyarrow.compute as pc

    table = _iso_timestamps(table)
    metadata = table["metadata"].combine_chunks()
    inner = _members({field.name: metadata.field(field.name) for field in metadata.type})
    outer = _members(
        {name: table[name].combine_chunks() for name in table.column_names if name != "metadata"}
    )
    return pc.binary_join_element_wise("{", outer, ',"metadata":{', inner, f"}}}}{ending}", "")


def _members(columns: "Mapping[str, pa.Array]") -> "pa.Array":
    """`"name":value,…` of each row, without the columns that are null there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    members = []
    for name, column in columns.items():
        quote = '"' if pa.types.is_string(column.type) else ""
        member = pc.binary_join_element_wise(f',"{name}":{quote}', column.cast(pa.string()), quote, "")
        members.append(pc.fill_null(member, ""))
    return pc.utf8_slice_codeunits(pc.binary_join_element_wise(*members, ""), start=1)
