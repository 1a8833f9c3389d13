"""The canonical text of a latest row: what ties are broken by, and what a state keeps of the row (design.md 1.16).

`[columns of `latest` in order…, deleted]` as JSON: integers, dates and timestamps as numbers, decimals as text at
their scale, doubles as the shortest text that reads back as them, NaN and infinity as null. A state keeps it
behind the row's created_timestamp, 20 digits with an offset, so that the order of texts is the order of the law.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from featureflow_cli.compute.codes import Bools
from featureflow_cli.compute.views import View
from featureflow_cli.spec.types import ColumnType, Value, arrow_type

_CREATED_DIGITS = 20
_CREATED_OFFSET = 2**63


def row_text(values: Sequence[Value], deleted: bool) -> str:
    """The canonical text of one row: the values of the view's latest columns, and whether it is a deletion."""
    return orjson.dumps([*values, deleted], default=str).decode()


def state_texts(view: View, projected: Any) -> Any:
    """created_timestamp and canonical text of each projected row (columns `l0…`, `created`, `deleted`)."""
    columns = [
        _plain(projected.column(f"l{place}"), column_type)
        for place, (_, column_type) in enumerate(view.latest)
    ]
    created = projected.column("created").to_pylist()
    deleted = projected.column("deleted").to_pylist()
    return pa.array(
        [
            f"{0 if at is None else at + _CREATED_OFFSET:0{_CREATED_DIGITS}d}{row_text(values, bool(gone))}"
            for at, gone, *values in zip(created, deleted, *columns, strict=True)
        ],
        pa.string(),
    )


def columns_of_rows(view: View, texts: Any) -> tuple[list[Any], Bools]:
    """(an Arrow array per latest column, whether the row is a deletion) of such texts; null where there is none."""
    none = [None] * len(view.latest) + [False]
    rows = [none if text is None else orjson.loads(text[_CREATED_DIGITS:]) for text in texts.to_pylist()]
    columns = [
        _typed([row[place] for row in rows], column_type)
        for place, (_, column_type) in enumerate(view.latest)
    ]
    return columns, np.array([row[-1] for row in rows], np.bool_)


def _plain(column: Any, column_type: ColumnType) -> list[Any]:
    """Values as `spec.types.Value`: moments as integers."""
    if column_type.name == "timestamp":
        column = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    elif column_type.name == "date":
        column = column.cast(pa.int32())
    elif column_type.element is not None and column_type.element.name in {"timestamp", "date"}:
        inner = pa.int64() if column_type.element.name == "timestamp" else pa.int32()
        column = column.cast(arrow_type(column_type)).cast(pa.list_(inner))
    return column.to_pylist()  # type: ignore[no-any-return]


def _typed(values: list[Any], column_type: ColumnType) -> Any:
    if column_type.name == "decimal":
        return pa.array(values, pa.string()).cast(arrow_type(column_type))
    if column_type.name == "timestamp":
        return pa.array(values, pa.int64()).cast(arrow_type(column_type))
    if column_type.name == "date":
        return pa.array(values, pa.int32()).cast(arrow_type(column_type))
    if column_type.element is not None and column_type.element.name in {"decimal", "timestamp", "date"}:
        inner = {"decimal": pa.string(), "timestamp": pa.int64(), "date": pa.int32()}[
            column_type.element.name
        ]
        return pa.array(values, pa.list_(inner)).cast(arrow_type(column_type))
    return pa.array(values, arrow_type(column_type))
