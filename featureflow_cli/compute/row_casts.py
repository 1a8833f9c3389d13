"""Casts of expressions over Python values: what does not fit is None (docs/expressions.md).

Text is read as the literal of the type that it must be as a whole; nothing is trimmed.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from featureflow_cli.compute import calendar
from featureflow_cli.compute.row_functions import INT64_MAX, INT64_MIN, fit, round_half_away
from featureflow_cli.spec.types import ColumnType, Value
from featureflow_cli.times import DAY_US, format_timestamp, parse_timestamp

INT64_TEXT = r"[+-]?[0-9]{1,19}(\.0*)?"
DECIMAL_TEXT = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
DOUBLE_TEXT = DECIMAL_TEXT + r"([eE][+-]?[0-9]+)?"
MOMENT_TEXT = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
    r" ?(Z|z|UTC|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
"""What `times.parse_timestamp` reads, in the words of RE2 too."""
DATE_TEXT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"

_INT64, _DECIMAL, _DOUBLE = re.compile(INT64_TEXT), re.compile(DECIMAL_TEXT), re.compile(DOUBLE_TEXT)
_MOMENT, _DATE = re.compile(MOMENT_TEXT), re.compile(DATE_TEXT)

Function = Callable[[Any], Value]


def cast(given: ColumnType, wanted: ColumnType) -> Function:
    """The function that brings a value (not None) of one type to another."""
    if wanted.name == "decimal":
        return _DECIMALS[given.name](wanted)
    return _CASTS[given.name, wanted.name]


def _within_int64(number: int) -> int | None:
    return number if INT64_MIN <= number <= INT64_MAX else None


def _int64_of_decimal(number: Decimal) -> int | None:
    return _within_int64(int(number.to_integral_value("ROUND_HALF_UP")))


def _int64_of_double(number: float) -> int | None:
    return _within_int64(int(round_half_away(number)))


def _int64_of_text(text: str) -> int | None:
    return _within_int64(int(text.partition(".")[0])) if _INT64.fullmatch(text) else None


def _double_of_text(text: str) -> float | None:
    number = float(text) if _DOUBLE.fullmatch(text) else float("inf")
    return number if abs(number) != float("inf") else None


def _bool_of_text(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower()) if text.isascii() else None


def _decimal_of_text(wanted: ColumnType) -> Function:
    return lambda text: fit(Decimal(text), wanted) if _DECIMAL.fullmatch(text) else None


def _decimal_of_exact(wanted: ColumnType) -> Function:
    return lambda number: fit(Decimal(number), wanted)


def _decimal_of_double(wanted: ColumnType) -> Function:
    """A double counts by its shortest text (design.md 1.9)."""
    return lambda number: fit(Decimal(repr(number)), wanted)


def moment_of_text(text: str) -> int | None:
    if not _MOMENT.fullmatch(text):
        return None
    try:
        moment_us = parse_timestamp(text)
    except ValueError:
        return None
    return moment_us if calendar.FIRST_US <= moment_us <= calendar.LAST_US else None


def _date_of_text(text: str) -> int | None:
    moment_us = moment_of_text(text) if _DATE.fullmatch(text) else None
    return None if moment_us is None else moment_us // DAY_US


def _moment_of_date(days: int) -> int | None:
    moment_us = days * DAY_US
    return moment_us if calendar.FIRST_US <= moment_us <= calendar.LAST_US else None


def _date_of_moment(moment_us: int) -> int | None:
    return moment_us // DAY_US if calendar.FIRST_US <= moment_us <= calendar.LAST_US else None


def _text_of_moment(moment_us: int) -> str | None:
    return format_timestamp(moment_us) if calendar.FIRST_US <= moment_us <= calendar.LAST_US else None


def _text_of_date(days: int) -> str | None:
    moment_us = _moment_of_date(days)
    return None if moment_us is None else format_timestamp(moment_us)[:10]


_CASTS: dict[tuple[str, str], Function] = {
    ("bool", "int64"): int,
    ("bool", "string"): lambda truth: "true" if truth else "false",
    ("int64", "bool"): bool,
    ("int64", "double"): float,
    ("int64", "string"): str,
    ("double", "int64"): _int64_of_double,
    ("double", "string"): repr,
    ("decimal", "int64"): _int64_of_decimal,
    ("decimal", "double"): float,
    ("decimal", "string"): lambda number: format(number, "f"),
    ("string", "bool"): _bool_of_text,
    ("string", "int64"): _int64_of_text,
    ("string", "double"): _double_of_text,
    ("string", "timestamp"): moment_of_text,
    ("string", "date"): _date_of_text,
    ("timestamp", "date"): _date_of_moment,
    ("timestamp", "string"): _text_of_moment,
    ("date", "timestamp"): _moment_of_date,
    ("date", "string"): _text_of_date,
}
_DECIMALS: dict[str, Callable[[ColumnType], Function]] = {
    "int64": _decimal_of_exact,
    "decimal": _decimal_of_exact,
    "double": _decimal_of_double,
    "string": _decimal_of_text,
}
