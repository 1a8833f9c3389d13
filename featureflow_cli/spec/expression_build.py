"""Checked expressions from checked parts. Everything here raises ValueError where the parts do not fit."""

from collections.abc import Sequence
from decimal import Decimal

from featureflow_cli.spec.expressions import Expr
from featureflow_cli.spec.operations import CASTS, NULL, OPERATIONS, round_type
from featureflow_cli.spec.types import (
    BOOL,
    DATE,
    DOUBLE,
    INT64,
    MAX_PRECISION,
    STRING,
    TIMESTAMP,
    ColumnType,
    Value,
    decimal_type,
)
from featureflow_cli.times import DAY_US, parse_timestamp

INT64_LIMIT = 2**63


def literal(value: Value, column_type: ColumnType) -> Expr:
    return Expr("literal", column_type, value=value)


NULL_LITERAL = literal(None, NULL)
FALSE, TRUE = literal(False, BOOL), literal(True, BOOL)


def number(text: str) -> Expr:
    """`7` is an int64 (a decimal where it is too large), `1.50` a decimal(3,2), `1e3` a double."""
    if "e" in text.lower():
        value = float(text)
        if value == float("inf"):
            message = f"{text} does not fit a double"
            raise ValueError(message)
        return literal(value, DOUBLE)
    if "." not in text and int(text) < INT64_LIMIT:
        return literal(int(text), INT64)
    digits = Decimal(text)
    scale = len(text.partition(".")[2])
    precision = max(len(digits.as_tuple().digits), scale, 1)
    if precision > MAX_PRECISION:
        message = f"{text} has over {MAX_PRECISION} digits: with an exponent it is a double"
        raise ValueError(message)
    return literal(digits, decimal_type(precision, scale))


def moment(text: str, column_type: ColumnType) -> Expr:
    """The timestamp or date that quoted text spells."""
    try:
        moment_us = parse_timestamp(text)
    except ValueError as err:
        message = f"'{text}' is not a {column_type}"
        raise ValueError(message) from err
    if column_type == TIMESTAMP:
        return literal(moment_us, TIMESTAMP)
    if moment_us % DAY_US:
        message = f"'{text}' is not a date"
        raise ValueError(message)
    return literal(moment_us // DAY_US, DATE)


def negated(arg: Expr) -> Expr:
    """-arg; a negated literal is a literal, for the smallest int64 has no positive."""
    if arg.op != "literal" or arg.value in {None, -INT64_LIMIT} or not arg.type.is_number:
        return operation("neg", [arg])
    if isinstance(arg.value, Decimal):
        if arg.value == INT64_LIMIT and arg.type.scale == 0:
            return literal(-INT64_LIMIT, INT64)
        return literal(arg.value.copy_negate() if arg.value else arg.value, arg.type)
    assert isinstance(arg.value, (int, float))
    return literal(-arg.value, arg.type)


def cast(arg: Expr, target: ColumnType) -> Expr:
    """What `try_cast(arg as target)` spells, and `cast` of all but quoted text."""
    if arg.type in {target, NULL}:
        return converted(arg, target)
    if target.name not in CASTS[arg.type.name]:
        allowed = ", ".join(CASTS[arg.type.name])
        message = f"cannot cast {arg.type} to {target}: {arg.type.name} can become {allowed}"
        raise ValueError(message)
    return Expr("cast", target, (arg,))


def converted(expr: Expr, wanted: ColumnType) -> Expr:
    """`expr` brought to `wanted`: what the user did not write becomes a `cast` node."""
    if expr.type == wanted:
        return expr
    return literal(None, wanted) if expr.type == NULL else Expr("cast", wanted, (expr,))


def operation(op: str, args: Sequence[Expr], value: Value = None) -> Expr:
    """The operation of the table over checked arguments."""
    entry = OPERATIONS[op]
    if not entry.least <= len(args) <= (entry.most or len(args)):
        message = (
            f"{entry.signature}: {len(args)} arguments are too {'few' if len(args) < entry.least else 'many'}"
        )
        raise ValueError(message)
    try:
        fitted = _literals_fitted(args)
        wanted, answer = entry.rule([arg.type for arg in fitted])
    except ValueError as err:
        message = f"{entry.signature}: {err}"
        raise ValueError(message) from err
    if op == "round" and isinstance(value, int):
        answer = round_type(answer, value)
    return Expr(op, answer, tuple(converted(*pair) for pair in zip(fitted, wanted, strict=True)), value)


def _literals_fitted(args: Sequence[Expr]) -> list[Expr]:
    """Literals take a nearer type from what stands beside them.

    Text beside a timestamp or a date is one (ValueError where it is not); an integer beside a decimal is a
    decimal of its own digits, so that `price * 2` gains one digit and not nineteen.
    """
    names = {arg.type.name for arg in args}
    beside = TIMESTAMP if "timestamp" in names else DATE if "date" in names else None

    def fitted(arg: Expr) -> Expr:
        if arg.op != "literal" or arg.value is None:
            return arg
        if beside is not None and arg.type == STRING:
            return moment(str(arg.value), beside)
        if arg.type == INT64 and "decimal" in names and "double" not in names:
            assert isinstance(arg.value, int)
            return literal(Decimal(arg.value), decimal_type(len(str(abs(arg.value))), 0))
        return arg

    return [fitted(arg) for arg in args]
