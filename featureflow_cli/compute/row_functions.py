"""The strict operations of expressions over Python values: they never see a null (compute/rows.py)."""

import math
import operator
import re
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from functools import lru_cache
from typing import Any

from featureflow_cli.compute import calendar
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import ColumnType, Value

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

EXACT = Context(prec=120, rounding=ROUND_HALF_UP)
"""Wide enough that no operation on two decimals of 38 digits rounds."""

Function = Callable[..., Value]


def strict(expr: Expr, cast: Callable[[ColumnType, ColumnType], Function]) -> Function:
    """The function of the arguments' values (none of them null) that `expr`'s operation is."""
    op, answer = expr.op, expr.type
    if op == "cast":
        return cast(expr.args[0].type, answer)
    if op in _COMPARISONS:
        return _COMPARISONS[op]
    if op in _ARITHMETIC:
        if answer.name == "int64":
            return _int64(_ARITHMETIC[op])
        if answer.name == "double":
            return _double(_ARITHMETIC[op])
        return _decimal(_DECIMAL_ARITHMETIC[op], answer)
    if op in {"mod", "floor", "ceil", "round"}:
        return _ROUNDING[op, answer.name](answer, expr.value)
    if op in _DOUBLES:
        return _double(_DOUBLES[op])
    if op == "like":
        return lambda text, pattern: like_matches(text, pattern, expr.value)
    if op in _CALENDAR:
        unit = str(expr.value)
        function = _CALENDAR[op]
        return lambda *moments: function(unit, *moments)
    return _TEXT[op]


def fit(number: Decimal, column_type: ColumnType) -> Decimal | None:
    """`number` at the type's scale, rounded half away from zero; None where it has too many digits."""
    if number.adjusted() > 2 * column_type.precision:
        return None
    scaled = EXACT.quantize(number, Decimal(1).scaleb(-column_type.scale))
    if not scaled:
        return scaled.copy_abs()
    return scaled if scaled.adjusted() < column_type.precision - column_type.scale else None


def round_half_away(number: float) -> float:
    """C's round(): the nearest whole number, halves away from zero; the sign of zero is kept."""
    whole = math.trunc(number)
    if abs(number - whole) >= 0.5:
        whole += 1 if number > 0 else -1
    return math.copysign(float(whole), number)


def _int64(function: Callable[..., int]) -> Function:
    def evaluate(*values: int) -> int | None:
        answer = function(*values)
        return answer if INT64_MIN <= answer <= INT64_MAX else None

    return evaluate


def _double(function: Callable[..., float]) -> Function:
    """Null where the answer is not a finite number."""

    def evaluate(*values: float) -> float | None:
        try:
            answer = function(*values)
        except (ValueError, OverflowError, ZeroDivisionError):
            return None
        return answer if isinstance(answer, float) and math.isfinite(answer) else None

    return evaluate


def _decimal(function: Callable[..., Decimal], answer: ColumnType) -> Function:
    return lambda *values: fit(function(*values), answer)


def _mod_int64(left: int, right: int) -> int | None:
    """The remainder of division towards zero: it has the sign of `left`."""
    return int(math.copysign(1, left)) * (abs(left) % abs(right)) if right else None


def _mod_decimal(answer: ColumnType) -> Function:
    def evaluate(left: Decimal, right: Decimal) -> Decimal | None:
        return fit(EXACT.remainder(left, right), answer) if right else None

    return evaluate


def _round_double(digits: int) -> Callable[[float], float]:
    """round(x * 10^digits) / 10^digits in double arithmetic; x itself where the product overflows."""
    if digits == 0:
        return round_half_away
    power = 10.0**digits

    def evaluate(number: float) -> float:
        scaled = number * power
        return round_half_away(scaled) / power if math.isfinite(scaled) else number

    return evaluate


def _whole_double(function: Callable[[float], int]) -> Function:
    return lambda number: math.copysign(float(function(number)), number)


def _whole_decimal(answer: ColumnType, rounding: str) -> Function:
    return lambda number: fit(number.to_integral_value(rounding), answer)


def _itself(number: Value) -> Value:
    return number


_COMPARISONS: dict[str, Function] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "not": operator.not_,
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "abs": abs,
}
_DECIMAL_ARITHMETIC: dict[str, Callable[..., Decimal]] = {
    "add": EXACT.add,
    "sub": EXACT.subtract,
    "mul": EXACT.multiply,
    "neg": EXACT.minus,
    "abs": EXACT.abs,
}
_DOUBLES: dict[str, Callable[..., float]] = {
    "div": operator.truediv,
    "sqrt": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "power": math.pow,
}
_ROUNDING: dict[tuple[str, str], Callable[[ColumnType, Any], Function]] = {
    ("mod", "int64"): lambda answer, _: _mod_int64,
    ("mod", "double"): lambda answer, _: _double(math.fmod),
    ("mod", "decimal"): lambda answer, _: _mod_decimal(answer),
    ("floor", "int64"): lambda answer, _: _itself,
    ("floor", "double"): lambda answer, _: _whole_double(math.floor),
    ("floor", "decimal"): lambda answer, _: _whole_decimal(answer, ROUND_FLOOR),
    ("ceil", "int64"): lambda answer, _: _itself,
    ("ceil", "double"): lambda answer, _: _whole_double(math.ceil),
    ("ceil", "decimal"): lambda answer, _: _whole_decimal(answer, ROUND_CEILING),
    ("round", "int64"): lambda answer, _: _itself,
    ("round", "double"): lambda answer, digits: _round_double(digits),
    ("round", "decimal"): lambda answer, _: lambda number: fit(number, answer),
}


# The one-character case mappings of Unicode. Python's own differ where the full mapping is longer than one
# character (`'ß'.upper()` is 'SS'); these are the characters where DuckDB still maps to one.
_TITLES = "\u1f80\u1f81\u1f82\u1f83\u1f84\u1f85\u1f86\u1f87\u1f90\u1f91\u1f92\u1f93\u1f94\u1f95\u1f96\u1f97"
_TITLES += "\u1fa0\u1fa1\u1fa2\u1fa3\u1fa4\u1fa5\u1fa6\u1fa7"
_UPPER = {**{title: chr(ord(title) + 8) for title in _TITLES}, "ß": "ẞ", "ᾳ": "ᾼ", "ῃ": "ῌ", "ῳ": "ῼ"}
_LOWER = {"İ": "i"}


def lower(text: str) -> str:
    """Character by character, each to one character: no context, no locale."""
    return (
        text.lower()
        if text.isascii()
        else "".join(_LOWER.get(each) or _single(each.lower(), each) for each in text)
    )


def upper(text: str) -> str:
    return (
        text.upper()
        if text.isascii()
        else "".join(_UPPER.get(each) or _single(each.upper(), each) for each in text)
    )


def _single(mapped: str, original: str) -> str:
    return mapped if len(mapped) == 1 else original


@lru_cache(maxsize=256)
def _like_pattern(pattern: str, escape: str | None) -> re.Pattern[str]:
    """`%` any text, `_` one character, and what follows the escape character stands for itself."""
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            parts.append(re.escape(next(characters)))  # the parser lets no pattern end within an escape
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def like_matches(text: str, pattern: str, escape: Value) -> bool:
    return _like_pattern(pattern, None if escape is None else str(escape)).fullmatch(text) is not None


def substr(text: str, start: int, length: int | None = None) -> str:
    """The characters at places start to start + length - 1, of which 1..n exist.

    Place 0 is the one before the first; a negative start counts from the end (-1 is the last character). A
    negative length is empty.
    """
    first = start if start >= 0 else len(text) + start + 1
    end = len(text) + 1 if length is None else first + length
    return text[max(first, 1) - 1 : max(end, 1) - 1]


def replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new) if old else text


def split_part(text: str, separator: str, number: int) -> str:
    """The `number`-th part from 1, or from the end where negative; empty where there is none."""
    parts = text.split(separator)
    at = number - 1 if number > 0 else len(parts) + number
    return parts[at] if number and 0 <= at < len(parts) else ""


_TEXT: dict[str, Function] = {
    "lower": lower,
    "upper": upper,
    "trim": lambda text: text.strip(" "),
    "ltrim": lambda text: text.lstrip(" "),
    "rtrim": lambda text: text.rstrip(" "),
    "length": len,
    "join": operator.add,
    "substr": substr,
    "replace": replace,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": operator.contains,
    "split_part": split_part,
    "epoch_us": lambda moment_us: moment_us,
}
_CALENDAR: dict[str, Function] = {
    "date_part": calendar.part,
    "date_trunc": calendar.trunc,
    "date_diff": calendar.diff,
}
