"""The server on states in Redis: what it does while they are away, and that it finds them again by itself."""

import pytest

from tests.integration.serve.shop import Server, Shop
from tests.services.redis import redis_server

ASKED = {"service": "ranking_v1", "entities": {"user_id": 1, "item_id": 1}}


@pytest.mark.service("redis")
def test_a_redis_that_goes_and_comes_back_is_503_in_between(own: Shop) -> None:
    """It comes back with its states, or without: then the server says so, and does not answer nulls."""
    file = own.root / "feature_store.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("online_store:")]
    with redis_server(persistent=True) as redis:
        file.write_text("\n".join([*lines, f"online_store: {{type: redis, url: '{redis.url}'}}", ""]))
        own.stream()
        with Server(own.root) as server:
            before = server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"})
            assert before.status_code == 200
            redis.stop()
            for _ in range(3):
                answer = server.vector(ASKED)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.elapsed.total_seconds() < 2
            assert server.http.get("/ready").status_code == 503
            redis.start()
            server.wait(lambda: server.vector(ASKED).status_code == 200)
            assert server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"}).json() == before.json()
            with redis.client() as client:
                client.flushall()
            lost = server.vector({"service": "ranking_v1", "entities": {"user_id": -1, "item_id": -1}})
            assert lost.status_code == 503
            assert "lost the state" in lost.json()["error"]["message"]
            own.stream()
            server.wait(
                lambda: server.vector({**ASKED, "as_of": "2026-04-20T00:00:00Z"}).json() == before.json()
            )
