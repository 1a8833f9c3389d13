"""As what the values of a JSON column are read at once, without losing anything of what stands there."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from featureflow_cli.sources.literals import ISO8601, MAX_INT64
from featureflow_cli.spec.types import MAX_PRECISION, ColumnType, arrow_type

ANY_NUMBER = pa.decimal256(MAX_PRECISION, MAX_PRECISION)
"""Takes the 38 digits that any exact type can have, wherever their point is, and refuses more."""
USUAL, TEXT, NUMBER, INTEGER = "usual", "text", "number", "integer"
ZERO = "zero"
Signature = tuple[str | None, ...]
"""As what each column's value is read: one of the above; None where only its text tells."""
UNREADABLE: Signature = (None,)
Kinds = tuple[Any, ...]
"""The Arrow type in which each column is read."""


def usual_kind(column_type: ColumnType, timestamp_format: str | None) -> Any:
    """In what type a column is read where its values are of the kind that its type suggests."""
    if column_type.element is not None:
        return pa.list_(usual_kind(column_type.element, timestamp_format))
    match column_type.name:
        case "timestamp" if timestamp_format not in (None, ISO8601):
            return pa.int64()
        case "timestamp" | "date":
            return pa.string()
        case "decimal" if column_type.is_wide:
            # No 38 digits overflow it, whatever its scale.
            return pa.decimal256(column_type.precision, column_type.scale)
        case _:
            return arrow_type(column_type)


def kinds_by_type(column_type: ColumnType, timestamp_format: str | None) -> dict[object, str]:
    """As what a value is read without a loss, by its Python type; what is not among them is read by itself."""
    if column_type.element is not None:
        return {type(None): USUAL, list: USUAL}
    kinds: dict[object, str] = {type(None): USUAL, str: TEXT}
    match column_type.name:
        case "bool":
            kinds[bool] = USUAL
        case "int64":
            kinds |= {int: USUAL, ZERO: USUAL, float: NUMBER}
        case "double":
            kinds |= {int: USUAL, ZERO: USUAL, float: USUAL}
        case "string":
            kinds |= {int: INTEGER}  # but not zero: `-0` is another text
        case "decimal":
            kinds |= {int: NUMBER, ZERO: NUMBER, float: NUMBER}
        case "timestamp" if timestamp_format != ISO8601:
            kinds |= {int: NUMBER, ZERO: NUMBER, float: NUMBER}
    return kinds


def kind_of(value: object, kinds: Mapping[object, str]) -> str | None:
    if type(value) is int:
        if not value:
            return kinds.get(ZERO)
        return kinds.get(int if value <= MAX_INT64 else float)  # orjson reads up to 2^64
    return kinds.get(type(value))


def types_of(signature: Signature, usual: Kinds) -> Kinds | None:
    """The Arrow types in which messages of that signature are read at once; None where they cannot be."""
    if None in signature or len(signature) != len(usual):
        return None
    read = {TEXT: pa.string(), NUMBER: ANY_NUMBER, INTEGER: pa.int64()}
    return tuple(read.get(str(kind), usually) for kind, usually in zip(signature, usual, strict=True))
