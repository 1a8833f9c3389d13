"""Workers die at every boundary of the protocol, freeze, leave and come; Redis loses all; the topic grows."""

import json
from pathlib import Path

import pytest

from tests.integration.kafka.crash_law import Misfortunes, check, featureflow, messages, produce, shop
from tests.services.kafka import Kafka
from tests.services.redis import redis_server


@pytest.mark.slow
@pytest.mark.service("redis")
def test_nothing_is_lost_or_doubled(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.topic(8)
    with redis_server() as redis:
        project = shop(tmp_path, kafka, topic, redis.url)
        events = messages(tmp_path, 30_000, seed=5, users=500)
        misfortunes = Misfortunes(project, kafka, topic, redis, events, seed=5)
        misfortunes.run()
        law = check(project, kafka, topic)
    assert law.duplicates
    assert law.letters


@pytest.mark.service("redis")
def test_item_features_are_exact_on_a_topic_keyed_by_user(
    tmp_path: Path, kafka: Kafka, redis_url: str
) -> None:
    """Every item is written by all four workers."""
    topic = kafka.topic(8)
    project = shop(tmp_path, kafka, topic, redis_url)
    produce(kafka, topic, messages(tmp_path, 20_000, seed=6, users=300))
    report = json.loads(featureflow(tmp_path, "stream", "--once", "--workers", "4", "--json"))
    law = check(project, kafka, topic)
    (source,) = report["sources"]
    assert source["accepted"] == source["committed"] == sum(map(len, law.accepted.values()))
    assert source["duplicates"] == law.duplicates
