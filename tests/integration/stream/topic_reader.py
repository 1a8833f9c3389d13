"""Reads a topic through its intake, as a worker does: with a position for each partition."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from confluent_kafka import Producer

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.kafka import group_id
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.stream.topic_intake import TopicIntake
from tests.services.kafka import Kafka
from tests.services.processes import wait_until
from tests.unit.sources.sources import make_source


def produce(kafka: Kafka, topic: str, partition: int, values: Sequence[bytes | None], at_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topic, value, key=b"k", partition=partition, timestamp=at_ms)
    assert producer.flush(30) == 0


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


SOURCE = make_source({"at": "timestamp"})


def messages(batch: RawBatch) -> list[bytes]:
    """Of a batch of messages none of which is an event: their letters bring them back as they were."""
    letters = batch.content.letters
    assert letters.column("offset").to_pylist() == batch.offsets.tolist()
    return letters.column("payload").to_pylist()


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
            config={"heartbeat.interval.ms": 200, **named},
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
        found = self.intake.read(SOURCE, asked, rows)
        for partition, batches in found.items():
            if partition not in self.positions:
                continue
            for batch in batches:
                assert (np.diff(batch.offsets) > 0).all()
                assert all(self.positions[partition] <= offset < batch.end for offset in batch.offsets)
                self.seen.setdefault(partition, []).extend(messages(batch))
                self.positions[partition] = batch.end
                self.batches.append(batch)
        return found

    def until(self, condition: Callable[[], object], what: str) -> None:
        def met() -> object:
            self.step()
            return condition()

        wait_until(met, what)

    @property
    def is_done(self) -> bool:
        """Whether all is read that was there when this was first asked."""
        goal = self.intake.goal()
        return goal is not None and all(self.positions.get(each, 0) >= end for each, end in goal.items())

    def drain(self) -> None:
        self.until(lambda: self.is_done, "all is read")


@contextmanager
def reading(
    kafka: Kafka, topic: str, ids: Callable[[str], str] | None = None, **config: int
) -> Iterator[Reader]:
    reader = Reader(kafka, topic, ids or Ids(), f"g-{topic}", **config)
    try:
        yield reader
    finally:
        reader.intake.close()


def tried(reader: Reader) -> bool:
    """A step, as the stream's loop takes it: a store that is away is waited for."""
    with suppress(StoreUnavailable):
        reader.step()
    return True


def members(kafka: Kafka, topic: str) -> int:
    """How many there are in the group of those who read the topic."""
    (asked,) = kafka.admin.describe_consumer_groups([group_id("tests", None, f"g-{topic}")]).values()
    return len(asked.result(30).members)
