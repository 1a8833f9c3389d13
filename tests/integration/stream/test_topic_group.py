"""The intake of a Kafka topic as one member of its group: partitions come and go, and so do brokers and members."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.sources.kafka import CLOSE_S, group_id
from featureflow_cli.sources.kafka_admin import Admin
from featureflow_cli.spec.models import KafkaStream
from tests.integration.stream.topic_reader import Reader, members, numbered, produce, reading, tried
from tests.services.kafka import Kafka, KafkaBroker, kafka_broker
from tests.services.processes import wait_until
from tests.services.relay import METADATA, relayed_broker


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
            all_of_it = {partition: numbered(0, 100) for partition in held}
            second.until(lambda: second.seen == all_of_it, "its partitions are read")
        first.until(lambda: len(first.intake.partitions()) == 4, "all are the first one's again")
        first.drain()


def test_nobody_is_given_what_is_still_to_be_let_go_though_all_is_asked_for_from_elsewhere_meanwhile(
    kafka: Kafka,
) -> None:
    topic, given = kafka.topic(4), list[object]()
    for partition in range(4):
        produce(kafka, topic, partition, numbered(0, 100))
    with reading(kafka, topic) as first:
        first.until(lambda: len(first.intake.partitions()) == 4, "it holds all")
        first.step(rows=10)  # as many are read ahead, and then it waits to be asked
        with reading(kafka, topic) as second:

            def let_go(partitions: Sequence[int]) -> None:
                for _ in range(20):  # a second, in which it is not yet let go
                    second.step()
                given.append(second.intake.partitions())

            second.until(lambda: second.intake.goal() is not None, "the first is to let some go")
            first.intake.on_revoke(let_go)
            first.positions = dict.fromkeys(range(4), 5)
            first.until(lambda: given, "it hears of it")
            assert given == [[]]


def test_a_topic_that_grows_while_a_member_is_to_let_go_loses_it_no_member(kafka: Kafka) -> None:
    """librdkafka's own look at the topic, if it had any, would make it deaf for all rebalances to come."""
    topic, looks = kafka.topic(4), {"topic_metadata_refresh_interval_ms": 200}
    with reading(kafka, topic, **looks) as first:
        first.until(lambda: len(first.intake.partitions()) == 4, "it holds all")
        with reading(kafka, topic, **looks) as second, ExitStack() as later:
            second.until(lambda: second.intake.goal() == {}, "the first is to let some go, and does not hear")
            kafka.add_partitions(topic, 6)
            for _ in range(20):  # a second, in which nobody is to notice by itself
                second.step()
            assert (first.intake.partitions(), second.intake.partitions()) == ([0, 1, 2, 3], [])
            second.until(lambda: shared(first, second) == [3, 3], "they share what there is now")
            third = later.enter_context(reading(kafka, topic, **looks))
            third.until(lambda: shared(first, second, third) == [2, 2, 2], "a third has its share")


def test_whoever_holds_no_partition_has_the_goal_of_all_and_is_heard_to_leave(kafka: Kafka) -> None:
    """librdkafka leaves without a word; the group would wait for the member for a whole session."""
    topic = kafka.topic(1)
    produce(kafka, topic, 0, numbered(0, 3))
    with reading(kafka, topic, session_timeout_ms=45_000) as first:
        first.drain()
        with reading(kafka, topic, session_timeout_ms=45_000) as second:

            def has_joined() -> bool:
                first.step()
                return second.intake.goal() is not None

            second.until(has_joined, "it has joined")
            assert (first.intake.partitions(), second.intake.partitions()) == ([0], [])
            assert second.intake.goal() == {0: 3}
        first.until(lambda: members(kafka, topic) == 1, "it has left")


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
            reader.until(lambda: reader.intake.partitions() == [0], "it is a member")
            produce(broker, topic, 0, numbered(0, 3))
            reader.positions[0] = reader.intake.first(0)
            broker.kill()
            wait_until(lambda: tried(reader) and not reader.intake._reader.held, "its session is over", 60)
            assert reader.intake.goal() is None
            broker.start()
            wait_until(lambda: tried(reader) and reader.is_done, "it is done", 60)
            times = len(reader.seen[0]) // 3  # all of it again from the start, where it lost the group twice
            assert reader.seen == {0: numbered(0, 3) * max(times, 1)}


def test_nobody_is_told_of_partitions_that_go_before_they_were_named(kafka: Kafka) -> None:
    """They came, and what they are partitions of could not be looked at yet."""
    topic = kafka.topic(2)
    away = True

    def noted(found: str) -> str:
        if away:
            message = "the registry is away"
            raise StoreUnavailable(message)
        return found

    with reading(kafka, topic, noted) as first:
        wait_until(lambda: tried(first) and len(first.intake._reader.held) == 2, "both are its own")
        with reading(kafka, topic) as second:
            second.until(lambda: tried(first) and len(second.intake.partitions()) == 1, "one is the other's")
            assert (first.revoked, first.intake.partitions()) == ([], [])
            away = False
            first.step()
            assert {*first.intake.partitions(), *second.intake.partitions()} == {0, 1}


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


@pytest.mark.service("kafka")
def test_whose_connection_breaks_as_it_joins_is_in_all_the_same() -> None:
    """librdkafka drops the question that it was to join with, and would wait for the answer for ever."""
    with relayed_broker() as (broker, relay):
        topic = broker.topic(2)
        relay.cut_next = (METADATA, topic.encode())
        with reading(broker, topic) as reader:
            wait_until(lambda: tried(reader) and reader.intake.partitions() == [0, 1], "it has joined")
    assert relay.cuts == 1


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
def test_a_broker_that_leaves_a_commit_unanswered_holds_nobody_up_for_long_who_leaves(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with kafka_broker() as broker:
        with unanswered(broker):
            started_s = time.monotonic()
        assert time.monotonic() - started_s < CLOSE_S + 3
    assert "left behind" in capfd.readouterr().err


@pytest.mark.service("kafka")
def test_whoever_leaves_has_its_last_report_taken_first() -> None:
    with kafka_broker() as broker:
        with unanswered(broker) as topic:
            thawing = threading.Timer(0.5, broker.thaw)
            thawing.start()
        thawing.join()
        stream = KafkaStream(topic=topic, bootstrap_servers=broker.bootstrap)
        assert Admin(stream, {}).committed(group_id("tests", None, f"g-{topic}"), topic, 1) == {0: 3}


def shared(*readers: Reader) -> list[int]:
    """How many partitions each of them has, after a step of its own."""
    for reader in readers:
        reader.step()
    return [len(reader.intake.partitions()) for reader in readers]
