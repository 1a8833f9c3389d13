"""What a real broker tells about topics and groups."""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.sources.kafka_admin import Admin
from featureflow_cli.spec.models import KafkaStream
from tests.services.kafka import Kafka
from tests.services.processes import free_port


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def admin(kafka: Kafka, name: str) -> Iterator[Admin]:
    yield Admin(KafkaStream(topic=name, bootstrap_servers=kafka.bootstrap), {})


def test_a_topic_is_created_as_asked_and_described_with_its_id(kafka: Kafka, admin: Admin, name: str):
    assert admin.describe([name]) == {}
    admin.create(name, 3, 3_600_000_000)
    admin.create(name, 5, None)  # it is there: nothing happens
    found = admin.describe([name, "no-such-topic"])
    assert list(found) == [name]
    topic = found[name]
    assert (topic.partitions, topic.timestamp_type, topic.retention_ms) == (3, "LogAppendTime", 3_600_000)
    assert topic.topic_id == kafka.topic_id(name)
    admin.grow(name, 4)
    admin.grow(name, 2)  # somebody else was as quick, and wanted more
    assert admin.describe([name])[name].partitions == 4


def test_offsets_and_what_the_group_committed(kafka: Kafka, admin: Admin, name: str):
    admin.create(name, 2, None)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(5):
        producer.produce(name, str(number).encode(), partition=1)
    assert producer.flush(20) == 0
    assert admin.offsets(name, 2) == {0: (0, 0), 1: (0, 5)}
    assert admin.committed(f"group-{name}", name, 2) == {}
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"group-{name}"})
    consumer.commit(offsets=[TopicPartition(name, 1, 3)], asynchronous=False)
    consumer.close()
    assert admin.committed(f"group-{name}", name, 2) == {1: 3}


def test_brokers_that_are_away_are_said_to_be():
    away = f"127.0.0.1:{free_port()}"
    admin = Admin(KafkaStream(topic="t", bootstrap_servers=away), {}, answer_s=0.5)
    with pytest.raises(StoreUnavailable, match=f"Kafka at {away} does not answer"):
        admin.describe(["t"])
