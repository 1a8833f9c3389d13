"""A project that streams from a topic: what the log and the states hold, and what is refused."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from featureflow_cli.apply.execute import execute
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.evaluate.topics import admin
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.sources.kafka import group_id
from featureflow_cli.stream.progress import StreamReport
from featureflow_cli.stream.run import run
from featureflow_cli.times import parse_timestamp, system_clock
from tests.integration.stream.repo import assert_online_is_the_log, positions
from tests.integration.stream.world import FEATURES_YAML, STORE_YAML
from tests.services.kafka import Kafka
from tests.services.schemas import SchemaServer, schema_server

FILES = 'files: {path: "events/*.ndjson"}'
SECRET = "hunter2"


def shop(
    folder: Path, topic: str, bootstrap: str, more: str = "", environ: Mapping[str, str] | None = None
) -> Project:
    kafka = f'kafka: {{topic: {topic}, bootstrap_servers: "{bootstrap}"{more and ", "}{more}}}'
    (folder / "features").mkdir()
    (folder / "feature_store.yaml").write_text(STORE_YAML)
    (folder / "features" / "all.yaml").write_text(FEATURES_YAML.replace(FILES, kafka))
    project = open_project(folder, None, environ or {}, system_clock)
    execute(project, project.plan(), applied_by="test", report=lambda line: None)
    return open_project(folder, None, environ or {}, system_clock)


def streamed(project: Project, *, skip_lost: bool = False) -> StreamReport:
    again = open_project(project.root, None, project.environ, system_clock)
    try:
        return run(again, once=True, stop=threading.Event(), skip_lost=skip_lost)
    finally:
        again.online.close()


@pytest.fixture
def schemas() -> Iterator[SchemaServer]:
    with schema_server() as server:
        yield server


def put(kafka: Kafka, topic: str, partition: int, numbers: Sequence[int]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in numbers:
        event = {
            "event_id": f"e{number}",
            "user_id": number % 3,
            "at": f"2026-01-01T00:00:{number % 60:02d}Z",
        }
        producer.produce(topic, json.dumps(event).encode(), partition=partition)
    assert producer.flush(30) == 0


def delete_below(kafka: Kafka, topic: str, partition: int, offset: int) -> None:
    for done in kafka.admin.delete_records([TopicPartition(topic, partition, offset)]).values():
        done.result(30)


def test_events_come_once_from_wherever_the_log_ends(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.topic(2)
    project = shop(tmp_path, topic, kafka.bootstrap)
    put(kafka, topic, 0, range(5))
    put(kafka, topic, 1, range(5, 8))
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for rubbish in (b"{", None):
        producer.produce(topic, rubbish, key=b"k", partition=0)
    producer.flush(30)
    (report,) = streamed(project).sources
    assert (report.accepted, sum(report.letters.values())) == (8, 2)
    kafka.add_partitions(topic, 3)
    put(kafka, topic, 0, [4, 8])  # the first of them was delivered twice
    put(kafka, topic, 2, [9])
    (report,) = streamed(project).sources
    assert (report.accepted, report.duplicates) == (2, 1)
    assert positions(project, "events") == [
        *((0, offset) for offset in (0, 1, 2, 3, 4, 8)),
        *((1, offset) for offset in range(3)),
        (2, 0),
    ]
    assert_online_is_the_log(project)
    letters = DeadLetters(project.letters_place).read(source="events")
    assert sorted(letters.column("payload").to_pylist()) == [b"", b"{"]


def with_gone(folder: Path, kafka: Kafka, below: int) -> Project:
    """Of nine events three are streamed, and the topic no longer has those below that offset."""
    topic = kafka.topic(1)
    project = shop(folder, topic, kafka.bootstrap)
    put(kafka, topic, 0, range(3))
    streamed(project)
    put(kafka, topic, 0, range(3, 9))
    delete_below(kafka, topic, 0, below)
    return project


def test_events_that_are_gone_end_the_stream_unless_they_are_to_be_skipped(
    tmp_path: Path, kafka: Kafka
) -> None:
    project = with_gone(tmp_path, kafka, 7)
    with pytest.raises(FeatureflowError, match=r"events 3 to 6 of partition 0 are gone") as caught:
        streamed(project)
    assert "--skip-lost" in caught.value.hint
    streamed(project, skip_lost=True)
    assert [offset for _, offset in positions(project, "events")] == [0, 1, 2, 7, 8]


def test_events_that_are_all_gone_are_told_too(tmp_path: Path, kafka: Kafka) -> None:
    project = with_gone(tmp_path, kafka, 9)
    with pytest.raises(FeatureflowError, match=r"events 3 to 8 of partition 0 are gone"):
        streamed(project)


def test_a_single_run_ends_though_more_comes_all_the_time(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.topic(1)
    project = shop(tmp_path, topic, kafka.bootstrap)
    put(kafka, topic, 0, range(50))
    numbers, is_over = count(50), threading.Event()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})

    def feed() -> None:
        while not is_over.wait(0.001):
            event = {"event_id": f"e{next(numbers)}", "user_id": 1, "at": "2026-01-01T00:00:00Z"}
            producer.produce(topic, json.dumps(event).encode(), partition=0)
            producer.poll(0)

    stop = threading.Event()
    feeding, late = threading.Thread(target=feed), threading.Timer(60, stop.set)
    feeding.start()
    late.start()
    try:
        report = run(open_project(tmp_path, None, {}, system_clock), once=True, stop=stop)
    finally:
        is_over.set()
        late.cancel()
        feeding.join()
        producer.flush(30)
    assert not report.stopped
    assert report.read >= 50
    streamed(project)
    assert positions(project, "events") == [(0, offset) for offset in range(next(numbers))]
    assert_online_is_the_log(project)


def test_what_was_deleted_after_it_was_streamed_is_no_loss(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.topic(1)
    project = shop(tmp_path, topic, kafka.bootstrap)
    put(kafka, topic, 0, range(3))
    streamed(project)
    delete_below(kafka, topic, 0, 3)
    put(kafka, topic, 0, [3])
    assert [report.accepted for report in streamed(project).sources] == [1]


def test_a_topic_made_anew_under_its_name_is_refused(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.topic(1)
    project = shop(tmp_path, topic, kafka.bootstrap)
    put(kafka, topic, 0, range(3))
    streamed(project)
    kafka.delete(topic)
    kafka.topic(1, name=topic)
    put(kafka, topic, 0, range(100, 110))
    with pytest.raises(FeatureflowError, match=f"topic '{topic}' is not the one that source 'events'"):
        streamed(project)
    assert [offset for _, offset in positions(project, "events")] == [0, 1, 2]


def test_a_secret_is_kept_nowhere(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.topic(1)
    put(kafka, topic, 0, range(3))
    login = 'config: {sasl.mechanism: PLAIN, sasl.username: shop, sasl.password: "${env:PW}"}'  # without SASL
    project = shop(tmp_path, topic, kafka.bootstrap, login, {"PW": SECRET})
    assert [report.accepted for report in streamed(project).sources] == [3]
    told = (project.plan(), project.repo, project.written, project.applied, project.registry.history())
    assert not [each for each in told if SECRET in repr(each)]
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in sorted(kept) if b"${env:PW}" in path.read_bytes()] == [
        "all.yaml",
        "registry.db",
    ]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


def test_avro_events_are_read_by_the_schemas_that_wrote_them(
    tmp_path: Path, kafka: Kafka, schemas: SchemaServer
) -> None:
    """A message by an older schema, one by a newer one, and one that is neither."""
    topic = kafka.topic(1)
    older: dict[str, Any] = {
        "type": "record",
        "name": "Event",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "user_id", "type": "int"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
    newer = {**older, "fields": [*older["fields"], {"name": "amount", "type": ["null", amount]}]}
    event = {"event_id": "e1", "user_id": 1, "at": parse_timestamp("2026-01-01T00:00:00.5Z") // 1000}
    project = shop(
        tmp_path, topic, kafka.bootstrap, more=f"format: avro, schema_registry: {{url: '{schemas.url}'}}"
    )
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in (
        schemas.message(older, event),
        schemas.message(newer, {**event, "event_id": "e2", "amount": Decimal("0.10")}),
        b"{}",
    ):
        producer.produce(topic, value)
    assert producer.flush(30) == 0
    (report,) = streamed(project).sources
    assert (report.accepted, dict(report.letters)) == (2, {"undecodable": 1})
    with project.engine() as engine:
        relation = accepted(engine, project.repo.sources["events"], project.log("events").snapshot())
        rows = engine.table(
            f'SELECT event_id, user_id, amount, epoch_us("at") AS us FROM {relation} ORDER BY 1'
        )
    at_us = parse_timestamp("2026-01-01T00:00:00.5Z")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("e1", 1, None, at_us),
        ("e2", 1, Decimal("0.10"), at_us),
    ]
    assert_online_is_the_log(project)


def test_the_group_shows_what_the_log_holds_though_nothing_is_left_to_commit(
    tmp_path: Path, kafka: Kafka
) -> None:
    """A worker that was killed between the log's commit and its report leaves the group behind."""
    topic = kafka.topic(2)
    project = shop(tmp_path, topic, kafka.bootstrap)
    for partition in range(2):
        put(kafka, topic, partition, range(partition * 10, partition * 10 + 5))
    streamed(project)
    group = group_id(project.config.project, None, "events")
    behind = [TopicPartition(topic, partition, 1) for partition in range(2)]
    asked = kafka.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, behind)])
    asked[group].result(30)
    brokers = admin(project, project.repo.sources["events"].kafka)
    assert brokers.committed(group, topic, 2) == {0: 1, 1: 1}
    streamed(project)
    assert brokers.committed(group, topic, 2) == {0: 5, 1: 5}


def test_letters_are_read_again_once_their_schema_is_registered(
    tmp_path: Path, kafka: Kafka, schemas: SchemaServer
) -> None:
    """Beside one that was read and did not fit, which is JSON by now, and one that is no message at all."""
    topic = kafka.topic(1)
    schema = {
        "type": "record",
        "name": "Event",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "user_id", "type": "string"},
            {"name": "at", "type": "string"},
        ],
    }
    event = {"event_id": "e1", "user_id": "1", "at": "2026-01-01T00:00:00Z"}
    project = shop(
        tmp_path, topic, kafka.bootstrap, more=f"format: avro, schema_registry: {{url: '{schemas.url}'}}"
    )
    misfit = schemas.message(schema, {**event, "event_id": "e2", "user_id": "one"})
    early = schemas.message({**schema, "doc": "newer"}, event)
    late = {path: schemas.answers.pop(path) for path in [*schemas.answers][1:]}
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in (misfit, early, b"rubbish"):
        producer.produce(topic, value)
    assert producer.flush(30) == 0

    def replayed() -> tuple[int, dict[str, int]]:
        letters = DeadLetters(project.letters_place).read().to_pylist()
        asked = [(letter["partition"], letter["offset"]) for letter in letters]
        project.registry.list_replays("events", asked, project.clock())
        (report,) = streamed(project).sources
        return report.accepted, dict(report.letters)

    (report,) = streamed(project).sources
    assert (report.accepted, dict(report.letters)) == (0, {"wrong_type": 1, "undecodable": 2})
    assert replayed() == (0, {"wrong_type": 1, "undecodable": 2})
    schemas.answers |= late
    assert replayed() == (1, {"wrong_type": 1, "undecodable": 1})
    with project.engine() as engine:
        relation = accepted(engine, project.repo.sources["events"], project.log("events").snapshot())
        assert engine.row(f"SELECT count(DISTINCT event_id), min(event_id) FROM {relation}") == (1, "e1")
    assert_online_is_the_log(project)
