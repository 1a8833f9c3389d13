"""Pieces of DuckDB's SQL: names, types, literals, and a value that is used more than once."""

from collections.abc import Callable
from decimal import Decimal
from zlib import crc32

from featureflow_cli.spec.types import ColumnType, Value


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_type(column_type: ColumnType) -> str:
    """DuckDB's name of a type; timestamps are TIMESTAMPTZ (microseconds)."""
    if column_type.element is not None:
        return f"{sql_type(column_type.element)}[]"
    if column_type.name == "decimal":
        return f"DECIMAL({column_type.precision},{column_type.scale})"
    return _TYPES[column_type.name]


_TYPES = {
    "bool": "BOOLEAN",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "date": "DATE",
}


def literal(value: Value, column_type: ColumnType) -> str:
    """A constant of exactly that type."""
    if value is None:
        return f"CAST(NULL AS {sql_type(column_type)})"
    if isinstance(value, str):
        return text_literal(value)
    if column_type.name == "bool":
        return "true" if value else "false"
    if column_type.name == "timestamp":
        return f"make_timestamptz({value})"
    if column_type.name == "date":
        return f"make_date({value})"
    text = format(value, "f") if isinstance(value, Decimal) else repr(value)
    return f"CAST('{text}' AS {sql_type(column_type)})"


def text_literal(text: str) -> str:
    """`text` as an SQL string; chr(0) stands for what no SQL text can hold."""
    pieces = ["'" + piece.replace("'", "''") + "'" for piece in text.split("\0")]
    return pieces[0] if len(pieces) == 1 else f"({' || chr(0) || '.join(pieces)})"


_SHORT = 200
"""Characters of SQL that may be repeated; longer text would grow exponentially with the depth of nesting."""


def bound(value: str, body: Callable[[str], str]) -> str:
    """SQL of `body` over `value`, which it may use any number of times."""
    if len(value) <= _SHORT:
        return body(value)
    name = f"v{crc32(value.encode()):x}"  # the same name only ever hides the same value
    return f"list_transform([{value}], lambda {name}: {body(name)})[1]"
