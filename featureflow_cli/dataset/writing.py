"""Writing a dataset: whole or not at all."""

import os
from pathlib import Path
from typing import Any

from featureflow_cli.errors import StoreUnavailable, UsageError

FORMATS = (".parquet", ".csv")


def check_writable(path: Path) -> None:
    """UsageError, before the work is done, where `path` could not be written."""
    if path.suffix.lower() not in FORMATS:
        message = f"a dataset is a .parquet or .csv file, not '{path.name}'"
        raise UsageError(message, at=str(path))
    if path.is_dir():
        message = "a folder stands where the dataset should be written"
        raise UsageError(message, at=str(path))


def write(table: Any, path: Path) -> None:
    """Write `table` beside `path` and rename it: a reader sees the old file or the new one, never half of one."""
    import pyarrow.csv
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.suffix.lower() == ".csv":
            pyarrow.csv.write_csv(flat(table), partial)
        else:
            pyarrow.parquet.write_table(table, partial, compression="zstd")
        partial.replace(path)
    except OSError as error:
        message = f"the dataset could not be written: {error.strerror or error}"
        raise StoreUnavailable(message, at=str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def flat(table: Any) -> Any:
    """Lists as JSON text, moments as RFC 3339 text, for CSV has neither."""
    import json

    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_list(column.type):
            texts = [
                None if value is None else json.dumps(value, default=str) for value in column.to_pylist()
            ]
            columns[name] = pa.array(texts, pa.string())
        elif pa.types.is_timestamp(column.type):
            columns[name] = pc.strftime(column.cast(pa.timestamp("us", "UTC")), "%Y-%m-%dT%H:%M:%SZ")
        else:
            columns[name] = column
    return pa.table(columns)
