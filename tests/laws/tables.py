"""Between plain events and Arrow: a source's rows, a view's projection of them, and columns of answers.

The projection here is the row evaluator's, so that laws of the state do not rest on SQL.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from featureflow_cli.compute.hashing import MAX_TEXT_BYTES
from featureflow_cli.compute.reference import Event, evaluate
from featureflow_cli.compute.reference_aggregations import finite
from featureflow_cli.compute.views import Source, View
from featureflow_cli.spec.types import BOOL, INT64, ColumnType, Value, arrow_type


def column(values: Sequence[Value], column_type: ColumnType) -> Any:
    """An Arrow array of plain values (moments as integers)."""
    if column_type.name == "timestamp":
        return pa.array(values, pa.int64()).cast(arrow_type(column_type))
    if column_type.name == "date":
        return pa.array(values, pa.int32()).cast(arrow_type(column_type))
    return pa.array(values, arrow_type(column_type))


def plain(array: Any, column_type: ColumnType) -> list[Value]:
    """Plain values of an Arrow array (moments as integers, lists as tuples)."""
    if array.type != arrow_type(column_type):
        message = f"{array.type} is not {column_type}"
        raise TypeError(message)
    if column_type.element is not None:
        flat = plain(array.flatten(), column_type.element)
        lengths = [None if each is None else len(each) for each in array.to_pylist()]
        taken = iter(flat)
        return [None if length is None else tuple(next(taken) for _ in range(length)) for length in lengths]
    if column_type.name == "timestamp":
        array = array.cast(pa.int64())
    elif column_type.name == "date":
        array = array.cast(pa.int32())
    return list(array.to_pylist())


def table(source: Source, events: Sequence[Event]) -> Any:
    """Events as an Arrow table in the source's schema."""
    return pa.table(
        {
            name: column([event[name] for event in events], column_type)
            for name, column_type in source.columns.items()
        }
    )


def projected(view: View, events: Sequence[Event]) -> Any:
    """What `projection_sql` yields of these events (docs/design/seams.md), by the row evaluator."""
    seen = [
        event
        for event in events
        if all(event[key.column] is not None for key in view.join_keys)
        and (view.where is None or evaluate(view.where, event))
    ]
    columns = {
        f"k{place}": column([event[key.column] for event in seen], key.type)
        for place, key in enumerate(view.join_keys)
    }
    columns["ts"] = column([event[view.source.timestamp_field] for event in seen], INT64)
    for place, mask in enumerate(view.masks):
        columns[f"m{place}"] = column([bool(evaluate(mask, event)) for event in seen], BOOL)
    for place, operand in enumerate(view.operands):
        columns[f"x{place}"] = column([_kept(evaluate(operand, event)) for event in seen], operand.type)
    if view.latest:
        for place, (name, column_type) in enumerate(view.latest):
            columns[f"l{place}"] = column([event[name] for event in seen], column_type)
        made = view.source.created_timestamp
        columns["created"] = column([None if made is None else event[made] for event in seen], INT64)
        gone = [view.deleted is not None and bool(evaluate(view.deleted, event)) for event in seen]
        columns["deleted"] = column(gone, BOOL)
    return pa.table(columns)


def _kept(operand: Value) -> Value:
    """Null where it is too long to be kept, and where it is no number."""
    is_long = isinstance(operand, str) and len(operand.encode()) > MAX_TEXT_BYTES
    return None if is_long else finite(operand)
