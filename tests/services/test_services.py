"""The services themselves: what tests build on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, KafkaException, Producer

from tests.services.kafka import Kafka, kafka_broker
from tests.services.processes import free_port, listens, wait_until
from tests.services.redis import redis_cluster, redis_sentinel, redis_server

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_message_comes_back_in_its_partition(kafka: Kafka) -> None:
    topic = kafka.topic(3)
    _produce(kafka, topic, partition=2, values=[b"one", b"two"])
    assert _consume(kafka, topic, 2) == [(2, 0, b"one"), (2, 1, b"two")]


def test_a_topic_grows_and_a_new_one_of_its_name_has_another_id(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    first = kafka.topic_id(topic)
    kafka.add_partitions(topic, 4)
    assert len(kafka.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4
    kafka.delete(topic)
    kafka.topic(1, name=topic)
    assert kafka.topic_id(topic) != first


def test_a_transaction_commits(kafka: Kafka) -> None:
    topic = kafka.topic(1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(30)
    for value, end in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(30)
        end(30)
    assert [value for _, _, value in _consume(kafka, topic, 1)] == [b"committed"]


def test_topics_are_only_made_on_purpose(kafka: Kafka) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 2})
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        producer.list_topics("nobody-made-this", timeout=10)
        raise KafkaException(
            producer.list_topics("nobody-made-this", timeout=10).topics["nobody-made-this"].error
        )


@pytest.mark.slow
@pytest.mark.service("kafka")
def test_messages_outlive_a_killed_broker() -> None:
    with kafka_broker() as broker:
        topic = broker.topic(1)
        _produce(broker, topic, 0, [b"kept"])
        broker.kill()
        broker.start()
        assert _consume(broker, topic, 1) == [(0, 0, b"kept")]


def test_each_test_finds_an_empty_redis(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("left", 1)


test_each_further_test_finds_an_empty_redis = test_each_test_finds_an_empty_redis


def test_the_cluster_spreads_keys_over_three_nodes(redis_cluster_url: str) -> None:
    with redis.RedisCluster.from_url(redis_cluster_url) as client:
        for number in range(300):
            client.set(f"key {number}", number)
        sizes = [client.dbsize(target_nodes=node) for node in client.get_primaries()]
    assert len(sizes) == 3
    assert sum(sizes) == 300
    assert min(sizes) > 50


@pytest.mark.service("redis")
def test_a_cluster_says_which_node_has_a_key() -> None:
    with redis_cluster() as cluster, cluster.client() as client:
        for key in ("a", "b", "c", "d", "e"):
            client.set(key, 1)
            with cluster.node_of(key).client() as node:
                assert node.get(key) == b"1"


@pytest.mark.service("redis")
def test_a_user_needs_the_password_and_the_certificate() -> None:
    with redis_server(user="shop", password="open-sesame", tls=True) as server:
        with server.client() as client:
            assert client.acl_whoami() == "shop"
        unnamed = redis.Redis.from_url(server.url.replace("shop:open-sesame@", ""))
        with unnamed, pytest.raises(redis.AuthenticationError):
            unnamed.ping()
        stranger = redis.Redis.from_url(server.url.partition("?")[0])
        with stranger, pytest.raises(redis.ConnectionError, match="certificate"):
            stranger.ping()


@pytest.mark.service("redis")
@pytest.mark.parametrize("persistent", [False, True])
def test_only_a_persistent_redis_remembers_after_a_kill(persistent: bool) -> None:
    with redis_server(persistent=persistent) as server:
        with server.client() as client:
            client.set("key", 1)
        server.kill()
        server.start()
        with server.client() as client:
            assert client.exists("key") == persistent


@pytest.mark.service("redis")
def test_the_sentinel_promotes_the_replica() -> None:
    with redis_sentinel() as trio:
        assert trio.current() == trio.master.port
        trio.master.kill()
        wait_until(lambda: trio.current() == trio.replica.port, "the replica is the master", 20)


@pytest.mark.service("redis")
def test_a_service_ends_with_its_owner_even_by_kill_9(tmp_path: Path) -> None:
    port = free_port()
    lines = f"""
from tests.services.redis import redis_server
with redis_server(port={port}):
    print(1, flush=True)
    input()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", lines],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # nobody is left to remove the server's folder
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"1\n"
        assert listens(port)
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not listens(port), "the server is gone")


@pytest.mark.service("kafka")
def test_a_shared_broker_outlives_the_first_user_and_ends_with_the_last(tmp_path: Path) -> None:
    lines = f"""
from pathlib import Path
from tests.services.sharing import shared_kafka
with shared_kafka(Path({str(tmp_path)!r})) as address:
    print(address, flush=True)
    input()
"""

    def user() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", lines], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    with user() as first, user() as second:
        assert first.stdout is not None
        assert second.stdout is not None
        address = first.stdout.readline().decode().strip()
        assert second.stdout.readline().decode().strip() == address
        port = int(address.rpartition(":")[2])
        first.kill()
        first.wait()
        assert Kafka(address).topic(1)
        second.kill()
    wait_until(lambda: not listens(port), "the broker is gone")


def _produce(kafka: Kafka, topic: str, partition: int, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(30) == 0


def _consume(kafka: Kafka, topic: str, count: int) -> list[tuple[int, int, bytes]]:
    """The first `count` messages as (partition, offset, value)."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found: list[tuple[int, int, bytes]] = []

    def enough() -> bool:
        for message in consumer.consume(count - len(found), 0.2):
            assert message.error() is None
            found.append((message.partition(), message.offset(), message.value()))
        return len(found) == count

    try:
        wait_until(enough, f"{count} messages from {topic}")
    finally:
        consumer.close()
    return found
