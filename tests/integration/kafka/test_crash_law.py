"""Workers die at every boundary of the protocol, freeze, leave and come; Redis loses all; the topic grows."""

from pathlib import Path

import pytest

from tests.integration.kafka.crash_law import Misfortunes, check, messages, shop
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
