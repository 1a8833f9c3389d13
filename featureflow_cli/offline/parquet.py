"""Rows as one Parquet file in memory, and what Delta is told about it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featureflow_cli.times import format_timestamp

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 122_880
"""DuckDB's own size: one thread scans one group, and skips it by its statistics."""
SAMPLE_ROWS = 4096


@dataclass(frozen=True)
class Encoded:
    """`stats` is Delta's JSON: rows, bounds of the columns that readers prune by, and every column's nulls."""

    content: "pa.Buffer"
    stats: str


def encoded(parts: "Iterable[pa.Table]", timestamp: str, bounded: Sequence[str]) -> Encoded:
    """A file of all parts (one at least, none empty), each sorted by `timestamp` and past the one before it.

    Row groups can be skipped by `timestamp` and `bounded`. It takes half the time of pyarrow's defaults, and a sixth
    fewer bytes: moments and positions are differences, and only what recurs is in dictionaries.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink, seen = pa.BufferOutputStream(), _Seen((timestamp, *bounded))
    writer: Any = None
    for part in parts:
        if writer is None:
            options = _options(part, (timestamp, *bounded))
            writer = pq.ParquetWriter(sink, part.schema, compression="zstd", store_schema=False, **options)
        writer.write_table(part, ROW_GROUP_ROWS)
        seen.add(part)
    writer.close()
    return Encoded(sink.getvalue(), seen.as_json(timestamp))


def _options(first: "pa.Table", bounded: Sequence[str]) -> dict[str, Any]:
    """How the columns are written, as the first part shows them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    differences = [
        field.name
        for field in first.schema
        if pa.types.is_timestamp(field.type) or (field.name in bounded and pa.types.is_integer(field.type))
    ]
    sample = first.slice(0, SAMPLE_ROWS)
    recurring = [
        field.name
        for field in first.schema
        if not pa.types.is_nested(field.type)
        and field.name not in differences
        and pc.count_distinct(sample.column(field.name)).as_py() * 4 <= len(sample)
    ]
    return {
        "write_statistics": list(bounded),
        "use_dictionary": recurring,
        "column_encoding": dict.fromkeys(differences, "DELTA_BINARY_PACKED"),
    }


class _Seen:
    """Rows, nulls and bounds of the parts so far; times as integers, since their texts do not compare."""

    def __init__(self, bounded: Sequence[str]) -> None:
        self._rows = 0
        self._nulls: dict[str, int] = {}
        self._bounds: dict[str, tuple[Any, Any]] = {}
        self._bounded = bounded

    def add(self, part: "pa.Table") -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._rows += part.num_rows
        for name in part.column_names:
            self._nulls[name] = self._nulls.get(name, 0) + part.column(name).null_count
        for name in self._bounded:
            column = part.column(name)
            is_moment = pa.types.is_timestamp(column.type)
            lowest, highest = pc.min_max(column.cast("int64") if is_moment else column).as_py().values()
            before = self._bounds.get(name, (lowest, highest))
            self._bounds[name] = (min(before[0], lowest), max(before[1], highest))

    def as_json(self, timestamp: str) -> str:
        def side(number: int) -> dict[str, Any]:
            found = {name: bounds[number] for name, bounds in self._bounds.items()}
            return found | {timestamp: format_timestamp(found[timestamp])}

        return json.dumps(
            {"numRecords": self._rows, "minValues": side(0), "maxValues": side(1), "nullCount": self._nulls}
        )
