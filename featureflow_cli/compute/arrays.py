"""An expression over Arrow columns: the plain ones, which most conditions are, with the answers of compute/rows.py.

Columns, constants, comparisons, AND, OR, NOT, IN, IS NULL, CASE and coalesce: what Arrow answers as the subset does
(design.md 1.15), at a tenth of what a query over a small batch costs. All else is left to an engine
(compute/sql_expressions.py).
"""

from collections.abc import Callable
from functools import lru_cache, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featureflow_cli.compute.rows import compile_row
from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.types import DOUBLE, MAX_PRECISION, arrow_type, decimal_type

Column = Callable[[str], Any]
"""A column's Arrow array by its name, in its declared type."""


@lru_cache(maxsize=4096)
def is_plain(expr: Expr) -> bool:
    """Whether `array` knows all of it."""
    if expr.op == "column" or not expr.columns:
        return True
    if expr.op in _COMPARISONS or expr.op == "in":
        return _common(expr) is not None and all(map(is_plain, expr.args))
    return expr.op in _OPERATIONS and all(map(is_plain, expr.args))


def array(expr: Expr, column: Column, count: int) -> Any:
    """The Arrow array of the values of a plain expression in `count` rows, of the type `arrow_type(expr.type)`."""
    found = _value(expr, column)
    return pa.repeat(found, count) if isinstance(found, pa.Scalar) else found


def _value(expr: Expr, column: Column) -> Any:
    """An array, or a scalar where it is the same in every row."""
    if expr.op == "column":
        values = column(str(expr.value))
        return _finite(values) if expr.type == DOUBLE else values
    if not expr.columns:
        return _constant(expr)
    args = [_value(arg, column) for arg in expr.args]
    if expr.op in _OPERATIONS:
        return _OPERATIONS[expr.op](*args)
    common = _common(expr)
    subject, *others = (
        value if arg.type == common else value.cast(common)
        for arg, value in zip(expr.args, args, strict=True)
    )
    if expr.op == "in":
        return reduce(pc.or_kleene, (pc.equal(subject, other) for other in others))
    return _COMPARISONS[expr.op](subject, *others)


@lru_cache(maxsize=4096)
def _constant(expr: Expr) -> Any:
    return pa.scalar(compile_row(expr)({}), arrow_type(expr.type))


def _common(expr: Expr) -> Any:
    """The Arrow type that holds every value of all arguments of a comparison; None: there is none."""
    types = {arg.type for arg in expr.args}
    if len(types) == 1:
        return arrow_type(*types)
    scale = max(each.scale for each in types)  # they are decimals
    precision = max(each.precision - each.scale for each in types) + scale
    return arrow_type(decimal_type(precision, scale)) if precision <= MAX_PRECISION else None


def _finite(values: Any) -> Any:
    """NaN and infinity are null (design.md 1.8)."""
    finite = pc.is_finite(values)
    return values if pc.all(finite).as_py() else pc.if_else(finite, values, None)


def _case(*args: Any) -> Any:
    """condition, value, condition, value, …, value of else."""
    answer = args[-1]
    for condition, value in zip(args[-3::-2], args[-2::-2], strict=True):
        answer = pc.if_else(pc.fill_null(condition, False), value, answer)
    return answer


_COMPARISONS = {
    "eq": pc.equal,
    "ne": pc.not_equal,
    "lt": pc.less,
    "le": pc.less_equal,
    "gt": pc.greater,
    "ge": pc.greater_equal,
}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "and": lambda *args: reduce(pc.and_kleene, args),
    "or": lambda *args: reduce(pc.or_kleene, args),
    "not": pc.invert,
    "is_null": pc.is_null,
    "coalesce": pc.coalesce,
    "case": _case,
}
