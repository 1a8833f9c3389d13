"""The intake of a Kafka topic, against a real broker."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition

from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.kafka import group_id
from featureflow_cli.sources.kafka_admin import Admin
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.stream.outside import OffsetGone
from featureflow_cli.stream.topic_intake import TopicIntake
from tests.services.kafka import Kafka, KafkaBroker, kafka_broker
from tests.services.processes import wait_until


def produce(kafka: Kafka, topic: str, partition: int, values: Sequence[bytes | None], at_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topic, value, key=b"k", partition=partition, timestamp=at_ms)
    assert producer.flush(30) == 0


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


class Ids:
    """Stands for the registry: notes the first id that it is told."""

    def __init__(self) -> None:
        self.noted: str | None = None

    def __call__(self, found: str) -> str:
        self.noted = self.noted or found
        return self.noted


class Reader:
    """An intake with a position for each partition, as a worker has them."""

    def __init__(
        self, kafka: Kafka, topic: str, ids: Callable[[str], str], group: str, **config: int
    ) -> None:
        named: Mapping[str, int] = {name.replace("_", "."): value for name, value in config.items()}
        stream = KafkaStream(
            topic=topic,
            bootstrap_servers=kafka.bootstrap,
            config={"heartbeat.interval.ms": 200, "topic.metadata.refresh.interval.ms": 500, **named},
        )
        self.intake = TopicIntake(("tests", None, group), stream, {}, ids)
        self.positions: dict[int, int] = {}
        self.seen: dict[int, list[bytes]] = {}
        self.batches: list[RawBatch] = []
        self.revoked: list[int] = []
        self.intake.on_revoke(self._let_go)

    def _let_go(self, partitions: Sequence[int]) -> None:
        assert set(partitions) <= set(self.intake.partitions())
        self.revoked += partitions
        for partition in partitions:
            self.positions.pop(partition, None)

    def step(self, rows: int = 100_000) -> Mapping[int, list[RawBatch]]:
        for partition in self.intake.partitions():
            if partition not in self.positions:
                self.positions[partition] = self.intake.first(partition)
        asked = dict(self.positions)
        found = self.intake.read(asked, rows)
        for partition, batches in found.items():
            if partition not in self.positions:
                continue
            for batch in batches:
                assert len(batch.content) == len(batch.offsets)
                assert (np.diff(batch.offsets) > 0).all()
                assert all(self.positions[partition] <= offset < batch.end for offset in batch.offsets)
                self.seen.setdefault(partition, []).extend(batch.content)
                self.positions[partition] = batch.end
                self.batches.append(batch)
        return found

    def until(self, condition: Callable[[], object], what: str) -> None:
        def met() -> object:
            self.step()
            return condition()

        wait_until(met, what)

    def drain(self) -> None:
        self.until(lambda: self.intake.drained(self.positions), "all is read")


@contextmanager
def reading(
    kafka: Kafka, topic: str, ids: Callable[[str], str] | None = None, **config: int
) -> Iterator[Reader]:
    reader = Reader(kafka, topic, ids or Ids(), f"g-{topic}", **config)
    try:
        yield reader
    finally:
        reader.intake.close()


def test_every_partition_is_read_from_its_position_to_its_end(kafka: Kafka) -> None:
    topic = kafka.topic(3)
    produce(kafka, topic, 0, numbered(0, 5))
    produce(kafka, topic, 2, numbered(5, 7))
    with reading(kafka, topic) as reader:
        assert reader.intake.partitions() == []
        assert not reader.intake.drained({})
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
            read = reader.intake.read({1: len(found)}, 3)
            assert read.keys() <= {1}
            found += [value for batch in read.get(1, ()) for value in batch.content]
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


def test_it_is_drained_of_what_was_there_when_first_asked(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    produce(kafka, topic, 0, numbered(0, 5))
    with reading(kafka, topic) as reader:
        reader.drain()
        produce(kafka, topic, 0, numbered(5, 9))
        reader.until(lambda: reader.positions[0] > 5, "more is read")
        assert reader.intake.drained(reader.positions)


def test_a_group_shares_the_partitions_and_each_is_let_go_before_it_is_given(kafka: Kafka) -> None:
    topic = kafka.topic(4)
    for partition in range(4):
        produce(kafka, topic, partition, numbered(0, 100))
    with reading(kafka, topic) as first:
        first.drain()
        assert first.intake.partitions() == [0, 1, 2, 3]
        with reading(kafka, topic) as second:

            def shared() -> bool:
                first.step()
                return len(second.intake.partitions()) == 2 == len(first.intake.partitions())

            second.until(shared, "both have two partitions")
            held = second.intake.partitions()
            assert sorted([*first.intake.partitions(), *held]) == [0, 1, 2, 3]
            assert sorted(first.revoked) == held
            second.drain()
            assert second.seen == {partition: numbered(0, 100) for partition in held}
        first.until(lambda: len(first.intake.partitions()) == 4, "all are the first one's again")
        first.drain()


def test_a_member_without_a_partition_has_nothing_left_to_read(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    with reading(kafka, topic) as first:
        first.drain()
        with reading(kafka, topic) as second:

            def idle() -> bool:
                first.step()
                members = (first.intake, second.intake)
                return sorted(len(member.partitions()) for member in members) == [0, 1] and all(
                    member.drained(reader.positions)
                    for member, reader in zip(members, (first, second), strict=True)
                )

            second.until(idle, "one of them is idle, and both are drained")


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
                answered = reader.intake.read(asked, dice.choice([1, 10, 1_000, 100_000]))
            for partition, (batch,) in answered.items():
                stop = asked[partition] + len(batch.offsets)
                assert batch.offsets.tolist() == list(range(asked[partition], stop))
                assert batch.content == numbered(asked[partition], stop)
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
@pytest.mark.service("kafka")
def test_a_broker_that_is_away_is_told_and_read_from_when_it_is_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with kafka_broker() as broker:
        topic = broker.topic(2)
        produce(broker, topic, 0, numbered(0, 3))
        with reading(broker, topic) as reader:
            reader.drain()
            broker.kill()
            with pytest.raises(StoreUnavailable, match="does not answer"):
                wait_until(lambda: reader.step() and False, "it is told")
            broker.start()
            produce(broker, topic, 1, numbered(3, 5))
            wait_until(lambda: tried(reader) and reader.seen.get(1) == numbered(3, 5), "it is read from", 60)
            assert reader.seen[0] == numbered(0, 3)
    assert "rdkafka#consumer" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.service("kafka")
def test_whoever_lost_the_group_with_its_broker_is_not_done_before_it_is_back() -> None:
    with kafka_broker() as broker:
        topic = broker.topic(1)
        with reading(broker, topic, session_timeout_ms=6_000) as reader:
            reader.drain()
            produce(broker, topic, 0, numbered(0, 3))
            broker.kill()
            wait_until(lambda: tried(reader) and not reader.intake._consumer.held, "its session is over", 60)
            broker.start()
            wait_until(lambda: tried(reader) and reader.intake.drained(reader.positions), "it is done", 60)
            times = len(reader.seen[0]) // 3  # all of it again from the start, where it lost the group twice
            assert reader.seen == {0: numbered(0, 3) * max(times, 1)}


@pytest.mark.slow
def test_a_member_that_was_away_for_too_long_comes_back(kafka: Kafka) -> None:
    """It is thrown out, told so when it is back, and shares the partitions again."""
    topic, times = kafka.topic(2), {"max_poll_interval_ms": 6_000, "session_timeout_ms": 6_000}
    for partition in range(2):
        produce(kafka, topic, partition, numbered(0, 10))
    with reading(kafka, topic, **times) as sleeper, reading(kafka, topic, **times) as other:
        sleeper.until(lambda: other.step() is None or len(sleeper.intake.partitions()) == 1, "they share")
        (held,) = sleeper.intake.partitions()
        other.until(lambda: len(other.intake.partitions()) == 2, "it is thrown out")
        assert sleeper.intake.partitions() == [held]
        sleeper.until(lambda: other.step() is None or held in sleeper.revoked, "it is told")
        sleeper.until(
            lambda: other.step() is None or len(sleeper.intake.partitions()) == 1, "they share again"
        )
        produce(kafka, topic, *(sleeper.intake.partitions()), numbered(10, 12))
        sleeper.until(
            lambda: sleeper.seen.get(sleeper.intake.partitions()[0], [])[-1:] == [b"11"], "it reads"
        )


@contextmanager
def unanswered(broker: KafkaBroker) -> Iterator[str]:
    """A reader of that topic leaves at the end, and the frozen broker has not answered its last report."""
    topic = broker.topic(1)
    produce(broker, topic, 0, numbered(0, 3))
    with reading(broker, topic) as reader:
        reader.drain()
        broker.freeze()
        reader.intake.report(reader.positions)
        yield topic


@pytest.mark.service("kafka")
def test_a_broker_that_leaves_a_commit_unanswered_holds_nobody_up_who_leaves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("featureflow_cli.sources.kafka.CLOSE_S", 1.0)
    with kafka_broker() as broker:
        with unanswered(broker):
            started_s = time.monotonic()
        assert time.monotonic() - started_s < 5
    assert "left behind" in caplog.text


@pytest.mark.service("kafka")
def test_whoever_leaves_has_its_last_report_taken_first() -> None:
    with kafka_broker() as broker:
        with unanswered(broker) as topic:
            thawing = threading.Timer(0.5, broker.thaw)
            thawing.start()
        thawing.join()
        stream = KafkaStream(topic=topic, bootstrap_servers=broker.bootstrap)
        assert Admin(stream, {}).committed(group_id("tests", None, f"g-{topic}"), topic, 1) == {0: 3}


def tried(reader: Reader) -> bool:
    """A step, as the stream's loop takes it: a store that is away is waited for."""
    with suppress(StoreUnavailable):
        reader.step()
    return True
