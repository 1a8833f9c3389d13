"""What is sent to a real broker arrives once, in order, or is said not to have arrived."""

import threading
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Message

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.generate.kafka import generate
from featureflow_cli.generate.shop import Scale
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.sources.kafka_producer import LetterTopic, Sender
from featureflow_cli.sources.letters import BATCH_SCHEMA, address
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.stream.told import Told
from tests.services.kafka import Kafka, kafka_broker
from tests.services.processes import free_port

HASTE = {"delivery.timeout.ms": 1_000, "linger.ms": 5}


def stream(kafka: Kafka, topic: str, **more: object) -> KafkaStream:
    return KafkaStream.model_validate({"topic": topic, "bootstrap_servers": kafka.bootstrap, **more})


def consumed(kafka: Kafka, topic: str, count: int) -> list[Message]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    found: list[Message] = []
    try:
        while len(found) < count:
            more = consumer.consume(count - len(found), 30)
            assert more, f"{len(found)} of {count} messages came"
            found += more
    finally:
        consumer.close()
    return found


def letters(*payloads: bytes, offset: int = 0) -> pa.Table:
    table = pa.table(
        {
            "offset": range(offset, offset + len(payloads)),
            "reason": ["undecodable"] * len(payloads),
            "detail": ["no JSON – at all"] * len(payloads),
            "payload": pa.array(payloads, pa.binary()),
        },
        schema=BATCH_SCHEMA,
    )
    return address(table, source="events", partition=3, recorded_at_us=1_500_000, lettered_at_us=2_000_000)


def test_those_of_a_key_arrive_in_one_partition_in_order(kafka: Kafka):
    topic = kafka.topic(3)
    sender = Sender(stream(kafka, topic), {})
    for start in range(0, 3000, 1000):
        numbers = range(start, start + 1000)
        sender.send([b"%d" % number for number in numbers], [b"%d" % (number % 10) for number in numbers])
    sender.flush()
    seen: dict[bytes, list[int]] = {}
    partitions: dict[bytes, set[int]] = {}
    for message in consumed(kafka, topic, 3000):
        seen.setdefault(message.key(), []).append(int(message.value()))
        partitions.setdefault(message.key(), set()).add(message.partition())
    assert seen == {b"%d" % key: list(range(key, 3000, 10)) for key in range(10)}
    assert all(len(found) == 1 for found in partitions.values())
    assert len({number for found in partitions.values() for number in found}) > 1


def test_a_key_goes_where_producers_of_the_jvm_send_it(kafka: Kafka):
    """By murmur2, as `kafka-console-producer` does: of 3 partitions b'1' is in 2 (and not in 0, by CRC32)."""
    topic = kafka.topic(3)
    sender = Sender(stream(kafka, topic), {})
    sender.send([b"x"], [b"1"])
    sender.flush()
    assert [message.partition() for message in consumed(kafka, topic, 1)] == [murmur2(b"1") % 3]


def test_what_cannot_be_delivered_is_an_error_and_not_a_silence(kafka: Kafka):
    away = KafkaStream(topic="t", bootstrap_servers=f"127.0.0.1:{free_port()}", config=HASTE)
    sender = Sender(away, {})
    sender.send([b"lost"] * 10)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        sender.flush()
    sender.flush()  # nothing waits any more
    told = LetterTopic(away.model_copy(update={"dead_letter_topic": "t"}), {})
    with pytest.raises(StoreUnavailable, match="does not answer"):
        told.append(letters(b"lost"))


@pytest.mark.service("kafka")
def test_a_broker_that_pauses_is_waited_for_and_one_that_stays_away_leaves_no_doubt_how_far_it_got():
    with kafka_broker() as broker:
        sender, hasty = (Sender(stream(broker, broker.topic(1), config=config), {}) for config in ({}, HASTE))
        for each in (sender, hasty):
            each.send([b"x"] * 100)
            each.flush()
        broker.freeze()
        for each in (sender, hasty):
            each.send([b"y"] * 50)
        with pytest.raises(StoreUnavailable, match=r"100 of 150 messages were acknowledged"):
            hasty.flush()
        broker.thaw()
        sender.flush()
        assert len(consumed(broker, sender._kafka.topic, 150)) == 150


@pytest.mark.service("kafka")
def test_generated_events_that_are_not_taken_say_how_to_send_them_again(monkeypatch: pytest.MonkeyPatch):
    """Whoever is told to stop meanwhile does not wait for as long as Kafka may take."""
    monkeypatch.setattr("featureflow_cli.sources.kafka_producer.STOPPED_S", 0.5)
    scale = Scale(
        events=100, duplicates=0, users=20, items=5, span_us=3_600_000_000, end_us=1_767_225_600_000_000
    )
    stop = threading.Event()
    told = r"does not answer.* \(100 of 101 messages were acknowledged"
    with kafka_broker() as broker:
        sender = Sender(stream(broker, broker.topic(1)), {}, stop.is_set)

        def interrupted(_: int, __: int) -> None:
            if not stop.is_set():
                sender.flush()
                broker.freeze()
                sender.send([b"y"])
                stop.set()

        with pytest.raises(StoreUnavailable, match=told) as caught:
            generate(
                scale, sender, key=None, rate=None, live=False, clock=lambda: 1, stop=stop, show=interrupted
            )
    assert "--seed 42 --end 2026-01-01T00:00:00.000000Z" in caught.value.hint


def test_letters_carry_what_came_and_why_it_was_refused(kafka: Kafka):
    dead = kafka.topic(1)
    told = LetterTopic(stream(kafka, "t", dead_letter_topic=dead), {})
    assert told.append(letters()) == 0
    assert told.append(letters(b"{", b"\xff\x00")) == 2
    assert told.append(letters(b"\xff\x00", offset=1)) == 1  # a replay tells it again, under the same key
    found = consumed(kafka, dead, 3)
    assert [message.value() for message in found] == [b"{", b"\xff\x00", b"\xff\x00"]
    assert [message.key() for message in found] == [b"events/3/0", b"events/3/1", b"events/3/1"]
    assert dict(found[0].headers() or ()) == {
        "source": b"events",
        "partition": b"3",
        "offset": b"0",
        "reason": b"undecodable",
        "detail": "no JSON – at all".encode(),
        "recorded_at": b"1970-01-01T00:00:01.500000Z",
    }


def test_a_letter_that_could_not_be_told_is_not_kept_either_and_comes_again(kafka: Kafka, tmp_path: Path):
    dead = kafka.topic(1)
    table = DeadLetters(str(tmp_path / "letters"))
    away = KafkaStream(
        topic="t",
        bootstrap_servers=f"127.0.0.1:{free_port()}",
        dead_letter_topic=dead,
        config=HASTE,
    )
    with pytest.raises(StoreUnavailable):
        Told(LetterTopic(away, {}), table).append(letters(b"{"))
    assert table.read().num_rows == 0
    told = Told(LetterTopic(stream(kafka, "t", dead_letter_topic=dead), {}), table)
    assert told.append(letters(b"{")) == 1
    assert told.append(letters(b"{")) == 0, "the table has it"
    assert [message.value() for message in consumed(kafka, dead, 2)] == [b"{", b"{"]


@pytest.mark.parametrize("limit", [200_000, 2_000_000], ids=["by the topic", "by the client"])
def test_a_letter_too_large_for_its_topic_is_told_without_its_payload(kafka: Kafka, limit: int):
    """It would hold up the stream for ever otherwise; the table has all of it."""
    dead = kafka.topic(1, config={"max.message.bytes": str(limit)})
    told = LetterTopic(stream(kafka, "t", dead_letter_topic=dead, config={"compression.type": "none"}), {})
    size = 500_000 if limit < 1_000_000 else 1_500_000
    assert told.append(letters(b"x" * size, b"small")) == 2
    by_key = {message.key(): message for message in consumed(kafka, dead, 2)}
    large, small = by_key[b"events/3/0"], by_key[b"events/3/1"]
    assert large.value() is None
    assert dict(large.headers() or ())["payload"] == b"too large"
    assert small.value() == b"small"


def test_a_letter_for_a_topic_that_is_not_there_says_which(kafka: Kafka):
    haste = {"topic.metadata.propagation.max.ms": 200}
    told = LetterTopic(stream(kafka, "t", dead_letter_topic="no-such-topic", config=haste), {})
    with pytest.raises(StoreUnavailable, match="no-such-topic"):
        told.append(letters(b"{"))


def test_a_letter_is_not_kept_waiting_for_a_topic_that_has_gone(kafka: Kafka):
    """By a producer that knows it from before, nor by one that has never seen it; and both go on once it is there."""
    dead = kafka.topic(1)
    both = [LetterTopic(stream(kafka, "t", dead_letter_topic=dead), {}) for _ in range(2)]
    assert both[0].append(letters(b"{")) == 1
    kafka.delete(dead)
    for told in both:
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match=f"no topic '{dead}'"):
            told.append(letters(b"{"))
        assert time.monotonic() - started_s < 5, "librdkafka waits for twice as long"
    kafka.topic(1, name=dead)
    assert [told.append(letters(b"{")) for told in both] == [1, 1]


def murmur2(key: bytes) -> int:
    """Kafka's own (org.apache.kafka.common.utils.Utils.murmur2, made positive), for keys of less than 4 bytes."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(key)) & mask
    for at in reversed(range(len(key))):
        h ^= key[at] << (8 * at)
    h = (h * m) & mask
    h ^= h >> 13
    h = (h * m) & mask
    h ^= h >> 15
    return h & 0x7FFFFFFF
