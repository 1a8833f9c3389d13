"""The crash law of design.md 4 on real services: whatever happens to workers and stores, nothing is lost or doubled.

A shop streams from Kafka into Redis and Delta by several worker processes while misfortunes come upon them; in
the end log, letters and states are held against what the topic's messages say by the law in plain words.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition

from featureflow_cli.evaluate import log as evaluated
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode
from featureflow_cli.stream.faults import POINTS, VARIABLE
from featureflow_cli.times import HOUR_US, MINUTE_US, parse_timestamp, system_clock
from tests.integration.stream.world import expected_states, online_states
from tests.services.kafka import Kafka
from tests.services.processes import wait_until
from tests.services.redis import RedisServer

ROOT = Path(__file__).parents[3]
RUBBISH = (b"{", b'{"event_id": "x"}', b"[]", b'{"event_id": 1, "user_id": null, "event_type": "search"}')
FILES = 'files: {path: "data/events/*.parquet"}'
STORE_YAML = """
version: 1
project: shop
registry: data/registry.db
online_store: {{type: redis, url: "{redis}"}}
offline_store: {{type: delta, path: data/offline}}
stream: {{from: kafka, commit_interval: 2s, allowed_future: 1m}}
"""
KAFKA_YAML = (
    """kafka: {{topic: {topic}, bootstrap_servers: "{bootstrap}", config: {{session.timeout.ms: 6000}}}}"""
)


def shop(folder: Path, kafka: Kafka, topic: str, redis: str) -> Project:
    """The example, applied, with its events from that topic and its states in that Redis."""
    shutil.copytree(ROOT / "example_repo" / "features", folder / "features")
    (folder / "feature_store.yaml").write_text(STORE_YAML.format(redis=redis))
    path = folder / "features" / "shop.yaml"
    text = path.read_text()
    assert FILES in text
    path.write_text(text.replace(FILES, KAFKA_YAML.format(topic=topic, bootstrap=kafka.bootstrap)))
    featureflow(folder, "apply", "--yes")
    return open_project(folder, None, dict(os.environ), system_clock)


def featureflow(folder: Path, *arguments: str) -> str:
    """The command's stdout; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "featureflow_cli", "--chdir", folder, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def messages(folder: Path, count: int, seed: int, users: int = 2_000) -> list[tuple[bytes, bytes]]:
    """Generated shop events in order of arrival (2% late, 1% twice), now and then rubbish: (key, value)."""
    out = folder / "generated"
    options = {"events": count, "users": users, "seed": seed, "files": 1, "format": "ndjson", "out": out}
    featureflow(
        folder, "generate", *(word for name, value in options.items() for word in (f"--{name}", str(value)))
    )
    (path,) = out.glob("*.ndjson")
    chance = random.Random(seed)
    found = []
    for line in path.read_bytes().splitlines():
        found.append((str(json.loads(line)["user_id"]).encode(), line))
        if chance.random() < 0.001:
            found.append((b"?", chance.choice(RUBBISH)))
    return found


def produce(kafka: Kafka, topic: str, events: Sequence[tuple[bytes, bytes]]) -> None:
    """Deliver (key, value) pairs, in order within each partition."""
    config = {
        "bootstrap.servers": kafka.bootstrap,
        "enable.idempotence": True,
        "linger.ms": 5,
        "log_level": 2,
    }
    producer = Producer(config)
    for key, value in events:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


@dataclass
class Worker:
    """One process of the stream; `doom` is where it shall die."""

    folder: Path
    number: int
    doom: str | None = None

    def __post_init__(self) -> None:
        environ = {**os.environ, **({VARIABLE: self.doom} if self.doom else {})}
        with (self.folder / f"worker-{self.number}.log").open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "featureflow_cli", "--chdir", self.folder, "stream"],
                stdout=said, stderr=said, env=environ, start_new_session=True,
            )  # fmt: skip

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Also to the process that reads for it: a machine freezes as a whole."""
        os.killpg(self.process.pid, number)

    @property
    def heeds_sigterm(self) -> bool:
        """Whether it has come so far that it stops in good order when it is told to."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def must_live(self) -> None:
        assert self.is_alive, (self.folder / f"worker-{self.number}.log").read_text()[-3_000:]


@dataclass
class Misfortunes:
    """What comes upon a stream of `count` workers, in an order that the seed draws; each with a chunk of new events."""

    project: Project
    kafka: Kafka
    topic: str
    redis: RedisServer
    events: Sequence[tuple[bytes, bytes]]
    seed: int
    count: int = 3
    rounds: int = 1
    workers: list[Worker] = field(default_factory=list)
    _started: int = 0
    _produced: int = 0

    def run(self) -> None:
        """Start, suffer, and stop in good order; everything produced is streamed afterwards."""
        chance = random.Random(self.seed)
        fates = [*(f"die {point}" for point in POINTS), "kill", "leave", "zombie", "redis"] * self.rounds
        chance.shuffle(fates)
        fates.insert(len(fates) // 2, "grow")
        chunk = len(self.events) // (len(fates) + 1)
        for _ in range(self.count):
            self._start()
        try:
            for fate in fates:
                print(f"{self._produced} events: {fate}", flush=True)  # noqa: T201  (what a failed test shows)
                name, _, point = fate.partition(" ")
                self._check()
                self._produce(chunk)
                getattr(self, f"_{name}")(chance, *([point] if point else []))
            self._produce(max(len(self.events) - self._produced, chunk))
            self._check()
        finally:
            for worker in self.workers:
                worker.send(signal.SIGTERM)
            for worker in self.workers:
                worker.process.wait(60)
        featureflow(self.project.root, "stream", "--once")

    def _check(self) -> None:
        for worker in self.workers:
            worker.must_live()

    def _start(self, doom: str | None = None) -> Worker:
        self._started += 1
        worker = Worker(self.project.root, self._started, doom)
        self.workers.append(worker)
        return worker

    def _produce(self, count: int) -> None:
        """The next events; after the last one all are delivered once more, from the first."""
        places = range(self._produced, self._produced + count)
        produce(self.kafka, self.topic, [self.events[place % len(self.events)] for place in places])
        self._produced += count

    def _kill(self, chance: random.Random) -> None:
        victim = self.workers.pop(chance.randrange(len(self.workers)))
        victim.send(signal.SIGKILL)
        victim.process.wait(30)
        self._start()

    def _leave(self, chance: random.Random) -> None:
        victim = self.workers.pop(chance.randrange(len(self.workers)))
        wait_until(lambda: victim.heeds_sigterm, f"worker {victim.number} has started", 60)
        victim.send(signal.SIGTERM)
        assert victim.process.wait(60) == 0
        self._start()

    def _die(self, chance: random.Random, point: str) -> None:
        """One takes the place of another, and dies there; for a bootstrap, of all others, on an empty store."""
        alone = point == "bootstrapped"
        for _ in range(len(self.workers) if alone else 1):
            victim = self.workers.pop(chance.randrange(len(self.workers)))
            victim.send(signal.SIGKILL)
            victim.process.wait(30)
        if alone:
            self.redis.restart()
        times = chance.choice([1, 1, 2])
        doomed = self._start(
            f"{point}:{1 if point == 'taken_up' else times}"
        )  # a worker need not do that again

        def died() -> bool:
            self._produce(20)  # so that there is always something to do
            return not doomed.is_alive

        wait_until(died, f"worker {doomed.number} dies at {doomed.doom}", 120)
        assert doomed.process.returncode == -signal.SIGKILL
        self.workers.remove(doomed)
        while len(self.workers) < self.count:
            self._start()

    def _zombie(self, chance: random.Random) -> None:
        """It is stopped until the others have done its work, and wakes up believing that nothing happened."""
        victim = chance.choice(self.workers)
        victim.send_all(signal.SIGSTOP)
        try:
            taken_over = partial(is_committed, self.project, self.kafka, self.topic)
            wait_until(taken_over, "the others have taken over", 120)
        finally:
            victim.send_all(signal.SIGCONT)

    def _grow(self, chance: random.Random) -> None:
        self.kafka.add_partitions(self.topic, len(partitions(self.kafka, self.topic)) + 2)

    def _redis(self, chance: random.Random) -> None:
        """A restart without persistence: all states and markers are gone."""
        self.redis.restart()


def is_committed(project: Project, kafka: Kafka, topic: str) -> bool:
    """Whether the offline log has come to the end of every partition."""
    ends = project.log("user_events").snapshot().ends
    return all(ends.get(partition, 0) >= end for partition, end in watermarks(kafka, topic).items())


def partitions(kafka: Kafka, topic: str) -> list[int]:
    return sorted(kafka.admin.list_topics(topic, timeout=10).topics[topic].partitions)


def watermarks(kafka: Kafka, topic: str) -> dict[int, int]:
    """One past the last offset of each partition."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "nobody"})
    try:
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            for partition in partitions(kafka, topic)
        }
    finally:
        consumer.close()


def delivered(kafka: Kafka, topic: str) -> Iterator[Any]:
    """Every message of the topic, in order within each partition."""
    ends = watermarks(kafka, topic)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "nobody"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    left = sum(ends.values())
    try:
        while left:
            for message in consumer.consume(10_000, 5):
                assert message.error() is None, message.error()
                left -= 1
                yield message
    finally:
        consumer.close()


@dataclass
class Law:
    """What must have become of every message, by the law in plain words."""

    accepted: dict[int, list[Any]] = field(default_factory=dict)
    letters: set[tuple[int, int]] = field(default_factory=set)
    duplicates: int = 0

    @classmethod
    def of(cls, some: Iterator[Any], allowed_future_us: int = MINUTE_US, within_us: int = HOUR_US) -> "Law":
        found, remembered, newest = cls(), {}, {}  # type: ignore[var-annotated]
        for message in some:
            partition, offset = message.partition(), message.offset()
            try:
                event = json.loads(message.value())
                at_us = parse_timestamp(event["timestamp"])
                assert isinstance(event["event_id"], str)
                assert isinstance(event["user_id"], int)
            except (ValueError, KeyError, TypeError, AssertionError):
                found.letters.add((partition, offset))
                continue
            key = (partition, event["event_id"])
            newest_us = newest.get(partition, -(2**62))
            if at_us > message.timestamp()[1] * 1_000 + allowed_future_us:
                found.letters.add((partition, offset))
            elif remembered.get(key, -(2**63)) >= newest_us - within_us:
                found.duplicates += 1
            else:
                found.accepted.setdefault(partition, []).append(message)
                remembered[key], newest[partition] = at_us, max(newest_us, at_us)
        return found


def check(project: Project, kafka: Kafka, topic: str) -> Law:
    """Log, letters and the states of every entity are what the law says; the law's verdicts, for the curious."""
    law = Law.of(delivered(kafka, topic))
    source = project.repo.sources["user_events"]
    engine = project.engine()
    try:
        relation = evaluated.accepted(engine, source, project.log("user_events").snapshot())
        logged = engine.table(f"SELECT _partition, _offset FROM {relation} ORDER BY ALL")
        wanted = sorted((p, message.offset()) for p, some in law.accepted.items() for message in some)
        assert list(zip(*(column.to_pylist() for column in logged.columns), strict=True)) == wanted
        letters = DeadLetters(project.letters_place).read(source="user_events")
        lettered = list(
            zip(*(letters.column(name).to_pylist() for name in ("partition", "offset")), strict=True)
        )
        assert sorted(lettered) == sorted(law.letters)
        engine.register("expected", _rows(source, law.accepted))
        for name, build in project.builds().items():
            kept = Kept(project.repo.views[name], build)
            held, expected = online_states(project.online, kept), expected_states(engine, "expected", kept)
            wrong = [id for id in held.keys() | expected.keys() if held.get(id) != expected.get(id)]
            assert not wrong, (
                f"{name}: {len(wrong)} of {len(expected)} states differ, such as {sorted(wrong)[:5]}"
            )
    finally:
        engine.close()
    return law


def _rows(source: Any, accepted: Mapping[int, Sequence[Any]]) -> pa.Table:
    tables = []
    for partition, some in accepted.items():
        offsets = np.array([message.offset() for message in some], np.int64)
        raw = RawBatch([message.value() for message in some], offsets, int(offsets[-1]) + 1, 0)
        rows = decode(raw, source).rows
        tables.append(rows.append_column("_partition", pa.array(np.full(rows.num_rows, partition, np.int32))))
    return pa.concat_tables(tables)
