"""What each aggregation takes and answers, as types (design.md 1.9): what a definition can be checked by."""

from decimal import Decimal, InvalidOperation

from featureflow_cli.spec.models import Feature
from featureflow_cli.spec.types import DOUBLE, INT64, MAX_PRECISION, STRING, ColumnType, Value, decimal_type
from featureflow_cli.times import parse_timestamp

NUMERIC = frozenset({"sum", "mean", "variance", "stddev", "percentile"})
ORDERED = frozenset({"min", "max"})
KEYED = frozenset({"top_k", "count_distinct", "session_mean"})
RANKED = frozenset({"count", "sum", "mean", "ratio", "min", "max"})
DECAYING = frozenset({"count", "sum"})


def operand_of(feature: Feature) -> tuple[tuple[str, ...], str] | None:
    """Where below the feature its operand stands, and its text; None where it has none of its own."""
    name = feature.aggregation
    what = getattr(feature, name)
    if isinstance(what, str):
        return (name,), what
    for key in ("of", "by"):
        if name not in {"ratio", "rank"} and hasattr(what, key):
            return (name, key), getattr(what, key)
    return None


def takes(aggregation: str, operand: ColumnType) -> str:
    """An empty text where the aggregation takes such operands; else what it takes."""
    if operand.element is not None:
        return "a scalar (lists only stand in `latest`)"
    if aggregation in NUMERIC and not operand.is_number:
        return "a number"
    if aggregation in ORDERED and not (operand.is_number or operand.name in {"timestamp", "date"}):
        return "a number, a timestamp or a date"
    return ""


def described(column_type: ColumnType) -> str:
    """The type with its article: `an int64`, `a string`."""
    return f"an {column_type}" if column_type.name == "int64" else f"a {column_type}"


def as_yaml(value: Value) -> str:
    """A value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


def answer_type(feature: Feature, operand: ColumnType | None) -> ColumnType:
    """The type of a feature's answer, given that of its operand (None: it has none, or counts events)."""
    name = feature.aggregation
    if feature.half_life is not None:
        return DOUBLE
    if name in {"count", "count_distinct"}:
        return INT64
    if operand is None or name in {"mean", "variance", "stddev", "percentile", "session_mean"}:
        return DOUBLE
    if name == "sum":
        return decimal_type(MAX_PRECISION, operand.scale) if operand.name == "decimal" else operand
    if name in {"first_k", "last_k", "top_k"}:
        return ColumnType("list", element=operand)
    return operand


def misfit(value: Value, column_type: ColumnType) -> str:
    """An empty text where `value` is a literal of the type; else why not."""
    text, wrong = str(value), f"it is not {described(column_type)}"
    if column_type.element is not None:
        return "a list has no default"
    if isinstance(value, bool) or column_type.name == "bool":
        return "" if isinstance(value, bool) and column_type.name == "bool" else wrong
    if column_type.is_number:
        return _misfit_number(text, column_type)
    if not isinstance(value, str):
        return f"{wrong}; quote it" if column_type == STRING else wrong
    if column_type.name in {"timestamp", "date"}:
        try:
            moment_us = parse_timestamp(text)
        except ValueError as err:
            return str(err).removeprefix(f"'{text}'").replace(" is not", "it is not", 1).strip()
        return "it is not a date alone" if column_type.name == "date" and moment_us % 86_400_000_000 else ""
    return ""


def _misfit_number(text: str, column_type: ColumnType) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return f"it is not {described(column_type)}"
    if not number.is_finite():
        return "it is not finite"
    if column_type == DOUBLE:
        return ""
    if column_type == INT64:
        fits = number == number.to_integral_value() and -(2**63) <= number < 2**63
        return "" if fits and text.lstrip("+-").isdigit() else "it is not an int64"
    scaled = number.scaleb(column_type.scale)
    fits = scaled == scaled.to_integral_value() and abs(scaled) < Decimal(10) ** column_type.precision
    return "" if fits else f"it does not fit {column_type}"
