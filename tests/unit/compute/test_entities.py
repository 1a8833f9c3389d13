"""One entity has one id, whether its key comes in a batch of events or in a request."""

from decimal import Decimal

import pytest

from featureflow_cli.compute.entities import entity_id, entity_ids
from featureflow_cli.spec.types import Value, parse_type
from tests.laws.tables import column


@pytest.mark.parametrize(
    ("column_type", "value"),
    [
        ("int64", -5),
        ("string", "a b,c/é"),
        ("bool", True),
        ("decimal(18,7)", Decimal("0.0000001")),
        ("timestamp", 1_767_225_600_000_001),
        ("date", 20_454),
    ],
)
def test_batches_and_requests_spell_a_key_alike(column_type: str, value: Value):
    assert entity_ids([column([value], parse_type(column_type))]) == [entity_id((value,))]
