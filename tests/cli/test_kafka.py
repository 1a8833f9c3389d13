"""A project on a real Kafka, as a user works with it: topics, generated events, lag, dead letters, doctor."""

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer

from featureflow_cli.evaluate.log import accepted
from featureflow_cli.evaluate.project import open_project
from tests.cli.projects import Bank, Done, golden
from tests.services.kafka import Kafka, kafka_broker
from tests.services.processes import free_port

SOURCE = """\
entities:
  - {name: user, join_keys: {user_id: int64}}
sources:
  - name: user_events
    schema:
      event_id: string
      user_id: int64 not null
      event_type: string not null
      item_id: int64
      session_id: string
      timestamp: timestamp
      total_amount: {type: "decimal(18,2)", from: metadata.total_amount}
      rating: {type: double, from: metadata.rating}
    timestamp_field: timestamp
    event_id: event_id
    dedupe_within: 1h
    stream:
      STREAM
feature_views:
  - name: activity
    entity: user
    source: user_events
    features: [{name: events_1h, count: "*", window: 1h}]
"""
FILES = 'files: {path: "data/events/*.parquet"}'
END = "2026-01-02T00:00:00Z"
SHOP = ("--events", "3000", "--users", "40", "--items", "9", "--span", "2d", "--end", END)


class Shop(Bank):
    """The project `shop`, whose source streams from a topic of its own (`topic`, and `dead` for its letters)."""

    def __init__(self, root: Path, bootstrap: str, create: str = "partitions: 3, retention: 7d") -> None:
        super().__init__(root)
        self.topic = f"t-{uuid.uuid4().hex[:12]}"
        self.dead = f"{self.topic}-dead"
        self.bootstrap = bootstrap
        self.say("version: 1\nproject: shop\n")
        self.stream(
            f"kafka: {{topic: {self.topic}, bootstrap_servers: '{bootstrap}', create: {{{create}}},"
            f" dead_letter_topic: {self.dead}}}"
        )

    def say(self, store: str) -> None:
        (self.root / "feature_store.yaml").write_text(store)

    def stream(self, stream: str) -> None:
        self.features.write_text(SOURCE.replace("STREAM", stream))

    def must(self, *words: str) -> Done:
        done = self(*words)
        assert done.code == 0, done.stderr
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.must(*words, "--json").stdout)

    def plain(self, text: str) -> str:
        return text.replace(self.topic, "t-NNNNNNNNNNNN").replace(self.bootstrap, "BROKERS")

    def logged(self) -> pa.Table:
        """The accepted events of the offline log, without where and when they came."""
        project = open_project(self.root, None, {}, lambda: 1)
        with project.engine() as engine:
            source = project.repo.sources["user_events"]
            events = accepted(engine, source, project.log("user_events").snapshot())
            rows = pa.Table.from_batches(list(engine.batches(f"SELECT * FROM {events} ORDER BY event_id")))
        return rows.select(list(source.columns))


@pytest.fixture
def shop(kafka: Kafka, tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop", kafka.bootstrap)


def test_apply_creates_the_topics_that_the_plan_shows_and_then_there_is_nothing_to_do(
    shop: Shop, kafka: Kafka
):
    golden("plan_kafka.txt", shop.plain(shop.must("plan").stdout))
    steps = [step for step in shop.json("plan")["steps"] if step["step"] == "create_topic"]
    assert steps == [
        {
            "step": "create_topic",
            "source": "user_events",
            "topic": topic,
            "partitions": partitions,
            "retention_ms": 604_800_000,
            "dead_letters": topic == shop.dead,
        }
        for topic, partitions in ((shop.topic, 3), (shop.dead, 1))
    ]
    shop.must("apply", "-y")
    assert kafka.topic_id(shop.topic) != kafka.topic_id(shop.dead)
    assert shop.must("plan").stdout == "No changes. What is written is applied.\n"
    assert "No changes" in shop.must("apply", "-y").stdout


def test_a_topic_that_lost_its_partitions_to_an_edit_grows_and_never_shrinks(shop: Shop, kafka: Kafka):
    shop.must("apply", "-y")
    shop.replace("partitions: 3", "partitions: 5")
    golden("plan_kafka_grows.txt", shop.plain(shop.must("plan").stdout))
    shop.must("apply", "-y")
    assert len(kafka.admin.list_topics(shop.topic, timeout=10).topics[shop.topic].partitions) == 5
    shop.replace("partitions: 5", "partitions: 2")
    assert [step["step"] for step in shop.json("plan")["steps"]] == ["record"]


def test_a_topic_that_somebody_deleted_is_created_again(shop: Shop, kafka: Kafka):
    shop.must("apply", "-y")
    kafka.delete(shop.dead)
    plan = shop.json("plan")
    assert [(step["step"], step["topic"]) for step in plan["steps"]] == [("create_topic", shop.dead)]
    shop.must("apply", "-y")
    assert shop.json("plan")["has_changes"] is False


def test_timestamps_that_producers_set_are_noted(shop: Shop, kafka: Kafka):
    kafka.topic(3, name=shop.topic)  # CreateTime is Kafka's default
    assert "`allowed_future` is judged by the timestamps that producers set" in shop.must("plan").stdout


def test_brokers_that_are_away_end_a_plan_and_a_project_on_files_never_asks_them(tmp_path: Path):
    shop = Shop(tmp_path / "shop", f"127.0.0.1:{free_port()}")
    done = shop("plan")
    assert done.code == 4
    assert f"Kafka at {shop.bootstrap} does not answer" in done.stderr
    assert shop("plan", "--detailed-exitcode").code == 1
    shop.replace("kafka:", f"{FILES}\n      kafka:")
    shop.must("apply", "-y")
    assert "kafka" not in shop.must("doctor").stdout
    assert shop.json("status")["sources"][0]["kafka"] is None


def test_generated_events_are_those_of_files_and_so_is_what_becomes_of_them(
    shop: Shop, kafka: Kafka, tmp_path: Path
):
    """Late and repeated deliveries included: of a user's, Kafka keeps the order of arrival."""
    shop.must("apply", "-y")
    made = shop.json("generate", "--to", "kafka", *SHOP, "--duplicates", "0.1", "--labels", "5")
    assert (made["key"], made["topic"], made["events"]) == ("user_id", shop.topic, 3000)
    assert made["repeated"] > 100
    assert (shop.root / "data" / "labels.parquet").exists()

    waiting = shop.json("status")
    assert waiting["sources"][0]["kafka"]["lag"] == 3000 + made["repeated"]
    assert waiting["views"][0]["lag"] == 3000 + made["repeated"]
    assert sum(part["end"] > 0 for part in waiting["sources"][0]["kafka"]["partitions"]) == 3

    report = shop.json("stream", "--once")
    assert report["sources"][0]["duplicates"] == made["repeated"]
    status = shop.json("status")
    topic = status["sources"][0]["kafka"]
    assert (topic["lag"], topic["replaced"], status["views"][0]["lag"]) == (0, False, 0)
    for part in topic["partitions"]:
        assert part["logged"] == part["end"] == part["views"]["activity"]
    assert _is_committed(status), "the group's last report was waited for"
    golden("status_kafka.txt", shop.plain(_quiet(shop.must("status").stdout)))

    files = Bank(tmp_path / "files")
    files.features.write_text(SOURCE.replace("STREAM", FILES))
    (files.root / "feature_store.yaml").write_text("version: 1\nproject: shop\n")
    same = files("generate", *SHOP, "--duplicates", "0.1")
    assert same.code == 0
    for verb in (("apply", "-y"), ("stream", "--once")):
        assert files(*verb).code == 0
    assert shop.logged().equals(Shop.logged(files))  # type: ignore[arg-type]


def test_what_rests_on_another_topic_of_that_name_is_not_known(shop: Shop, kafka: Kafka):
    shop.must("apply", "-y")
    shop.must("generate", "--to", "kafka", "--events", "100", "--labels", "0")
    shop.must("stream", "--once")
    kafka.delete(shop.topic)
    kafka.topic(3, name=shop.topic)
    status = shop.json("status")
    assert status["sources"][0]["kafka"]["replaced"]
    assert (status["views"][0]["lag"], status["views"][0]["up_to_date"]) == (None, None)


def test_live_events_happen_as_they_are_sent_at_the_rate(shop: Shop):
    shop.must("apply", "-y")
    shares = ("--late", "0.05", "--duplicates", "0")
    made = shop.json("generate", "--to", "kafka", "--events", "400", "--rate", "800", "--live", *shares)
    assert 200 < made["events_per_s"] < 900
    assert made["late"] > 5
    assert shop.json("stream", "--once")["sources"][0]["accepted"] == 400
    times_us = shop.logged()["timestamp"].cast("int64").to_numpy()
    now_us = time.time_ns() // 1_000
    assert now_us - 60_000_000 < times_us.max() <= now_us
    assert sum(times_us < times_us.max() - 60_000_000) == made["late"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--live",), "--live needs a --rate"),
        (("--rate", "0"), "--rate is events a second"),
        (("--key", "usr_id"), "did you mean 'user_id'?"),
        (("--source", "user_event"), "did you mean 'user_events'?"),
    ],
)
def test_what_cannot_be_generated_is_refused(shop: Shop, words: tuple[str, ...], told: str):
    shop.must("apply", "-y")
    done = shop("generate", "--to", "kafka", "--events", "10", *words)
    assert done.code == 2
    assert told in done.stderr


def test_options_of_kafka_mean_nothing_to_files_and_a_missing_topic_is_said_at_once(shop: Shop):
    assert "say --to kafka" in shop("generate", "--rate", "5").stderr
    done = shop("generate", "--to", "kafka", "--events", "10")
    assert done.code == 4
    assert f"there is no topic '{shop.topic}'" in done.stderr
    shop.stream(FILES)
    done = shop("generate", "--to", "kafka")
    assert done.code == 2
    assert "no source streams from Kafka" in done.stderr


def consumed(kafka: Kafka, topic: str, count: int) -> list[tuple[bytes | None, dict[str, str]]]:
    """The first `count` messages of a topic, with their headers as text."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"g-{topic}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    found = []
    try:
        while len(found) < count:
            messages = consumer.consume(count - len(found), 30)
            assert messages, f"{len(found)} of {count} messages came"
            found += messages
    finally:
        consumer.close()
    return [
        (message.value(), {name: value.decode() for name, value in message.headers() or ()})
        for message in found
    ]


def test_a_dead_letter_is_told_to_its_topic_and_can_be_replayed_from_the_table(shop: Shop, kafka: Kafka):
    shop.must("apply", "-y")
    bad = [
        b"{",
        b'{"event_id": "e2", "user_id": "x", "event_type": "a", "timestamp": "2026-01-01"}',
        b"\xff\x00",
    ]
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in bad:
        producer.produce(shop.topic, value, partition=1)
    assert producer.flush(30) == 0
    assert sum(shop.json("stream", "--once")["sources"][0]["letters"].values()) == 3

    listed = {letter["offset"]: letter for letter in shop.json("dead-letters", "list")}
    told = consumed(kafka, shop.dead, 3)
    assert sorted(value for value, _ in told if value) == sorted(bad)
    for value, headers in told:
        letter = listed[int(headers["offset"])]
        assert value == bad[int(headers["offset"])]
        assert headers == {
            "source": "user_events",
            "partition": "1",
            "offset": headers["offset"],
            "reason": letter["reason"],
            "detail": letter["detail"],
            "recorded_at": letter["recorded_at"],
        }

    shop.replace("user_id: int64 not null", "user_id: int64")  # still no event: "x" is no number
    shop.must("dead-letters", "replay", "--reason", "wrong_type")
    shop.must("stream", "--once")
    again = [letter for letter in shop.json("dead-letters", "list") if letter["partition"] == -2]
    assert [letter["payload"] for letter in again] == [listed[1]["payload"]]


def test_doctor_looks_at_the_topic(shop: Shop, kafka: Kafka):
    def finding() -> dict[str, str]:
        found = json.loads(shop("doctor", "--json").stdout)["findings"]
        return next(line for line in found if line["check"] == "kafka user_events")

    assert (finding()["health"], finding()["hint"]) == ("warning", "featureflow apply")
    shop.must("apply", "-y")
    assert finding()["what"].startswith(f"topic {shop.topic}: 3 partitions, LogAppendTime; librdkafka 2")
    project = open_project(shop.root, None, {}, lambda: 1)
    project.registry.note_topic("user_events", kafka.topic_id(shop.topic))
    kafka.delete(shop.topic)
    kafka.topic(3, name=shop.topic)
    assert finding()["health"] == "failed"
    assert "was deleted and created anew" in finding()["what"]
    assert "its offsets mean other events" in shop.must("status").stderr


@pytest.mark.service("kafka")
def test_status_says_that_the_brokers_are_away(tmp_path: Path):
    with kafka_broker() as broker:
        shop = Shop(tmp_path / "shop", broker.bootstrap)
        shop.must("apply", "-y")
        shop.must("stream", "--once")
        assert shop.json("status")["views"][0]["up_to_date"] is True
    done = shop.must("status")
    golden("status_kafka_away.txt", shop.plain(_quiet(done.stdout)))
    assert f"its lag is not known. Kafka at {shop.bootstrap} does not answer" in done.stderr
    assert "stream --once" not in done.stderr
    status = shop.json("status")
    assert "does not answer" in status["sources"][0]["kafka"]["error"]
    assert (status["views"][0]["lag"], status["views"][0]["up_to_date"]) == (None, None)


def _is_committed(status: dict[str, Any]) -> bool:
    return all(part["committed"] == part["end"] for part in status["sources"][0]["kafka"]["partitions"])


def _quiet(text: str) -> str:
    """A status without what differs from run to run."""
    text = re.sub(r"applied \S+ by \S+", "applied WHEN by WHOM", text)
    return re.sub(r"\b[\d.]+ (B|kB|MB)\b", "SIZE", text)
