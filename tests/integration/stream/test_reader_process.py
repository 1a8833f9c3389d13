"""The process that reads a topic, at a real broker: it is killed, or its owner is; it is to let go, or to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState, KafkaException
from redis import Redis

from featureflow_cli.sources.kafka import CLOSE_S, group_id
from featureflow_cli.stream.outside import SourceAway
from tests.integration.kafka import crash_law
from tests.integration.kafka.test_project import put, shop
from tests.integration.stream.repo import assert_online_is_the_log, positions, states
from tests.integration.stream.topic_reader import SOURCE, Reader, numbered, produce, reading
from tests.services.kafka import Kafka, KafkaBroker, kafka_broker
from tests.services.processes import wait_until

ROOT = Path(__file__).parents[3]
SESSION_MS = 1_000
"""How soon the group gives to others what a killed process held; where none is killed, `LONG_MS`."""
LONG_MS = 45_000
SOON_S = 10
"""Well before a session of LONG_MS is over."""
OWNER = """
import signal, sys
from featureflow_cli.sources.reader_process import ReaderProcess
from featureflow_cli.spec.models import KafkaStream
from tests.integration.stream.topic_reader import SOURCE
topic, bootstrap, group, session_ms = sys.argv[1:]
config = {"session.timeout.ms": int(session_ms), "heartbeat.interval.ms": 200}
kafka = KafkaStream(topic=topic, bootstrap_servers=bootstrap, config=config)
reader = ReaderProcess(kafka, {}, group, "events", lambda _: None)
while not reader.held:
    reader.read(SOURCE, {}, 100, 0.05)
print(reader._process.pid, flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def impatient() -> Iterator[KafkaBroker]:
    """A broker that lets a group notice within a second who is gone."""
    with kafka_broker(config={"group.min.session.timeout.ms": str(SESSION_MS)}) as broker:
        yield broker


def process_of(reader: Reader) -> "subprocess.Popen[bytes]":
    return reader.intake._reader._process


def children(pid: int) -> list[int]:
    """Those that any of its threads has started."""
    listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for child in " ".join(listed).split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_settled(kafka: Kafka, group: str, members: int) -> bool:
    """Whether the group has so many members, and has shared out its partitions among them."""
    (asked,) = kafka.admin.describe_consumer_groups([group]).values()
    try:
        described = asked.result(30)
    except KafkaException:  # the broker's first group: it is not ready yet
        return False
    return len(described.members) == members and described.state in {
        ConsumerGroupState.STABLE,
        ConsumerGroupState.EMPTY,
    }


# ---- it is killed


@pytest.mark.service("kafka")
def test_one_that_is_killed_is_told_once_and_another_reads_on_from_there(impatient: KafkaBroker) -> None:
    """While its owner does something else, and while it waits for an answer."""
    topic, count = impatient.topic(2), 30_000
    everything = {partition: numbered(0, count) for partition in range(2)}
    with reading(impatient, topic, session_timeout_ms=SESSION_MS) as reader:
        for partition in range(2):
            produce(impatient, topic, partition, everything[partition][:-1])
        kept: dict[int, int] = {}

        def has_read(least: int) -> bool:
            """With what the log keeps in place of what the broker has first."""
            for partition in set(reader.intake.partitions()) & kept.keys():
                reader.positions.setdefault(partition, kept[partition])
            is_member = len(reader.intake.partitions()) == 2
            return is_member and sum(map(len, reader.seen.values())) >= least

        for least, wait_s in ((1, 0.0), (2 * count - 2, 30.0)):
            reader.until(lambda least=least: has_read(least), "it has read so far")
            kept, killed = dict(reader.positions), process_of(reader)
            killing = threading.Thread(target=killed.kill)
            killing.start()
            with pytest.raises(SourceAway, match=f"topic '{topic}' ended with code -9"):
                reader.intake.read(SOURCE, dict(kept), 1, wait_s)
            killing.join()
            assert reader.revoked == []
            reader.step()
            assert sorted(reader.revoked) == [0, 1]
            reader.revoked.clear()
        for partition in range(2):
            produce(impatient, topic, partition, everything[partition][-1:])
        reader.until(lambda: has_read(2 * count), "all is read")
        assert reader.seen == everything
        assert reader.revoked == []


@pytest.mark.service("kafka")
def test_one_that_hangs_is_given_up_for_another(
    impatient: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limit is short for the one that hangs only: another may take longer to start, on a busy machine."""
    topic = impatient.topic(1)
    produce(impatient, topic, 0, numbered(0, 10))
    with reading(impatient, topic, session_timeout_ms=SESSION_MS) as reader:
        reader.drain()
        hanging = process_of(reader)
        hanging.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as short, pytest.raises(SourceAway, match="did not answer for 2 s"):
            short.setattr("featureflow_cli.sources.reader_process.HANGS_S", 2.0)
            reader.step()
        assert hanging.returncode == -signal.SIGKILL
        produce(impatient, topic, 0, numbered(10, 20))
        reader.until(lambda: len(set(reader.seen[0])) == 20, "all is read")


@pytest.mark.slow
@pytest.mark.service("kafka")
def test_a_stream_whose_reader_is_killed_again_and_again_is_exact(
    tmp_path: Path, impatient: KafkaBroker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it starts, once it is a member, with a batch written and not committed, and with some of it committed."""
    settings = crash_law.KAFKA_YAML.replace("6000", str(SESSION_MS))
    monkeypatch.setattr(crash_law, "KAFKA_YAML", settings)
    topic, group = impatient.topic(4), group_id("shop", None, "user_events")
    project = crash_law.shop(tmp_path, impatient, topic, redis_url)
    events = crash_law.messages(tmp_path, 12_000, seed=11, users=200)
    crash_law.produce(impatient, topic, events[:4_000])
    worker, killed = crash_law.Worker(tmp_path, 1), set[int]()

    def kill() -> None:
        def is_there() -> list[int]:
            worker.must_live()
            return [pid for pid in children(worker.process.pid) if pid not in killed]

        wait_until(is_there, "it has a reader")
        (pid,) = is_there()
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    try:
        kill()
        wait_until(lambda: is_settled(impatient, group, 1), "another is a member")
        kill()
        with Redis.from_url(redis_url) as redis:
            wait_until(redis.dbsize, "a batch is written")
        kill()
        crash_law.produce(impatient, topic, events[4_000:8_000])
        wait_until(lambda: project.log("user_events").snapshot().ends, "some is committed")
        kill()
        crash_law.produce(impatient, topic, events[8_000:])
        wait_until(lambda: crash_law.is_committed(project, impatient, topic), "all is committed")
        worker.must_live()
    finally:
        worker.send(signal.SIGTERM)
        assert worker.process.wait(60) == 0
    crash_law.check(project, impatient, topic)
    assert len(killed) == 4


# ---- its owner is killed, or stops


@contextmanager
def owner(kafka: Kafka, topic: str, group: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Another process, which holds all partitions and asks no more; and the one that reads for it."""
    command = [sys.executable, "-c", OWNER, topic, kafka.bootstrap, group, str(LONG_MS)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_one_whose_owner_is_killed_leaves_the_group(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    with owner(kafka, topic, topic) as (process, reader):
        assert is_settled(kafka, topic, 1)
        process.kill()
        wait_until(lambda: is_settled(kafka, topic, 0), "it has left", SOON_S)
        wait_until(lambda: not is_alive(reader), "it is gone", SOON_S)


def test_one_whose_owner_is_killed_before_it_let_partitions_go_leaves_them_to_others(kafka: Kafka) -> None:
    topic = kafka.topic(2)
    group = group_id("tests", None, f"g-{topic}")
    with (
        owner(kafka, topic, group) as (process, reader),
        reading(kafka, topic, session_timeout_ms=LONG_MS) as other,
    ):
        other.until(lambda: is_settled(kafka, group, 2), "they are to share")
        assert other.intake.partitions() == []
        process.kill()
        wait_until(
            lambda: other.step() is None or other.intake.partitions() == [0, 1], "all are the other's", SOON_S
        )
        wait_until(lambda: not is_alive(reader), "it is gone", SOON_S)


def test_one_that_is_to_stop_in_the_midst_of_an_answer_does(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    count = 40_000  # their offsets alone are more than the line holds
    produce(kafka, topic, 0, [b""] * count)
    with reading(kafka, topic, session_timeout_ms=LONG_MS) as reader:
        reader.until(lambda: reader.intake.partitions() == [0], "it is a member")
        line = reader.intake._reader._line
        line.send(("read", None, {0: 0}, count, 5.0))
        wait_until(lambda: line.poll(0), "it answers", CLOSE_S)
    assert process_of(reader).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_ends_a_stream_in_good_order(
    tmp_path: Path, kafka: Kafka, number: signal.Signals
) -> None:
    """In a folder with files that are called as what is imported is."""
    topic = kafka.topic(2)
    project = shop(tmp_path, topic, kafka.bootstrap)
    for partition in range(2):
        put(kafka, topic, partition, range(partition * 100, partition * 100 + 100))
    for name in ("json", "redis", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "featureflow_cli", "stream", "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or any(states(project).values()), "it streams")
        readers = children(process.pid)
        os.killpg(process.pid, number)
        said, complained = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, complained) == (0, "")
    assert len(readers) == 1
    assert not any(map(is_alive, readers))
    report = json.loads(said)
    (source,) = report["sources"]
    assert report["stopped"]
    assert source["accepted"] == source["committed"] == len(positions(project, "events")) > 0
    assert_online_is_the_log(project)


# ---- partitions go to others


@pytest.mark.parametrize("asks", [False, True], ids=["busy", "asking for watermarks"])
def test_an_owner_hears_of_partitions_that_go_in_its_next_read_and_before_they_are_gone(
    kafka: Kafka, asks: bool
) -> None:
    topic = kafka.topic(2)
    for partition in range(2):
        produce(kafka, topic, partition, numbered(0, 3))
    with reading(kafka, topic) as first:
        first.drain()
        line = first.intake._reader._line
        with reading(kafka, topic) as second:

            def is_told() -> bool:
                second.step()
                return line.poll(0)

            wait_until(is_told, "its reader has something to say")
            if asks:
                assert [first.intake.first(partition) for partition in range(2)] == [0, 0]
                assert first.intake.goal() == {0: 3, 1: 3}
            for _ in range(20):
                second.step()
            assert second.intake.partitions() == []
            assert (first.revoked, first.intake.partitions()) == ([], [0, 1])
            told: list[list[int]] = []

            def let_go(partitions: list[int]) -> None:
                first.intake.report(dict.fromkeys(partitions, 3))
                second.step()
                told.append(second.intake.partitions())
                first._let_go(partitions)

            first.intake.on_revoke(let_go)
            first.step()
            assert told == [[]], "nobody has them yet"
            (gone,) = first.revoked
            assert gone not in first.intake.partitions()

            def is_given() -> bool:
                first.step()
                return second.intake.partitions() == [gone]

            second.until(is_given, "it is the other one's")
