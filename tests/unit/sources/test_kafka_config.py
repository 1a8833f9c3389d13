"""What clients of Kafka are told, and that no secret leaves the environment."""

import pytest
from confluent_kafka import Consumer

from featureflow_cli.errors import DefinitionError
from featureflow_cli.sources.kafka import client_config, consumer_config, group_id, opened
from featureflow_cli.spec.check_kafka import OURS
from featureflow_cli.spec.models import KafkaStream

PASSWORD = "hunter2"


def topic(**config: str | int) -> KafkaStream:
    servers = "${env:KAFKA:-localhost:9092}"
    named = {name.replace("_", "."): value for name, value in config.items()}
    return KafkaStream(topic="t", bootstrap_servers=servers, config=named)


def test_any_property_passes_and_variables_are_put_in() -> None:
    kafka = topic(sasl_password="${env:PW}", fetch_min_bytes=7)
    config = client_config(kafka, {"PW": PASSWORD, "KAFKA": "broker:1"})
    assert config["bootstrap.servers"] == "broker:1"
    assert (config["sasl.password"], config["fetch.min.bytes"]) == (PASSWORD, 7)


def test_what_exactly_once_rests_on_is_set_whatever_the_user_wrote() -> None:
    written = {name: "latest" for name in OURS}
    config = consumer_config(KafkaStream(topic="t", config=written), {}, "g")
    assert config["group.id"] == "g"
    fixed = {name: ours.value for name, ours in OURS.items() if ours.value is not None}
    assert fixed.items() <= config.items()


def test_a_missing_variable_is_named_with_its_place() -> None:
    with pytest.raises(DefinitionError, match=r"topic 't'.*sasl\.password: .* PW is not set"):
        client_config(topic(sasl_password="${env:PW}"), {})


def test_librdkafka_takes_the_settings() -> None:
    opened(Consumer, topic(), consumer_config(topic(), {}, "g")).close()


@pytest.mark.parametrize("name", ["no_such_property", "security_protocol", "stats_cb"])
def test_settings_that_the_client_refuses_are_told_without_their_secrets(name: str) -> None:
    kafka = topic(**{name: "${env:PW}"})
    config = consumer_config(kafka, {"PW": PASSWORD}, "g")
    with pytest.raises(DefinitionError) as caught:
        opened(Consumer, kafka, config)
    assert "stream.kafka.config" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_groups_are_named_after_project_target_and_source() -> None:
    assert group_id("shop", None, "events") == "featureflow.shop.events"
    assert group_id("shop", "prod", "events") == "featureflow.shop.prod.events"
