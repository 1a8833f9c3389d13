"""Label files: the rows that a dataset is built for, each with its join keys and its moment.

Any other column passes through unchanged.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featureflow_cli.compute.codes import Ints
from featureflow_cli.errors import NotFound, UsageError, did_you_mean
from featureflow_cli.times import DAY_US, parse_timestamp

TIMESTAMP_NAMES = ("timestamp", "event_timestamp")
FORMATS = {".parquet": "parquet", ".csv": "csv", ".ndjson": "json", ".jsonl": "json"}


@dataclass(frozen=True)
class Labels:
    """`table` as it was given; `t_us` the moment of each row, int64 microseconds UTC."""

    table: Any
    t_us: Ints
    timestamp_field: str


def read_labels(path: Path, timestamp_field: str | None = None) -> Labels:
    """The labels in a .parquet, .csv or .ndjson file; UsageError says what is wrong with it."""
    import pyarrow as pa

    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        message = f"labels are .parquet, .csv or .ndjson files, not '{path.name}'"
        raise UsageError(message, at=str(path))
    try:
        table = _read(path, kind)
    except FileNotFoundError as error:
        message = "there is no such label file"
        raise NotFound(message, at=str(path)) from error
    except pa.ArrowInvalid as error:
        message = f"not a {kind} file that can be read: {error}"
        raise UsageError(message, at=str(path)) from error
    return labels_of(table, timestamp_field, at=str(path))


def labels_of(table: Any, timestamp_field: str | None = None, *, at: str = "labels") -> Labels:
    """The labels in an Arrow table."""
    name = timestamp_field or next(
        (each for each in TIMESTAMP_NAMES if each in table.column_names), "timestamp"
    )
    if name not in table.column_names:
        message = f"no column '{name}' says when each label was known"
        hint = did_you_mean(name, table.column_names) or "name it with --timestamp-field"
        raise NotFound(message, hint=hint, at=at)
    return Labels(table, moments(table.column(name), name, at), name)


def moments(column: Any, name: str, at: str) -> Ints:
    """A column of timestamps or ISO 8601 texts as microseconds; without a zone they are UTC, finer digits floor."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        message = f"'{name}' is null in row {row}: every label needs its moment"
        raise UsageError(message, at=at)
    if pa.types.is_timestamp(column.type):
        ticks: Ints = column.cast(pa.int64()).to_numpy()
        per_us = {"s": 1_000_000, "ms": 1_000, "us": 1}
        return ticks * per_us[column.type.unit] if column.type.unit in per_us else ticks // 1_000
    if pa.types.is_date(column.type):
        days: Ints = column.cast(pa.date32()).cast(pa.int32()).to_numpy().astype(np.int64)
        return days * DAY_US
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _parsed(pc.unique(column).to_pylist(), column, name, at)
    message = f"'{name}' is {column.type}: write timestamps, or ISO 8601 text"
    raise UsageError(message, at=at)


def _parsed(distinct: list[str], column: Any, name: str, at: str) -> Ints:
    known: dict[str, int] = {}
    for text in distinct:
        try:
            known[text] = parse_timestamp(text)
        except ValueError as error:
            row = column.to_pylist().index(text) + 1
            message = f"'{name}' in row {row}: {error}"
            raise UsageError(message, at=at) from error
    return np.array([known[text] for text in column.to_pylist()], np.int64)


def _read(path: Path, kind: str) -> Any:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    if kind == "parquet":
        return pyarrow.parquet.read_table(path)
    if kind == "json":
        return pyarrow.json.read_json(path)
    # Moments stay text here: Arrow would take one without a zone for a timestamp without one, or leave it.
    names = pyarrow.csv.open_csv(path).schema.names
    texts = {name: pyarrow.string() for name in names if name in TIMESTAMP_NAMES}
    return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=texts))
