"""A broker that asks for a password: it comes from the environment, and is told to nobody."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.sources.kafka_admin import Admin
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.stream.topic_intake import TopicIntake
from tests.integration.stream.topic_reader import SOURCE
from tests.services.kafka import KafkaBroker, kafka_broker
from tests.services.processes import LOOPBACK, free_port, wait_until

PASSWORD = "hunter2"
MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"

pytestmark = [pytest.mark.slow, pytest.mark.service("kafka")]


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[KafkaBroker, str]]:
    """A broker, and the address at which it lets in whoever has the password."""
    plain, secure, controller = free_port(), free_port(), free_port()
    config = {
        "listeners": f"PLAINTEXT://{LOOPBACK}:{plain},SASL_PLAINTEXT://{LOOPBACK}:{secure}"
        f",CONTROLLER://{LOOPBACK}:{controller}",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{MODULE} required user_shop="{PASSWORD}";',
    }
    with kafka_broker(port=plain, config=config) as broker:
        yield broker, f"{LOOPBACK}:{secure}"


def secured_by(password: str, topic: str, address: str) -> tuple[KafkaStream, dict[str, str]]:
    config: dict[str, str | int | float | bool] = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "shop",
        "sasl.password": "${env:PW}",
    }
    return KafkaStream(topic=topic, bootstrap_servers=address, config=config), {"PW": password}


def intake(topic: str, address: str, password: str) -> TopicIntake:
    return TopicIntake(("tests", None, topic), *secured_by(password, topic, address), lambda found: found)


def eventually(reader: TopicIntake, condition: Callable[[], object], what: str) -> None:
    wait_until(lambda: reader.read(SOURCE, dict.fromkeys(reader.partitions(), 0), 10) or condition(), what)


def test_the_password_lets_it_in(secured: tuple[KafkaBroker, str]) -> None:
    broker, address = secured
    topic = broker.topic(1)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(topic, b"x")
    producer.flush(30)
    reader = intake(topic, address, PASSWORD)
    try:
        eventually(reader, reader.partitions, "it is let in")
        assert reader.first(0) == 0
    finally:
        reader.close()


def test_a_wrong_password_is_told_and_not_shown(secured: tuple[KafkaBroker, str]) -> None:
    broker, address = secured
    reader = intake(broker.topic(1), address, PASSWORD + "3")
    try:
        with pytest.raises(StoreUnavailable, match="does not let this account in") as caught:
            eventually(reader, lambda: False, "it is refused")
    finally:
        reader.close()
    assert PASSWORD not in str(caught.value)


def test_so_it_is_where_topics_are_looked_at(secured: tuple[KafkaBroker, str]) -> None:
    kafka, environ = secured_by(PASSWORD + "3", "t", secured[1])
    with pytest.raises(StoreUnavailable, match="does not let this account in") as caught:
        Admin(kafka, environ, answer_s=2).describe(["t"])
    assert PASSWORD not in str(caught.value)
