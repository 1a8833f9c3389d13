"""A project that streams what Confluent's own serializers wrote, by the schemas that they registered."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from featureflow_cli.evaluate.log import accepted
from featureflow_cli.times import parse_timestamp
from tests.integration.kafka.test_project import shop, streamed
from tests.integration.stream.repo import assert_online_is_the_log
from tests.services.kafka import Kafka
from tests.services.protos import compiled

pytestmark = pytest.mark.slow  # the registry takes five seconds of CPU to start
AT = "2026-01-01T00:00:00.5Z"
LARGE = 2**63 - 1
KINDS = 'syntax = "proto3"; package shop; enum Kind { seen = 0; purchase = 1; }'
EVENT = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "confluent/type/decimal.proto";
import "kinds.proto";
message Other { int64 x = 1; }
message Event {
  string event_id = 1;
  int64 user_id = 2;
  optional string item_id = 3;
  Kind kind = 4;
  confluent.type.Decimal amount = 5;
  google.protobuf.Timestamp at = 6;
}
"""


def stream_and_read(
    folder: Path, kafka: Kafka, registry: str, form: str, written: Callable[[str], list[bytes]]
) -> list[tuple[Any, ...]]:
    """What the log has of the messages that `written(topic)` makes, and of one that is no event."""
    topic = kafka.topic(1)
    project = shop(
        folder, topic, kafka.bootstrap, more=f"format: {form}, schema_registry: {{url: '{registry}'}}"
    )
    messages = written(topic)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in (*messages, b"{}", messages[0][:-1]):
        producer.produce(topic, value)
    assert producer.flush(30) == 0
    (report,) = streamed(project).sources
    assert (report.accepted, dict(report.letters)) == (len(messages), {"undecodable": 2})
    with project.engine() as engine:
        relation = accepted(engine, project.repo.sources["events"], project.log("events").snapshot())
        columns = 'event_id, user_id, item_id, kind, amount, epoch_us("at") AS us'
        rows = engine.table(f"SELECT {columns} FROM {relation} ORDER BY 1").to_pylist()
    assert_online_is_the_log(project)
    return [tuple(row.values()) for row in rows]


EXPECTED = [
    ("e1", LARGE, None, "purchase", Decimal("-0.10"), parse_timestamp(AT)),
    ("e2", 0, "i", "seen", None, parse_timestamp(AT)),
]


def test_protobuf_of_confluents_serializer_with_a_schema_that_refers_to_another(
    tmp_path: Path, kafka: Kafka, schema_registry_url: str
) -> None:
    pool = DescriptorPool()
    for file in compiled({"events.proto": EVENT, "kinds.proto": KINDS}).file:
        pool.AddSerializedFile(file.SerializeToString())
    event = GetMessageClass(pool.FindMessageTypeByName("shop.Event"))
    one = event(event_id="e1", user_id=LARGE, kind=1)
    one.amount.value, one.amount.scale = (-10).to_bytes(1, "big", signed=True), 2
    two = event(event_id="e2", item_id="i")
    for each in (one, two):
        each.at.FromJsonString(AT)

    def written(topic: str) -> list[bytes]:
        context = SerializationContext(topic, MessageField.VALUE)
        with SchemaRegistryClient({"url": schema_registry_url}) as client:
            serialize = ProtobufSerializer(event, client)
            return [serialize(each, context) for each in (one, two)]

    assert stream_and_read(tmp_path, kafka, schema_registry_url, "protobuf", written) == EXPECTED


def test_avro_of_confluents_serializer(tmp_path: Path, kafka: Kafka, schema_registry_url: str) -> None:
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
    schema = {
        "type": "record",
        "name": "Event",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "user_id", "type": "long"},
            {"name": "item_id", "type": ["null", "string"]},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["seen", "purchase"]}},
            {"name": "amount", "type": ["null", amount]},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    }
    names = [field["name"] for field in schema["fields"]]  # type: ignore[index]

    def written(topic: str) -> list[bytes]:
        context = SerializationContext(topic, MessageField.VALUE)
        with SchemaRegistryClient({"url": schema_registry_url}) as client:
            serialize = AvroSerializer(client, json.dumps(schema))
            return [serialize(dict(zip(names, row, strict=True)), context) for row in EXPECTED]

    assert stream_and_read(tmp_path, kafka, schema_registry_url, "avro", written) == EXPECTED
