"""The intake of a Kafka topic, against a real broker: what it reads, and what it refuses."""

import os
import random
import signal
from collections.abc import Mapping
from contextlib import suppress
from struct import unpack_from

import pytest
from confluent_kafka import Producer, TopicPartition

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.stream import topic_intake
from featureflow_cli.stream.outside import OffsetGone
from tests.integration.stream.topic_reader import (
    SOURCE,
    Ids,
    Reader,
    members,
    messages,
    numbered,
    produce,
    reading,
    tried,
)
from tests.services.kafka import Kafka, KafkaBroker, kafka_broker
from tests.services.processes import wait_until


def test_every_partition_is_read_from_its_position_to_its_end(kafka: Kafka) -> None:
    topic = kafka.topic(3)
    produce(kafka, topic, 0, numbered(0, 5))
    produce(kafka, topic, 2, numbered(5, 7))
    with reading(kafka, topic) as reader:
        assert reader.intake.partitions() == []
        assert reader.intake.goal() is None
        reader.drain()
        assert reader.seen == {0: numbered(0, 5), 2: numbered(5, 7)}
        assert reader.positions == {0: 5, 1: 0, 2: 2}


def test_it_reads_again_from_wherever_it_is_asked(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    produce(kafka, topic, 0, numbered(0, 1000))
    produce(kafka, topic, 1, numbered(0, 1000))
    with reading(kafka, topic) as reader:
        reader.drain()
        for start in (0, 999, 500, 501, 3, 1000, 7, 0):
            reader.seen.clear()
            reader.positions[1] = start
            reader.until(lambda: reader.positions[1] == 1000, "partition 1 is read")
            assert reader.seen.get(1, []) == numbered(start, 1000)
            assert reader.seen.keys() <= {1}


def test_a_partition_that_is_not_named_loses_nothing(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    with reading(kafka, topic) as reader:
        reader.drain()
        produce(kafka, topic, 0, numbered(0, 10))
        produce(kafka, topic, 1, numbered(0, 10))
        found: list[bytes] = []
        while len(found) < 10:
            read = reader.intake.read(SOURCE, {1: len(found)}, 3)
            assert read.keys() <= {1}
            found += [value for batch in read.get(1, ()) for value in messages(batch)]
        assert found == numbered(0, 10)
        both = {0: numbered(0, 10), 1: numbered(0, 10)}
        reader.until(lambda: reader.seen == both, "both are read")


def test_records_bring_their_times_and_tombstones_are_empty_messages(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    produce(kafka, topic, 0, [b"a", None, b""], at_ms=1_700_000_000_123)
    with reading(kafka, topic) as reader:
        reader.drain()
        assert reader.seen == {0: [b"a", b"", b""]}
        for batch in reader.batches:
            assert batch.recorded_at_us.tolist() == [1_700_000_000_123_000] * len(batch.offsets)


def test_the_brokers_time_counts_where_the_topic_says_so(kafka: Kafka) -> None:
    topic = kafka.topic(1, config={"message.timestamp.type": "LogAppendTime"})
    produce(kafka, topic, 0, [b"a"], at_ms=1_000)
    with reading(kafka, topic) as reader:
        reader.drain()
        assert reader.batches[0].recorded_at_us[0] > 1_700_000_000_000_000


def test_what_a_transaction_took_back_is_passed_over(kafka: Kafka) -> None:
    """Markers and aborted messages have offsets: the end of what was read lies behind them."""
    topic = kafka.topic(1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for values, end in (
        (numbered(0, 2), producer.commit_transaction),
        (numbered(2, 4), producer.abort_transaction),
        (numbered(4, 6), producer.commit_transaction),
        (numbered(6, 8), producer.abort_transaction),
    ):
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value)
        producer.flush(30)
        end(30)
    with reading(kafka, topic) as reader:
        reader.drain()
        assert reader.seen == {0: [*numbered(0, 2), *numbered(4, 6)]}
        assert reader.positions == {0: 12}
        assert sorted({int(offset) for batch in reader.batches for offset in batch.offsets}) == [0, 1, 6, 7]


def test_the_goal_is_what_was_there_when_it_was_first_asked_for(kafka: Kafka) -> None:
    """Also where a partition was read to its end before."""
    topic = kafka.topic(3)
    produce(kafka, topic, 0, numbered(0, 5))
    with reading(kafka, topic) as reader:
        reader.until(lambda: reader.seen == {0: numbered(0, 5)}, "all is read")
        produce(kafka, topic, 1, numbered(5, 9))
        assert reader.intake.goal() == {0: 5, 1: 4}
        produce(kafka, topic, 2, numbered(9, 10))
        assert reader.intake.goal() == {0: 5, 1: 4}


def test_the_goal_has_what_the_topic_let_go(kafka: Kafka) -> None:
    """Whoever holds the partition hears of it only if there is something to be read."""
    topic = kafka.topic(2)
    produce(kafka, topic, 0, numbered(0, 5))
    for done in kafka.admin.delete_records([TopicPartition(topic, 0, 5)]).values():
        done.result(30)
    with reading(kafka, topic) as reader:
        reader.until(lambda: reader.intake.goal() is not None, "it has joined")
        assert reader.intake.goal() == {0: 5}


def test_an_open_transaction_is_not_waited_for(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    produce(kafka, topic, 0, numbered(0, 2))
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(30)
    with reading(kafka, topic) as reader:
        reader.drain()
        assert reader.seen == {0: numbered(0, 2)}
    producer.abort_transaction(30)


def test_new_partitions_of_a_topic_are_noticed(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    with reading(kafka, topic) as reader:
        reader.drain()
        kafka.add_partitions(topic, 3)
        produce(kafka, topic, 2, numbered(0, 3))
        reader.until(lambda: reader.seen.get(2) == numbered(0, 3), "the new partition is read")
        assert reader.intake.partitions() == [0, 1, 2]


def test_an_offset_that_was_deleted_is_gone(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    produce(kafka, topic, 0, numbered(0, 10))
    produce(kafka, topic, 1, numbered(0, 10))
    with reading(kafka, topic) as reader:
        reader.drain()
        done = kafka.admin.delete_records([TopicPartition(topic, 1, 6)])
        for future in done.values():
            future.result(30)
        reader.positions[1] = 3
        with pytest.raises(OffsetGone) as caught:
            wait_until(lambda: reader.step() and False, "the offset is gone")
        assert caught.value.partition == 1
        assert reader.intake.first(1) == 6
        reader.positions[1] = 6
        reader.seen.clear()
        reader.drain()
        assert reader.seen == {1: numbered(6, 10)}


def test_a_partition_that_ends_before_what_was_read_is_refused(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    produce(kafka, topic, 0, numbered(0, 3))
    with reading(kafka, topic) as reader:
        reader.drain()
        reader.positions[0] = 7
        with pytest.raises(FeatureflowError, match=r"ends at offset 3, .* up to offset 7"):
            wait_until(lambda: reader.step() and False, "it is refused")


def test_another_topic_of_the_same_name_is_refused(kafka: Kafka) -> None:
    topic, ids = kafka.topic(1), Ids()
    produce(kafka, topic, 0, numbered(0, 3))
    with reading(kafka, topic, ids) as reader:
        reader.drain()
    assert ids.noted == kafka.topic_id(topic)
    kafka.delete(topic)
    kafka.topic(1, name=topic)
    produce(kafka, topic, 0, numbered(0, 9))
    with reading(kafka, topic, ids) as reader, pytest.raises(FeatureflowError, match="created anew"):
        wait_until(lambda: reader.step() and False, "it is refused")
    assert reader.seen == {}


def test_a_topic_that_is_not_there_is_told_with_how_to_make_it(kafka: Kafka) -> None:
    with reading(kafka, "never-made") as reader, pytest.raises(StoreUnavailable, match="no topic") as caught:
        wait_until(lambda: reader.step() and False, "it is told")
    assert "create: {partitions: 8}" in caught.value.hint
    kafka.topic(1, name="never-made")


def test_wherever_it_is_asked_to_read_it_answers_from_there_without_a_gap(kafka: Kafka) -> None:
    topic, count, dice = kafka.topic(2), 3_000, random.Random(3)
    for partition in range(2):
        produce(kafka, topic, partition, numbered(0, count))
    with reading(kafka, topic) as reader:
        reader.until(lambda: reader.intake.partitions() == [0, 1], "both are assigned")
        for _ in range(40):
            asked = {partition: dice.randrange(count) for partition in dice.choice([[0], [1], [0, 1]])}
            answered: Mapping[int, list[RawBatch]] = {}
            while not answered:
                answered = reader.intake.read(SOURCE, asked, dice.choice([1, 10, 1_000, 100_000]))
            for partition, batches in answered.items():
                stop = asked[partition]
                for batch in batches:
                    start, stop = stop, stop + len(batch.offsets)
                    assert batch.offsets.tolist() == list(range(start, stop))
                    assert messages(batch) == numbered(start, stop)
                    assert batch.end == stop


def test_a_topic_that_is_made_anew_while_it_is_read_is_refused(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    produce(kafka, topic, 0, numbered(0, 3))
    with reading(kafka, topic) as reader:
        reader.drain()
        kafka.delete(topic)
        kafka.topic(1, name=topic)
        produce(kafka, topic, 0, numbered(100, 103))
        with pytest.raises(FeatureflowError, match="created anew"):
            wait_until(lambda: tried(reader) and False, "it is refused")
        assert reader.seen == {0: numbered(0, 3)}


@pytest.mark.slow
def test_a_partition_that_goes_and_comes_within_a_read_is_looked_at_before_it_is_named(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the look every few seconds would find it, too, only later
    monkeypatch.setattr(topic_intake, "CHECK_S", 600.0)
    topic, found = kafka.topic(1), list[object]()
    produce(kafka, topic, 0, numbered(0, 3))
    with reading(kafka, topic, session_timeout_ms=6_000) as reader:
        reader.drain()
        reader.intake._reader._process.send_signal(signal.SIGSTOP)
        wait_until(lambda: members(kafka, topic) == 0, "it is thrown out")
        kafka.delete(topic)
        kafka.topic(1, name=topic)
        produce(kafka, topic, 0, numbered(100, 110))
        reader.intake._reader._process.send_signal(signal.SIGCONT)

        def read() -> None:
            with suppress(StoreUnavailable):
                found.append(reader.intake.read(SOURCE, {0: 3}, 100_000, 14.0))  # since the last answer

        with pytest.raises(FeatureflowError, match="created anew"):
            wait_until(read, "it is refused")
    assert reader.revoked == [0]
    assert not any(found)


@pytest.mark.service("kafka")
def test_a_goal_that_the_broker_has_lost_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the member that holds the partition, nor by one that holds none."""
    monkeypatch.setattr(topic_intake, "CHECK_S", 0.5)  # so that nobody waits for the next look
    with kafka_broker() as broker:
        topic = broker.topic(1)
        produce(broker, topic, 0, numbered(0, 4))
        produce(broker, topic, 0, numbered(4, 9))
        with reading(broker, topic) as one, reading(broker, topic) as two:

            def knows(reader: Reader) -> bool:
                return not reader.intake.read(SOURCE, {}, 1) and reader.intake.goal() == {0: 9}

            wait_until(lambda: knows(one) & knows(two), "both know their goal")
            assert sorted([*one.intake.partitions(), *two.intake.partitions()]) == [0]
            broker.kill()
            cut_back(broker, topic)
            broker.start()
            for reader in (one, two):
                with pytest.raises(FeatureflowError, match=r"ends at offset 4, but .* offset 9"):
                    wait_until(lambda reader=reader: tried(reader) and False, "it is told")


def cut_back(broker: KafkaBroker, topic: str) -> None:
    """Take the last batch of messages from its partition, as if they had never come to the disk."""
    (segment,) = (broker.storage / f"{topic}-0").glob("*.log")
    content, starts = segment.read_bytes(), [0]
    while starts[-1] < len(content):
        (size,) = unpack_from(">i", content, starts[-1] + 8)
        starts.append(starts[-1] + 12 + size)
    os.truncate(segment, starts[-2])


def test_nothing_is_read_of_a_topic_that_was_made_anew_after_it_was_not_found(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka.topic(1)
    produce(kafka, topic, 0, numbered(0, 3))
    with reading(kafka, topic) as reader:
        reader.drain()
        kafka.delete(topic)
        monkeypatch.setattr(topic_intake, "CHECK_S", 0.0)  # the next read looks
        with pytest.raises(StoreUnavailable, match="there is no topic"):
            wait_until(lambda: reader.step() and False, "it is not found")
        monkeypatch.setattr(topic_intake, "CHECK_S", 600.0)  # the next look of those would be too late
        kafka.topic(1, name=topic)
        produce(kafka, topic, 0, numbered(100, 110))
        with pytest.raises(FeatureflowError, match="created anew"):
            wait_until(lambda: tried(reader) and False, "it is refused")
    assert reader.seen == {0: numbered(0, 3)}
