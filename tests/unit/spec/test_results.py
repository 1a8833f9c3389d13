"""What the checks say of types is what the table of aggregations computes."""

from decimal import Decimal
from typing import Any

import pytest

from featureflow_cli.compute.aggregations import AGGREGATIONS
from featureflow_cli.spec import models
from featureflow_cli.spec.results import KEYED, RANKED, answer_type, misfit, takes
from featureflow_cli.spec.types import ColumnType, Value, parse_type

SCALARS = "bool int64 double decimal(9,2) decimal(38,3) string timestamp date"
TYPES = [parse_type(text) for text in SCALARS.split()]
PARTS: dict[str, Any] = {
    "percentile": {"of": "x", "p": 0.5},
    "session_mean": {"by": "x"},
    "first_k": {"of": "x", "k": 2},
    "last_k": {"of": "x", "k": 2},
    "top_k": {"of": "x", "k": 2},
}
WITHOUT_OPERAND = {"ratio", "rank", "time_since_last", "time_since_first"}
OPERANDS = [name for name in models.AGGREGATIONS if name not in WITHOUT_OPERAND]


@pytest.mark.parametrize("name", OPERANDS)
@pytest.mark.parametrize("operand", TYPES, ids=str)
def test_types_agree_with_the_table(name: str, operand: ColumnType) -> None:
    feature = models.Feature.model_validate({"name": "f", name: PARTS.get(name, "x"), "window": "1h"})
    aggregation = AGGREGATIONS[name]
    assert (takes(name, operand) == "") == aggregation.accepts(operand)
    if aggregation.accepts(operand):
        assert answer_type(feature, operand) == aggregation.result(operand)


def test_the_table_says_what_can_be_ranked() -> None:
    assert {name for name, each in AGGREGATIONS.items() if each.in_ranks} | {"ratio"} == RANKED
    assert {name for name, each in AGGREGATIONS.items() if each.takes == "key"} == KEYED


def test_lists_are_no_operands() -> None:
    assert all(takes(name, parse_type("list<int64>")) for name in OPERANDS)


@pytest.mark.parametrize(
    ("value", "column_type", "fits"),
    [
        (1, "int64", True), ("1", "int64", True), (2**63, "int64", False), (1.0, "int64", False),
        (True, "int64", False), (1, "double", True), ("1.5", "double", True), ("x", "double", False),
        ("9.99", "decimal(3,2)", True), (9.9, "decimal(3,2)", True), ("9.999", "decimal(3,2)", False),
        ("10", "decimal(3,2)", False), (float("inf"), "double", False), ("a", "string", True),
        (1, "string", False), (True, "bool", True), ("true", "bool", False), ("2026-01-01", "date", True),
        ("2026-01-01T01:00:00", "date", False), ("2026-01-01T01:00:00", "timestamp", True),
        ("2026-02-30", "timestamp", False), (Decimal("1.50"), "decimal(3,2)", True),
    ],
)  # fmt: skip
def test_defaults_that_fit(value: Value, column_type: str, fits: bool) -> None:
    assert (misfit(value, parse_type(column_type)) == "") == fits
