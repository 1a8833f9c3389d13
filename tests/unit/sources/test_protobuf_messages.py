"""Protobuf messages as JSON: nothing is changed on the way, and what is none becomes a letter."""

import json
import math
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.protobuf_messages import reader
from featureflow_cli.sources.registered_messages import FORMS, Readers, as_json
from featureflow_cli.sources.schema_registry import SchemaRegistry
from featureflow_cli.sources.schemas import NoSchema, Written
from featureflow_cli.spec.models import SchemaRegistryConfig
from tests.services.protos import compiled
from tests.services.schemas import SchemaServer, schema_server
from tests.unit.sources.mutilated import mutilated

MONEY = """
syntax = "proto3";
package shop;
message Money { int64 cents = 1; Currency currency = 2; }
enum Currency { EUR = 0; USD = 1; }
"""
EVENT = """
syntax = "proto3";
package shop;
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/type/date.proto";
import "confluent/type/decimal.proto";
import "money.proto";
message Other { message Inner { string x = 1; } }
message Event {
  int64 id = 1;
  uint64 large = 2;
  string name = 3;
  optional string nick = 4;
  bool seen = 5;
  double score = 6;
  bytes raw = 7;
  Currency currency = 8;
  optional Currency other = 9;
  Money paid = 10;
  repeated Money parts = 11;
  map<string, Money> by_shop = 12;
  map<int32, int64> counts = 13;
  repeated string tags = 14;
  oneof of { string text = 15; int32 number = 16; }
  Event cause = 17;
  google.protobuf.Timestamp at = 18;
  google.protobuf.Duration took = 19;
  google.protobuf.Int64Value wrapped = 20;
  google.protobuf.BytesValue blob = 21;
  google.protobuf.Struct more = 22;
  google.type.Date day = 23;
  confluent.type.Decimal amount = 24;
}
"""
UNSET = {
    "id": 0,
    "large": 0,
    "name": "",
    "nick": None,
    "seen": False,
    "score": 0.0,
    "raw": "",
    "currency": "EUR",
    "other": None,
    "paid": None,
    "parts": [],
    "by_shop": {},
    "counts": {},
    "tags": [],
    "text": None,
    "number": None,
    "cause": None,
    "at": None,
    "took": None,
    "wrapped": None,
    "blob": None,
    "more": None,
    "day": None,
    "amount": None,
}
FILES = compiled({"event.proto": EVENT, "money.proto": MONEY})
HEADER = b"\0\0\0\0\7"


def written(files: FileDescriptorSet, name: str, *references: str) -> Written:
    texts = {file.name: b64encode(file.SerializeToString()).decode() for file in files.file}
    return Written(texts[name], {each: texts[each] for each in references})


def type_of(files: FileDescriptorSet, name: str) -> Any:
    """The class of a message, in a pool that has nothing to do with ours."""
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(name))


Event = type_of(FILES, "shop.Event")


class Given:
    """A registry that has one schema, of id 7."""

    def written(self, number: int, kind: str) -> Written:
        if (number, kind) != (7, "PROTOBUF"):
            what = "no schema"
            raise NoSchema(what)
        return written(FILES, "event.proto", "money.proto")

    def close(self) -> None:
        pass


PROTOBUF = Readers(Given(), FORMS["protobuf"])


def message(event: Any, indexes: bytes = b"\2\2") -> bytes:
    """`indexes`: one of them, the second type of the file."""
    return HEADER + indexes + bytes(event.SerializeToString())


def batch(*messages: bytes) -> RawBatch:
    count = len(messages)
    return RawBatch(list(messages), np.arange(5, 5 + count), 5 + count, 0)


def read(event: Any) -> Any:
    (text,) = as_json(batch(message(event)), PROTOBUF).content
    return json.loads(text)


def full() -> Any:
    event = Event(id=2**63 - 1, large=2**64 - 1, name="é", nick="", seen=True, score=0.1, raw=b"\0\xff")
    event.currency, event.other = 1, 9
    event.paid.cents = -(2**63)
    event.parts.add(currency=1)
    event.by_shop["a"].cents = 1
    event.counts[-3] = 4
    event.tags.extend(["x", "y"])
    event.number = 0
    event.cause.id = 6
    event.at.seconds, event.at.nanos = -1, 999_999_999
    event.took.seconds, event.took.nanos = -1, -500_000_000
    event.wrapped.value = 0
    event.blob.value = b"\1"
    event.more.update({"a": [1.5, None, {"b": True}], "c": math.nan})
    event.day.year, event.day.month, event.day.day = 2026, 1, 2
    event.amount.value, event.amount.scale = (-10).to_bytes(1, "big", signed=True), 2
    return event


def test_every_kind_of_value_is_read_and_keeps_all_its_digits() -> None:
    assert read(full()) == {
        "id": 2**63 - 1,
        "large": 2**64 - 1,
        "name": "é",
        "nick": "",
        "seen": True,
        "score": 0.1,
        "raw": "AP8=",
        "currency": "USD",
        "other": 9,
        "paid": {"cents": -(2**63), "currency": "EUR"},
        "parts": [{"cents": 0, "currency": "USD"}],
        "by_shop": {"a": {"cents": 1, "currency": "EUR"}},
        "counts": {"-3": 4},
        "tags": ["x", "y"],
        "text": None,
        "number": 0,
        "cause": {**UNSET, "id": 6},
        "at": "1969-12-31T23:59:59.999999+00:00",
        "took": "-1.500000000",
        "wrapped": 0,
        "blob": "AQ==",
        "more": {"a": [1.5, None, {"b": True}], "c": None},
        "day": "2026-01-02",
        "amount": "-0.10",
    }


def test_what_was_not_set_is_null_where_that_is_known_and_else_its_default() -> None:
    assert read(Event()) == UNSET


@given(st.integers(-(2**63), 2**63 - 1), st.floats(), st.integers(-(2**80), 2**80), st.integers(0, 30))
def test_numbers_come_back_exactly(number: int, score: float, unscaled: int, scale: int) -> None:
    event = Event(id=number, score=score)
    event.amount.value, event.amount.scale = unscaled.to_bytes(11, "big", signed=True), scale
    found = read(event)
    assert found["id"] == number
    assert found["score"] == (score if math.isfinite(score) else None)
    whole, _, fraction = found["amount"].partition(".")
    assert (int(whole + fraction), len(fraction)) == (unscaled, scale)


def test_the_indexes_in_front_lead_to_the_type() -> None:
    """A zero stands for the first type; a type within a type is named by two."""
    inner = type_of(FILES, "shop.Other.Inner")(x="y")
    found = as_json(
        batch(message(inner, b"\4\0\0"), message(inner, b"\0"), message(Event(id=1), b"\2\2")), PROTOBUF
    )
    assert [json.loads(text) for text in found.content] == [{"x": "y"}, {}, {**UNSET, "id": 1}]


def test_what_cannot_be_read_is_a_letter() -> None:
    good = message(full())
    cut_short = good[:-1]
    no_such_type, broken_indexes = message(Event(), b"\2\4"), [HEADER, HEADER + b"\2", HEADER + b"\1\0"]
    late, wide = Event(), Event()
    late.at.nanos = -1
    wide.amount.scale = -(2**31)
    bad = [
        b"",
        b"{}",
        cut_short,
        no_such_type,
        *broken_indexes,
        b"\0\0\0\0\x08\0",
        message(late),
        message(wide),
    ]
    found = as_json(batch(good, *bad, good), PROTOBUF)
    assert len(found.content) == 2
    assert found.offsets.tolist() == [5, 6 + len(bad)]
    assert found.letters.column("payload").to_pylist() == bad
    assert set(found.letters.column("reason").to_pylist()) == {"undecodable"}
    details = found.letters.column("detail").to_pylist()
    assert "not Protobuf with a schema's id in front" in details[1]
    assert "the schema has no type at [2]" in details[3]
    assert "no schema of id 8" in details[7]


def test_mutilated_messages_are_letters_or_other_events_and_never_an_error() -> None:
    messages = mutilated(message(full()))
    found = as_json(batch(*messages), PROTOBUF)
    assert len(found.content) + found.letters.num_rows == len(messages)
    assert found.content
    assert found.letters.num_rows > 500
    assert all(json.loads(text) is not None for text in found.content)


def test_proto2_has_required_fields_and_defaults_of_its_own() -> None:
    text = """
    syntax = "proto2";
    message Old { required int64 id = 1; optional int32 size = 2 [default = 7]; optional int32 none = 3; }
    """
    files = compiled({"old.proto": text})
    old, as_text = type_of(files, "Old"), reader(written(files, "old.proto"))
    assert json.loads(as_text(message(old(id=1), b"\0"))) == {"id": 1, "size": 7, "none": None}
    with pytest.raises(ValueError, match="a required field of Old is missing"):
        as_text(HEADER + b"\0\x10\1")


def test_options_of_confluent_and_the_old_name_of_its_decimal_are_no_hindrance() -> None:
    file = compiled({"a.proto": 'syntax = "proto3"; message A { int32 x = 1; }'}).file[0]
    file.dependency.extend(["confluent/meta.proto", "confluent/types/decimal.proto"])
    amount = file.message_type[0].field.add(name="amount", number=2, type=11, label=1)
    amount.type_name = ".confluent.type.Decimal"
    as_text = reader(Written(b64encode(file.SerializeToString()).decode(), {}))
    assert json.loads(as_text(HEADER + b"\0\x08\1\x12\5\n\1\5\x18\1")) == {"x": 1, "amount": "0.5"}


@pytest.fixture
def server() -> Iterator[SchemaServer]:
    with schema_server() as server:
        yield server


def readers(server: SchemaServer) -> Readers:
    return Readers(SchemaRegistry(SchemaRegistryConfig(url=server.url), {}, "s"), FORMS["protobuf"])


def test_descriptors_are_asked_for_once_with_what_they_refer_to(server: SchemaServer) -> None:
    one = written(FILES, "event.proto", "money.proto")
    reference = {"name": "money.proto", "subject": "shop/money", "version": 2}
    answer = {"schema": one.text, "schemaType": "PROTOBUF", "references": [reference]}
    server.answers = {
        "/schemas/ids/7?format=serialized": (200, answer),
        "/subjects/shop%2Fmoney/versions/2?format=serialized": (
            200,
            {"schema": one.references["money.proto"], "schemaType": "PROTOBUF"},
        ),
        "/schemas/ids/8?format=serialized": (200, {"schema": '"long"'}),
        "/schemas/ids/9?format=serialized": (200, {**answer, "references": []}),
    }
    known = readers(server)
    found = as_json(batch(message(full()), b"\0\0\0\0\x08\0", b"\0\0\0\0\x09\0"), known)
    assert as_json(batch(message(full())), known).content == found.content
    assert [detail.partition(" has ")[2][:24] for detail in found.letters.column("detail").to_pylist()] == [
        "a schema of type AVRO of",
        "a schema that is none: C",
    ]
    assert server.asked.count("/schemas/ids/7?format=serialized") == 1


def test_a_registry_that_is_away_or_has_texts_only_loses_no_message(server: SchemaServer) -> None:
    """They would become letters, but may be read later."""
    server.answers = {
        "/schemas/ids/7?format=serialized": (500, {"error_code": 50001}),
        "/schemas/ids/8?format=serialized": (200, {"schema": EVENT, "schemaType": "PROTOBUF"}),
    }
    with pytest.raises(StoreUnavailable, match="with status 500"):
        as_json(batch(message(Event())), readers(server))
    with pytest.raises(FeatureflowError, match="gives the text of a Protobuf schema"):
        as_json(batch(b"\0\0\0\0\x08\0"), readers(server))
