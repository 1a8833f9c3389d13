"""One entity has one id, whether its key comes in a batch of events or in a request."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.entities import dense, entity_id, entity_ids
from featureflow_cli.spec.types import INT64, STRING, Value, parse_type
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


_NEAR, _FAR = st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(_NEAR | _FAR, st.sampled_from("abä"))) | st.lists(st.tuples(_NEAR, st.just(""))))
def test_entities_are_numbered_in_order_of_their_keys(rows: list[tuple[int, str]]):
    """Whether the keys lie close together or far apart, and of several join keys the first counts most."""
    columns = [
        pa.array([number for number, _ in rows], pa.int64()),
        pa.array([text for _, text in rows], pa.string()),
    ]
    for keys in ([columns[0]], [columns[1]], columns):
        given_ = list(zip(*(key.to_pylist() for key in keys), strict=True))
        entity, distinct = dense(keys, [INT64 if key.type == pa.int64() else STRING for key in keys])
        assert list(zip(*(key.to_pylist() for key in distinct), strict=True)) == sorted(set(given_))
        assert entity.tolist() == [sorted(set(given_)).index(key) for key in given_]
