"""An expression over one row, as plain Python closures: what every engine is held to (design.md 1.15).

Used by the reference and by on-demand features at serving. A row maps column names to values as spec/types.py
says; a double that is NaN or infinite counts as null. Nothing here raises on any value of the declared types.
"""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from featureflow_cli.compute import row_functions as functions
from featureflow_cli.compute.row_casts import cast
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import DOUBLE, Value

Row = Mapping[str, Value]
Evaluate = Callable[[Row], Value]


def compile_row(expr: Expr) -> Evaluate:
    """A function from a row to the value of `expr` in it; KeyError where the row lacks a column it reads."""
    if expr.op == "literal":
        value = expr.value
        return lambda row: value
    if expr.op == "column":
        return _column(expr)
    args = [compile_row(arg) for arg in expr.args]
    evaluate = _LAZY[expr.op](*args) if expr.op in _LAZY else _strict(functions.strict(expr, cast), args)
    if all(arg.op == "literal" for arg in expr.args):
        answer = evaluate({})
        return lambda row: answer
    return evaluate


def _column(expr: Expr) -> Evaluate:
    name = str(expr.value)
    if expr.type != DOUBLE:
        return operator.itemgetter(name)

    def finite(row: Row) -> Value:
        value: Any = row[name]
        return value if value is not None and math.isfinite(value) else None

    return finite


def _strict(function: Callable[..., Value], args: list[Evaluate]) -> Evaluate:
    """`function` of the arguments' values; null where any of them is null."""
    if len(args) == 1:
        (only,) = args

        def one(row: Row) -> Value:
            value = only(row)
            return None if value is None else function(value)

        return one
    if len(args) == 2:
        left, right = args

        def two(row: Row) -> Value:
            first = left(row)
            if first is None:
                return None
            second = right(row)
            return None if second is None else function(first, second)

        return two

    def several(row: Row) -> Value:
        values = [arg(row) for arg in args]
        return None if None in values else function(*values)

    return several


def _and(*args: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Value:
        answer: Value = True
        for arg in args:
            value = arg(row)
            if value is False:
                return False
            if value is None:
                answer = None
        return answer

    return evaluate


def _or(*args: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Value:
        answer: Value = False
        for arg in args:
            value = arg(row)
            if value is True:
                return True
            if value is None:
                answer = None
        return answer

    return evaluate


def _in(subject: Evaluate, *items: Evaluate) -> Evaluate:
    """True if any item is equal, else null if the subject or any item is null."""

    def evaluate(row: Row) -> Value:
        value = subject(row)
        if value is None:
            return None
        answer: Value = False
        for item in items:
            other = item(row)
            if other is None:
                answer = None
            elif other == value:
                return True
        return answer

    return evaluate


def _is_null(arg: Evaluate) -> Evaluate:
    return lambda row: arg(row) is None


def _case(*args: Evaluate) -> Evaluate:
    branches, default = list(zip(args[:-1:2], args[1::2], strict=True)), args[-1]

    def evaluate(row: Row) -> Value:
        for condition, value in branches:
            if condition(row) is True:
                return value(row)
        return default(row)

    return evaluate


def _coalesce(*args: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Value:
        for arg in args:
            value = arg(row)
            if value is not None:
                return value
        return None

    return evaluate


def _greatest(*args: Evaluate) -> Evaluate:
    """Nulls are passed over; of equal values the first (-0.0 and 0.0 are equal)."""

    def evaluate(row: Row) -> Value:
        values: list[Any] = [value for arg in args if (value := arg(row)) is not None]
        return max(values, default=None)

    return evaluate


def _least(*args: Evaluate) -> Evaluate:
    def evaluate(row: Row) -> Value:
        values: list[Any] = [value for arg in args if (value := arg(row)) is not None]
        return min(values, default=None)

    return evaluate


def _concat(*args: Evaluate) -> Evaluate:
    """Nulls are passed over (`||` is null where either side is)."""
    return lambda row: "".join(str(value) for arg in args if (value := arg(row)) is not None)


_LAZY: dict[str, Callable[..., Evaluate]] = {
    "and": _and,
    "or": _or,
    "in": _in,
    "is_null": _is_null,
    "case": _case,
    "coalesce": _coalesce,
    "greatest": _greatest,
    "least": _least,
    "concat": _concat,
}
"""Operations that look at nulls themselves; all others are null where an argument is."""
