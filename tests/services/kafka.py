"""A real Kafka broker: one node in KRaft mode, run by the system's Java from jars that Maven fetched once."""

import fcntl
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.services import jars
from tests.services.processes import LOOPBACK, Process, Service, free_port, listens, wait_until

INSTALL = "python -m tests.services install"


def missing() -> str | None:
    """What has to be installed, None where it is there."""
    if shutil.which("java") is None:
        return "java is not on the PATH: apt-get install default-jre-headless maven"
    if not jars.folder().is_dir():
        return f"Kafka's jars are not in {jars.folder()}: {INSTALL} (it needs java and mvn)"
    return None


def install() -> Path:
    """Fetch what is missing; where the jars lie. Whoever asks meanwhile waits."""
    folder = jars.folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            jars.fetch()
        if not jars.archive().exists():
            _start_once()
    return folder


def _start_once() -> None:
    """Keep what the first start makes, the storage and the loaded classes: it halves the CPU of those to come."""
    shutil.rmtree(jars.formatted(), ignore_errors=True)
    fresh = jars.archive().with_suffix(".fresh")
    with tempfile.TemporaryDirectory(prefix="featureflow-kafka-") as place:
        broker = KafkaBroker(Path(place))
        broker.make_storage()
        shutil.copytree(broker.storage, jars.formatted())
        broker.process.environ["JDK_JAVA_OPTIONS"] = f"-XX:ArchiveClassesAtExit={fresh}"
        broker.start()
        broker.topic()
        broker.stop()
    fresh.rename(jars.archive())


class Kafka:
    """A running broker as a test sees it: its address, and topics of the test's own."""

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})

    def topic(
        self, partitions: int = 1, name: str | None = None, config: Mapping[str, str] | None = None
    ) -> str:
        """Create a topic (with a name that nobody else has, unless one is given); its name, once it is usable."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        made = self.admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])
        made[name].result(30)
        self._wait_for_partitions(name, partitions)
        return name

    def add_partitions(self, topic: str, total: int) -> None:
        """Grow a topic to `total` partitions."""
        self.admin.create_partitions([NewPartitions(topic, total)])[topic].result(30)
        self._wait_for_partitions(topic, total)

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until the broker no longer lists it."""
        self.admin.delete_topics([topic])[topic].result(30)
        wait_until(lambda: topic not in self.admin.list_topics(timeout=10).topics, f"{topic} is gone")

    def topic_id(self, topic: str) -> str:
        """The id of the topic that has this name now."""
        from confluent_kafka import TopicCollection

        described = self.admin.describe_topics(TopicCollection([topic]))[topic].result(30)
        return str(described.topic_id)

    def _wait_for_partitions(self, topic: str, count: int) -> None:
        def led() -> bool:
            found = self.admin.list_topics(timeout=10).topics.get(topic)
            parts = found.partitions.values() if found is not None and found.error is None else ()
            return len(parts) == count and all(part.leader >= 0 for part in parts)

        wait_until(led, f"{topic} has {count} partitions with a leader")


class KafkaBroker(Kafka, Service):
    """A broker of your own: `stop`, `kill`, `freeze`, `thaw` and `restart` it; its topics outlive a restart."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        heap_mb: int = 256,
        quick: bool = True,
        config: Mapping[str, str] | None = None,
    ):
        self.folder = folder
        self.storage = folder / "data"
        self.port = port or free_port()
        controller = free_port()
        options = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{controller}",
            "log.dirs": str(self.storage),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed broker is let in again when its last session is over: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "auto.create.topics.enable": "false",
            "log.cleaner.dedupe.buffer.size": "4194304",
            **(config or {}),
        }
        self._properties = folder / "server.properties"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in options.items()))
        java = jars.java(heap_mb, quick)
        self._format = [*java, "kafka.tools.StorageTool", "format", "-t", "featureflow-tests-0000"]
        self.process = Process([*java, "kafka.Kafka", self._properties], folder / "kafka.log")
        super().__init__(f"{LOOPBACK}:{self.port}")

    def start(self) -> None:
        """Start it (with an empty storage the first time) and wait until it lists itself."""
        if not self.storage.exists():
            self.make_storage()
        self.process.start(self.answers)

    def make_storage(self) -> None:
        if jars.formatted().exists():
            shutil.copytree(jars.formatted(), self.storage)
        else:
            jars.run([*self._format, "-c", str(self._properties)], "Kafka's storage was not formatted")

    def answers(self) -> bool:
        # The connection first: librdkafka would complain on stderr of every one that is refused.
        if not listens(self.port):
            return False
        try:
            return bool(self.admin.list_topics(timeout=5).brokers)
        except KafkaException:
            return False


@contextmanager
def kafka_broker(
    *,
    port: int | None = None,
    heap_mb: int = 256,
    quick: bool = True,
    config: Mapping[str, str] | None = None,
) -> Iterator[KafkaBroker]:
    """A broker of your own (two seconds on an idle machine); `quick=False` and a larger heap for benchmarks."""
    with tempfile.TemporaryDirectory(prefix="featureflow-kafka-", ignore_cleanup_errors=True) as folder:
        broker = KafkaBroker(Path(folder), port, heap_mb, quick, config)
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()
