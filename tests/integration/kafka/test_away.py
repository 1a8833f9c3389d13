"""A broker that is away, and a topic without news: a source of files beside them goes on as if it were alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupState

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.sources.kafka import group_id
from featureflow_cli.spec.check_kafka import OURS
from featureflow_cli.stream import parts
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.run import OTHERS_S, run
from featureflow_cli.stream.worker import Worker
from tests.integration.kafka.test_project import FILES, put
from tests.integration.stream import repo
from tests.integration.stream.repo import assert_online_is_the_log, positions, write_repo
from tests.integration.stream.test_run import events
from tests.integration.stream.world import CLICKING_YAML, FEATURES_YAML, STORE_YAML
from tests.services.kafka import Kafka, kafka_broker
from tests.services.processes import wait_until
from tests.services.redis import redis_server

LONG_S, ROUNDS = 60, 8
"""Rounds are half a second each (OTHERS_S)."""


def both(folder: Path, kafka: Kafka, topic: str) -> Project:
    """A source `events` of files, as elsewhere, and a source `clicks` of the topic, with a view each."""
    session = "session.timeout.ms: 6000, heartbeat.interval.ms: 500"
    clicks = f'kafka: {{topic: {topic}, bootstrap_servers: "{kafka.bootstrap}", config: {{{session}}}}}'
    sources, views = FEATURES_YAML.split("feature_views:")
    source = (
        sources[sources.index("  - name: events") :].replace("events", "clicks", 1).replace(FILES, clicks)
    )
    return write_repo(folder, f"{sources}{source}feature_views:{CLICKING_YAML}{views}")


def count(project: Project, source: str) -> int:
    return len(positions(project, source))


@contextmanager
def streaming(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """`featureflow stream` in a process, killed at the end if it still runs; what it says is in `said`."""
    command = [sys.executable, "-m", "featureflow_cli", "--chdir", str(folder), "stream", *options]
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, text=True, env=dict(os.environ))
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.service("kafka")
def test_files_go_on_while_the_broker_is_away_and_its_topic_when_it_is_back(tmp_path: Path) -> None:
    with kafka_broker() as broker:
        topic = broker.topic(2)
        project = both(tmp_path, broker, topic)
        put(broker, topic, 0, range(30))  # the log does not know partition 1 as the broker goes
        repo.put(tmp_path, "0", events(1, 10))
        with streaming(tmp_path) as process:
            wait_until(
                lambda: count(project, "clicks") == 30 and count(project, "events") == 10,
                "it streams",
                LONG_S,
            )
            broker.kill()
            said = tmp_path / "said"
            wait_until(lambda: "waiting: " in said.read_text(), "it says who is away", LONG_S)
            for number in range(1, 4):
                repo.put(tmp_path, str(number), events(number + 1, 10, first=10 * number))
                wait_until(lambda n=number: count(project, "events") == 10 * (n + 1), "files go on", LONG_S)
            assert_online_is_the_log(project)
            broker.start()
            put(broker, topic, 0, range(30, 40))
            put(broker, topic, 1, range(40, 50))
            wait_until(lambda: count(project, "clicks") == 50, "the topic is read again", LONG_S)
            assert said.read_text().count("waiting: ") == 1
            broker.kill()
            wait_until(lambda: said.read_text().count("waiting: ") == 2, "it says so again", LONG_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG_S) == 0
        assert_online_is_the_log(project)


@pytest.mark.slow
@pytest.mark.service("kafka")
def test_a_single_run_ends_when_the_broker_stays_away_with_all_files_in_the_log(tmp_path: Path) -> None:
    with kafka_broker() as broker:
        topic = broker.topic(1)
        project = both(tmp_path, broker, topic)
        broker.kill()
        for number in range(30):
            repo.put(tmp_path, f"{number:02}", events(number, 10, first=10 * number))
        again = repo.opened(tmp_path)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            run(again, once=True, stop=threading.Event(), batch_rows=10)
        assert count(project, "events") == 300
        broker.start()
        put(broker, topic, 0, range(20))
        run(repo.opened(tmp_path), once=True, stop=threading.Event())
        assert (count(project, "events"), count(project, "clicks")) == (300, 20)
        assert_online_is_the_log(project)


def test_a_single_run_waits_for_what_another_member_holds_and_takes_it_over(
    tmp_path: Path, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no partition, and is not done for that: the other one applies nothing, and leaves. It asks calmly."""
    asked_s, ask = list[float](), parts.applied_by_others

    def noted(*args: Any) -> dict[int, int]:
        asked_s.append(time.monotonic())
        return ask(*args)

    monkeypatch.setattr(
        "featureflow_cli.stream.worker.applied_by_others", noted
    )  # it goes on to the real one
    topic = kafka.topic(1)
    project = both(tmp_path, kafka, topic)
    put(kafka, topic, 0, range(20))
    group = group_id("shop", None, "clicks")
    strategy = OURS["partition.assignment.strategy"].value
    settings = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": group,
        "partition.assignment.strategy": strategy,
    }
    other: Any = Consumer({**settings, "enable.auto.commit": False, "heartbeat.interval.ms": 500})
    other.subscribe([topic])
    wait_until(lambda: other.poll(0.1) or other.assignment(), "it holds the partition", LONG_S)
    rounds = 0

    def show(_: list[Progress]) -> None:
        """After every round."""
        nonlocal rounds
        if rounds == ROUNDS:
            return
        other.poll(0)
        (asked,) = kafka.admin.describe_consumer_groups([group]).values()
        described = asked.result(30)
        rounds += described.state == ConsumerGroupState.STABLE and len(described.members) == 2
        if rounds == ROUNDS:
            other.close()

    try:
        run(repo.opened(tmp_path), once=True, stop=threading.Event(), show=show)
    finally:
        other.close()
    assert (rounds, count(project, "clicks")) == (ROUNDS, 20)
    assert ROUNDS // 2 <= len(asked_s) <= (asked_s[-1] - asked_s[0]) / OTHERS_S + 2
    assert_online_is_the_log(project)


def test_a_topic_without_news_does_not_hold_files_up(
    tmp_path: Path, kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s, poll = list[float](), Worker.poll

    def noted(worker: Worker, rows: int, wait_s: float) -> Batch | None:
        if worker.source.name == "clicks":
            waits_s.append(wait_s)
        return poll(worker, rows, wait_s)

    project = both(tmp_path, kafka, kafka.topic(1))
    run(repo.opened(tmp_path), once=True, stop=threading.Event())
    for number in range(40):
        repo.put(tmp_path, f"{number:02}", events(number, 10, first=10 * number))
    monkeypatch.setattr(Worker, "poll", noted)  # it goes on to the real one
    progress: dict[str, Progress] = {}
    run(repo.opened(tmp_path), once=True, stop=threading.Event(), batch_rows=10, progress=progress)
    assert count(project, "events") == 400
    assert progress["clicks"].steps["poll"].counts[:3].sum() >= 35, "polls that took less than 25 ms"
    assert waits_s.count(0.0) >= 39  # with each batch of the files but the first


@pytest.mark.service("kafka", "redis")
def test_a_full_redis_ends_a_single_run_that_finds_no_news_between_two_tries(
    tmp_path: Path, kafka: Kafka
) -> None:
    """A topic that is asked from another place has nothing yet: that round commits nothing, and proves nothing."""
    topic = kafka.topic(1)
    where = f'kafka: {{topic: {topic}, bootstrap_servers: "{kafka.bootstrap}"}}'
    with redis_server() as server:
        store = STORE_YAML.replace("type: sqlite, path: online.db", f"type: redis, url: '{server.url}'")
        project = write_repo(tmp_path, FEATURES_YAML.replace(FILES, where), store)
        put(kafka, topic, 0, range(30))
        with streaming(tmp_path, "--once") as process:
            assert process.wait(LONG_S) == 0
        put(kafka, topic, 0, range(30, 60))
        with server.client() as client:
            client.config_set("maxmemory", 1)
            with streaming(tmp_path, "--once") as process:
                assert process.wait(LONG_S) == 4
            assert "full" in (tmp_path / "said").read_text()
            client.config_set("maxmemory", 0)
        with streaming(tmp_path, "--once") as process:
            assert process.wait(LONG_S) == 0
        assert count(project, "events") == 60
        assert_online_is_the_log(project)
