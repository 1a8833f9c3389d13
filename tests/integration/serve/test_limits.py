"""What a server takes on: beyond it, it says so at once. The application in this process, with small limits."""

import asyncio
from collections.abc import Sequence

import httpx

from featureflow_cli.serve.app import application
from featureflow_cli.serve.limits import Limits
from tests.integration.serve.shop import Shop

ASKED = {"service": "ranking_v1", "entities": {"user_id": 1, "item_id": 1}}


def answers(shop: Shop, limits: Limits, bodies: Sequence[bytes | dict[str, object]], path: str = "vector"):
    """What the bodies are answered, all of them asked at once."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application(shop.project(), limits))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            posts = [
                client.post(f"/features/{path}", content=body)
                if isinstance(body, bytes)
                else client.post(f"/features/{path}", json=body)
                for body in bodies
            ]
            return await asyncio.gather(*posts)

    return asyncio.run(ask())


def test_more_requests_at_once_than_it_takes_are_told_to_come_back(shop: Shop):
    found = answers(shop, Limits(in_flight=2), [ASKED] * 6)
    assert sorted(each.status_code for each in found) == [200, 200, 503, 503, 503, 503]
    refused = next(each for each in found if each.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "saturated"


def test_an_answer_that_takes_too_long_is_given_up(shop: Shop):
    (answer,) = answers(shop, Limits(seconds=1e-6), [ASKED])
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")


def test_a_body_that_is_too_large_is_not_read(shop: Shop):
    (answer,) = answers(shop, Limits(body_bytes=20), [ASKED])
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_body_of_unknown_length_is_cut_off_as_well(shop: Shop):
    async def ask() -> httpx.Response:
        async def parts():
            for _ in range(100):
                yield b" " * 10

        transport = httpx.ASGITransport(application(shop.project(), Limits(body_bytes=20)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/features/vector", content=parts())

    assert asyncio.run(ask()).status_code == 413


def test_a_batch_has_a_largest_size(shop: Shop):
    body: dict[str, object] = {"service": "ranking_v1", "entities": [ASKED["entities"]] * 3}
    (answer,) = answers(shop, Limits(rows=2), [body], "batch")
    assert (answer.status_code, answer.json()["error"]["at"]) == (413, "entities")


def test_many_at_once_each_get_their_own_answer(shop: Shop):
    """Requests that wait together are read together; none may get another's vector."""
    users = [each.event["user_id"] for each in shop.delivered[:60]]
    bodies: list[bytes | dict[str, object]] = [
        {"features": ["user_activity:*"], "entities": {"user_id": user}, "as_of": "2026-04-02T00:00:00Z"}
        if place % 7 == 0
        else {"features": ["user_history:*"], "entities": {"user_id": user}}
        for place, user in enumerate(users)
    ]
    together = answers(shop, Limits(), bodies)
    for body, answer in list(zip(bodies, together, strict=True))[:14]:
        (alone,) = answers(shop, Limits(), [body])
        assert alone.json()["features"].keys() == answer.json()["features"].keys()
        one, other = alone.json()["features"], answer.json()["features"]
        moving = "user_history__days_since_last_purchase"  # the clock went on between the two
        assert {**one, moving: None} == {**other, moving: None}
