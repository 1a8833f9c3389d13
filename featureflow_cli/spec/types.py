"""The type system: what a column, an operand or a feature holds.

Inside, values are plain Python: bool, int, float, Decimal (at the type's scale), str; a timestamp is int64
microseconds and a date int days, both since the epoch and UTC; a list is a tuple. `None` is null.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

Value = bool | int | float | Decimal | str | tuple["Value", ...] | None

_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_LIST = re.compile(r"list<(.+)>")
_PLAIN = ("bool", "int64", "double", "string", "timestamp", "date")
MAX_PRECISION = 38
NARROW_PRECISION = 18
"""Decimals up to this precision have an unscaled value that fits int64."""


@dataclass(frozen=True)
class ColumnType:
    """`bool int64 double decimal(p,s) string timestamp date list<T>`; the text is `str(type)`."""

    name: str
    precision: int = 0
    scale: int = 0
    element: "ColumnType | None" = None

    def __str__(self) -> str:
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.element is not None:
            return f"list<{self.element}>"
        return self.name

    @property
    def is_number(self) -> bool:
        return self.name in {"int64", "double", "decimal"}

    @property
    def is_exact(self) -> bool:
        """Integers and decimals: equal to the last digit in every path (design.md 1.9)."""
        return self.name in {"int64", "decimal"}

    @property
    def is_wide(self) -> bool:
        """A decimal whose unscaled value may not fit int64."""
        return self.name == "decimal" and self.precision > NARROW_PRECISION


BOOL = ColumnType("bool")
INT64 = ColumnType("int64")
DOUBLE = ColumnType("double")
STRING = ColumnType("string")
TIMESTAMP = ColumnType("timestamp")
DATE = ColumnType("date")


def decimal_type(precision: int, scale: int) -> ColumnType:
    return ColumnType("decimal", precision=precision, scale=scale)


def parse_type(text: str) -> ColumnType:
    """The type that `text` spells; ValueError says what is wrong with any other text."""
    text = text.strip()
    if text in _PLAIN:
        return ColumnType(text)
    if match := _DECIMAL.fullmatch(text):
        precision, scale = int(match[1]), int(match[2])
        if not (1 <= precision <= MAX_PRECISION and scale <= precision):
            message = f"'{text}': precision goes from 1 to {MAX_PRECISION}, scale from 0 to the precision"
            raise ValueError(message)
        return decimal_type(precision, scale)
    if match := _LIST.fullmatch(text):
        return ColumnType("list", element=parse_type(match[1]))
    message = f"unknown type '{text}': one of {', '.join(_PLAIN)}, decimal(p,s), list<T>"
    raise ValueError(message)


def arrow_type(column_type: ColumnType) -> "pa.DataType":
    """How Arrow holds a column of this type; timestamps are `timestamp[us, UTC]`."""
    import pyarrow as pa

    if column_type.element is not None:
        return pa.list_(arrow_type(column_type.element))
    if column_type.name == "decimal":
        return pa.decimal128(column_type.precision, column_type.scale)
    return {
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "date": pa.date32(),
    }[column_type.name]
