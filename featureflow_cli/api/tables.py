"""Tables as people hand them in and want them back: pandas, Arrow, rows as dicts, columns as lists, a file.

Arrow is what is worked on. pandas is used where it is installed and asked for, and never imported before.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from featureflow_cli.dataset.labels import read_labels
from featureflow_cli.errors import UsageError

Rows = Any
"""A pandas DataFrame, an Arrow table (or whatever speaks Arrow's C stream), a list of dicts, a dict of lists, or a
path of a .parquet, .csv or .ndjson file."""

_ABOUT = "featureflow"
"""What a dataset was built from: `featureflow.*` in an Arrow schema's metadata, this key in `DataFrame.attrs`."""


def table_of(given: Rows, at: str, timestamp_field: str | None = None) -> pa.Table:
    """Any of `Rows` as an Arrow table; UsageError where it is none of them, or its columns are of no one type."""
    try:
        if _is_pandas(given):
            return pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata(_attrs(given))
        if isinstance(given, pa.Table):
            return given
        if isinstance(given, str | os.PathLike):
            return read_labels(Path(given), timestamp_field).table
        if hasattr(given, "__arrow_c_stream__"):
            return pa.table(given)
        if isinstance(given, Mapping):
            return pa.table({name: pa.array(list(values)) for name, values in given.items()})
        if isinstance(given, Sequence) and all(isinstance(row, Mapping) for row in given):
            names = dict.fromkeys(name for row in given for name in row)
            return pa.table({name: pa.array([row.get(name) for row in given]) for name in names})
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        message = f"not a table: {error}"
        raise UsageError(message, at=at) from error
    message = f"rows come as a pandas DataFrame, an Arrow table, a list of dicts or a path, not {type(given).__name__}"
    raise UsageError(message, at=at)


def frame_of(table: pa.Table) -> Any:
    """The table as a pandas DataFrame. Integers with nulls are `Int64`: as floats they would lose digits."""
    try:
        import pandas as pd
    except ImportError as error:
        message = "pandas is not installed"
        raise UsageError(message, hint="pip install 'featureflow[pandas]', or take .to_arrow()") from error
    frame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) and column.null_count:
            frame[name] = column.cast(pa.int64()).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    about = {key: value for key, value in _metadata(table).items() if key.startswith(f"{_ABOUT}.")}
    if about:
        frame.attrs[_ABOUT] = about
    return frame


def log_ends(table: pa.Table) -> dict[str, dict[int, int]]:
    """What the logs held, by source and partition, when a dataset was built, as far as it says so."""
    written = json.loads(_metadata(table).get(f"{_ABOUT}.log_ends", "{}"))
    return {
        source: {int(partition): end for partition, end in ends.items()} for source, ends in written.items()
    }


def registry_version(table: pa.Table) -> int | None:
    """The applied version that a dataset was built with, where it says so."""
    written = _metadata(table).get(f"{_ABOUT}.registry_version", "")
    return int(written) if written else None


def _metadata(table: pa.Table) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}


def _attrs(frame: Any) -> dict[str, str] | None:
    """What `frame_of` noted; a DataFrame that came out of a Parquet file keeps nothing."""
    about = frame.attrs.get(_ABOUT)
    return dict(about) if isinstance(about, dict) else None


def _is_pandas(given: Rows) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)
