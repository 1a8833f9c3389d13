"""Avro messages as JSON: nothing is changed on the way, and what is none becomes a letter."""

import json
import math
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.errors import DefinitionError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.registered_messages import FORMS, Readers, as_json
from featureflow_cli.sources.schema_registry import SchemaRegistry
from featureflow_cli.sources.schemas import NoSchema, Written
from featureflow_cli.spec.models import SchemaRegistryConfig
from tests.services.schemas import SchemaServer, schema_server
from tests.unit.sources.mutilated import mutilated

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
EVENT = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "amount", "type": DECIMAL},
        {"name": "score", "type": "double"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "raw", "type": "bytes"},
        {"name": "nested", "type": {"type": "map", "values": {"type": "array", "items": "int"}}},
    ],
}
VALUE = {
    "id": 2**63 - 1,
    "name": None,
    "amount": Decimal("-0.10"),
    "score": 0.1,
    "at": datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC),
    "day": date(2026, 1, 2),
    "raw": b"\x00\xff",
    "nested": {"a": [1, 2]},
}


def message(value: Any, schema: Any = EVENT, number: int = 7) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
    return struct.pack(">bI", 0, number) + body.getvalue()


class Given:
    """A registry that has one schema, of id 7."""

    def written(self, number: int, kind: str) -> Written:
        if (number, kind) != (7, "AVRO"):
            what = "no schema"
            raise NoSchema(what)
        return Written(json.dumps(EVENT), {})

    def close(self) -> None:
        pass


AVRO = Readers(Given(), FORMS["avro"])


def batch(*messages: bytes) -> RawBatch:
    count = len(messages)
    return RawBatch(list(messages), np.arange(5, 5 + count), 5 + count, np.arange(count, dtype=np.int64))


def test_every_kind_of_value_keeps_all_its_digits() -> None:
    (text,) = as_json(batch(message(VALUE)), AVRO).content
    assert json.loads(text) == {
        "id": 2**63 - 1,
        "name": None,
        "amount": "-0.10",
        "score": 0.1,
        "at": "2026-01-01T12:00:00.000001+00:00",
        "day": "2026-01-02",
        "raw": "AP8=",
        "nested": {"a": [1, 2]},
    }


@given(st.integers(-(2**63), 2**63 - 1), st.floats(), st.decimals(-(10**15), 10**15, places=2))
def test_numbers_come_back_exactly(number: int, score: float, amount: Decimal) -> None:
    found = json.loads(
        as_json(batch(message({**VALUE, "id": number, "score": score, "amount": amount})), AVRO).content[0]
    )
    assert found["id"] == number
    assert Decimal(found["amount"]) == amount
    assert found["score"] == (score if math.isfinite(score) else None)


def test_what_cannot_be_read_is_a_letter_and_keeps_its_time_and_the_others_theirs() -> None:
    good = message(VALUE)
    bad = [b"", b"{}", good[:-1], good + b"x", message(VALUE, number=8), good[:5]]
    found = as_json(batch(good, *bad, good), AVRO)
    assert len(found.content) == 2
    assert found.offsets.tolist() == [5, 12]
    assert found.end == 13
    assert found.letters.column("offset").to_pylist() == [6, 7, 8, 9, 10, 11]
    assert found.letters.column("payload").to_pylist() == bad
    assert set(found.letters.column("reason").to_pylist()) == {"undecodable"}
    assert "no schema of id 8" in found.letters.column("detail").to_pylist()[4]
    recorded = found.recorded_of(found.letters.column("offset").to_numpy())
    assert isinstance(recorded, np.ndarray)
    assert recorded.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.recorded_of(found.offsets).tolist() == [0, 7]  # type: ignore[union-attr]


def test_mutilated_messages_are_letters_or_other_events_and_never_an_error() -> None:
    messages = mutilated(message(VALUE))
    found = as_json(batch(*messages), AVRO)
    assert len(found.content) + found.letters.num_rows == len(messages)
    assert found.content
    assert found.letters.num_rows > 500


@pytest.fixture
def server() -> Iterator[SchemaServer]:
    with schema_server("shop:hunter2") as server:
        yield server


def registry(url: str, password: str = "hunter2") -> SchemaRegistry:
    settings = SchemaRegistryConfig(url=f"{url}/", username="shop", password="${env:PW}")
    return SchemaRegistry(settings, {"PW": password}, "source 's'")


def test_a_schema_is_asked_for_once_with_what_it_refers_to(server: SchemaServer) -> None:
    money = {"type": "record", "name": "Money", "fields": [{"name": "cents", "type": "long"}]}
    order = {"type": "record", "name": "Order", "fields": [{"name": "paid", "type": "Money"}]}
    server.answers = {
        "/schemas/ids/3": (
            200,
            {
                "schema": json.dumps(order),
                "references": [{"name": "Money", "subject": "money-value", "version": 2}],
            },
        ),
        "/subjects/money-value/versions/2": (200, {"schema": json.dumps(money)}),
        "/schemas/ids/4": (200, {"schema": "syntax = 'proto3';", "schemaType": "PROTOBUF"}),
    }
    readers = Readers(registry(server.url), FORMS["avro"])
    event = b"\0\0\0\0\3" + b"\n"  # 5 in Avro
    found = as_json(batch(event, event, b"\0\0\0\0\4x", b"\0\0\0\0\5x"), readers)
    assert as_json(batch(event), readers).content == found.content[:1]
    assert found.content == [b'{"paid":{"cents":5}}'] * 2
    assert [detail.partition(" has ")[2] for detail in found.letters.column("detail").to_pylist()] == [
        "a schema of type PROTOBUF of id 4",
        "no schema of id 5",
    ]
    assert server.asked.count("/schemas/ids/3") == 1


def test_a_registry_that_is_away_or_refuses_loses_no_message(server: SchemaServer) -> None:
    """They would become letters, but may be read later."""
    server.answers = {"/schemas/ids/3": (500, {"error_code": 50001}), "/schemas/ids/4": (404, {})}
    for number in (3, 4):
        with pytest.raises(StoreUnavailable, match="with status"):
            registry(server.url).written(number, "AVRO")
    with pytest.raises(StoreUnavailable, match="does not let this account in") as caught:
        registry(server.url, "other").written(3, "AVRO")
    assert "other" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        registry("http://127.0.0.1:1").written(3, "AVRO")
    with pytest.raises(DefinitionError, match="no URL"):
        registry("http://127.0.0.1:x")
