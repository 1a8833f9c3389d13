"""A default as a value of the feature's type."""

from decimal import Decimal

from featureflow_cli.spec.types import BOOL, DOUBLE, INT64, TIMESTAMP, ColumnType, Value
from featureflow_cli.times import parse_timestamp


def typed(written: Value, column_type: ColumnType) -> Value:
    """A default as a value of the feature's type (`spec.checks` has seen that it fits)."""
    if written is None:
        return None
    if column_type.name == "decimal":
        return Decimal(str(written)).quantize(Decimal(1).scaleb(-column_type.scale))
    if column_type == DOUBLE:
        return float(str(written))
    if column_type == INT64:
        return int(str(written))
    if column_type == TIMESTAMP:
        return parse_timestamp(str(written))
    if column_type == BOOL:
        return bool(written)
    return written
