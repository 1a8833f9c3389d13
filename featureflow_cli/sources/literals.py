"""Whether a scalar fits a type, decided exactly, one value at a time (design.md 1.9, spec.md "Types").

This is the definition: a scalar fits where its text is a literal of the type. `fitting` decides the same over
columns, and hands what it is not sure of to this. Nothing here rounds, but a double to the nearest one and a
timestamp down to its microsecond.
"""

import json
import math
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from featureflow_cli.spec.types import MAX_PRECISION, ColumnType, Value
from featureflow_cli.times import MILLISECOND_US, SECOND_US, parse_timestamp

ISO8601 = "iso8601"
EPOCH_UNITS_US = {"epoch_s": SECOND_US, "epoch_ms": MILLISECOND_US, "epoch_us": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
LATEST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""Event time reaches from the first microsecond of year 1 to the last of year 9999."""
MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1

_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_BLANKS = " \t\r\n"
_EXACT = Context(prec=MAX_PRECISION)
_LONGEST_EXPONENT = 9
_LONGEST_TIMESTAMP = 64


class Number(str):
    """The text of a number in JSON, as it stands there."""

    __slots__ = ()


class Misfit(ValueError):
    """A value that is no literal of the type."""


def read_json(text: str) -> Any:
    """A JSON text with its numbers as `Number`; ValueError where it is none, RecursionError if it is too
    deep.

    NaN, Infinity and -Infinity, which Python's writers emit, count as numbers. Of a field written twice the
    last stands.
    """
    return _DECODER.decode(text)


def json_text(value: Any) -> str:
    """A value of `read_json` as JSON, its numbers as they stood there."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json_text(name)}: {json_text(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(json_text, value))}]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number)


def fit_json(value: Any, column_type: ColumnType, timestamp_format: str = ISO8601) -> Value:
    """A value of `read_json` as one of the type; Misfit where it does not fit."""
    if value is None:
        return None
    if isinstance(value, dict):
        raise Misfit
    if isinstance(value, list):
        if column_type.element is None:
            raise Misfit
        return tuple(fit_json(element, column_type.element, timestamp_format) for element in value)
    if isinstance(value, bool):
        return fit_text("true" if value else "false", column_type, timestamp_format)
    if isinstance(value, Number) and value.lstrip("-") in {"NaN", "Infinity"}:
        return None
    return fit_text(str(value), column_type, timestamp_format)


def fit_text(text: str, column_type: ColumnType, timestamp_format: str = ISO8601) -> Value:
    """The value of which `text` is a literal; Misfit where it is none of the type.

    Blanks around anything but a string are ignored. NaN and infinity are literals of `double` and mean null
    (design.md 1.8); a number beyond the doubles does not fit. A list is written as a JSON array.
    """
    if column_type.name == "string":
        if not text.isascii() and _has_surrogates(text):
            raise Misfit
        return text
    text = text.strip(_BLANKS)
    match column_type.name:
        case "int64":
            return _int64(text)
        case "double":
            return _double(text)
        case "decimal":
            unscaled = _unscaled(text, column_type.scale, column_type.precision)
            return Decimal(unscaled).scaleb(-column_type.scale, _EXACT)
        case "bool":
            return _bool(text)
        case "timestamp":
            return _timestamp(text, timestamp_format)
        case "date":
            return _date(text)
        case _:
            return _list(text, column_type, timestamp_format)


def _bool(text: str) -> bool:
    if len(text) > len("false") or text.lower() not in {"true", "false"}:
        raise Misfit
    return text.lower() == "true"


def _int64(text: str) -> int:
    number = _unscaled(text, 0, len(str(MAX_INT64)))
    if not MIN_INT64 <= number <= MAX_INT64:
        raise Misfit
    return number


def _double(text: str) -> float | None:
    if text.lstrip("+-").lower() in _NOT_FINITE and len(text.lstrip("+-")) >= len(text) - 1:
        return None
    _digits(text)
    number = float(text)
    if math.isinf(number):
        raise Misfit
    return number


def _timestamp(text: str, timestamp_format: str) -> int:
    if timestamp_format == ISO8601:
        if not text.isascii() or len(text) > _LONGEST_TIMESTAMP:
            raise Misfit
        try:
            moment_us = parse_timestamp(text)
        except ValueError as error:
            raise Misfit from error
    else:
        moment_us = _floor(text, len(str(EPOCH_UNITS_US[timestamp_format])) - 1)
    if not EARLIEST_US <= moment_us <= LATEST_US:
        raise Misfit
    return moment_us


def _date(text: str) -> int:
    if _DATE.fullmatch(text) is None:
        raise Misfit
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError as error:
        raise Misfit from error


def _list(text: str, column_type: ColumnType, timestamp_format: str) -> Value:
    try:
        elements = read_json(text)
    except (ValueError, RecursionError) as error:
        raise Misfit from error
    if not isinstance(elements, list):
        raise Misfit
    return fit_json(elements, column_type, timestamp_format)


def _digits(text: str) -> tuple[bool, str, int]:
    """(negative, digits, exponent): the number is digits * 10^exponent; no zeros at either end of the digits."""
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise Misfit
    sign, whole, fraction, power = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return False, "", 0
    if len(power) > _LONGEST_EXPONENT:
        power = "-999999999" if power.startswith("-") else "999999999"
    significant = digits.rstrip("0")
    return sign == "-", significant, int(power) - len(fraction) + len(digits) - len(significant)


def _unscaled(text: str, scale: int, precision: int) -> int:
    """The number times 10^scale, which has to be whole and of at most `precision` digits."""
    negative, digits, exponent = _digits(text)
    if not digits:
        return 0
    zeros = exponent + scale
    if zeros < 0 or len(digits) + zeros > precision:
        raise Misfit
    magnitude: int = int(digits) * 10**zeros
    return -magnitude if negative else magnitude


def _floor(text: str, shift: int) -> int:
    """floor(number * 10^shift), where that can be a moment."""
    negative, digits, exponent = _digits(text)
    zeros = exponent + shift
    if len(digits) + zeros > len(str(LATEST_US)):
        raise Misfit
    if zeros >= 0:
        magnitude: int = int(digits or "0") * 10**zeros
        return -magnitude if negative else magnitude
    magnitude = int(digits[: max(0, len(digits) + zeros)] or "0")  # what is cut off is not zero
    return -magnitude - 1 if negative else magnitude


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
