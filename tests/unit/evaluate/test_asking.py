"""What a request may spell for a join key or a request column: the literals that events may spell."""

from decimal import Decimal

import pytest

from featureflow_cli.errors import UsageError
from featureflow_cli.evaluate.asking import typed_value
from featureflow_cli.spec.types import Value, parse_type


@pytest.mark.parametrize(
    ("written", "column_type", "value"),
    [
        (42, "int64", 42),
        ("42.0", "int64", 42),
        ("12345678901234567890.12345", "decimal(38,10)", Decimal("12345678901234567890.1234500000")),
        ("2026-01-01", "date", 20_454),
        ("1970-01-01T00:00:01Z", "timestamp", 1_000_000),
        ("nan", "double", None),
        (7, "string", "7"),
        (None, "int64", None),
    ],
)
def test_a_literal_of_the_type_fits(written: object, column_type: str, value: Value):
    assert typed_value(written, parse_type(column_type), "x") == value


@pytest.mark.parametrize(
    ("written", "column_type"),
    [
        ("1e999999999", "int64"),  # at once: ten to that power is never computed
        ("4.5", "int64"),
        (True, "int64"),
        ("1_000", "int64"),
        ("123456.78", "decimal(5,2)"),
        ("1e999", "double"),
        ({"a": 1}, "string"),
    ],
)
def test_all_else_is_refused(written: object, column_type: str):
    with pytest.raises(UsageError, match="does not fit"):
        typed_value(written, parse_type(column_type), "x")
