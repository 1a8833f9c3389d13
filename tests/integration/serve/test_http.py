"""The endpoints of a real server, held to the definition: what HTTP answers is what the features mean."""

import random
from typing import Any

from featureflow_cli.times import format_timestamp, parse_timestamp
from tests.integration.serve.shop import Server, Shop, golden, read_back

SERVICE = "ranking_v1"


def pairs(shop: Shop, count: int, seed: int = 5) -> list[dict[str, int]]:
    chance = random.Random(seed)
    items = sorted({each.event["item_id"] for each in shop.delivered if each.event["item_id"] is not None})
    users = sorted({each.event["user_id"] for each in shop.delivered})
    return [
        {"user_id": chance.choice([*users, -1]), "item_id": chance.choice([*items, -1])} for _ in range(count)
    ]


def test_vectors_are_what_the_definition_says_at_an_exact_moment(server: Server, shop: Shop):
    service = shop.project().repo.services[SERVICE]
    told = shop.told(service)
    for row in pairs(shop, 12):
        at_us = shop.end_us + random.Random(row["user_id"]).randrange(3 * 86_400_000_000)
        answer = server.vector({"service": SERVICE, "entities": row, "as_of": format_timestamp(at_us)})
        body = answer.json()
        assert answer.status_code == 200, body
        assert parse_timestamp(body["as_of"]) == at_us
        assert told.differences(row, at_us, read_back(body["features"], service)) == []


def test_a_read_without_as_of_answers_for_the_servers_clock(server: Server, shop: Shop):
    service = shop.project().repo.services[SERVICE]
    (row,) = pairs(shop, 1, seed=1)
    body = server.vector({"service": SERVICE, "entities": row}).json()
    assert (
        shop.told(service).differences(
            row, parse_timestamp(body["as_of"]), read_back(body["features"], service)
        )
        == []
    )


def test_a_batch_answers_row_by_row_in_the_requests_order(server: Server, shop: Shop):
    rows = pairs(shop, 40)
    asked = {"service": SERVICE, "entities": rows, "as_of": format_timestamp(shop.end_us)}
    results = server.http.post("/features/batch", json=asked).json()["results"]
    assert len(results) == len(rows)
    for row, result in zip(rows[:6], results, strict=False):
        single = server.vector({**asked, "entities": row}).json()
        assert result == {name: value for name, value in single.items() if name != "registry_version"}


def test_an_empty_batch_answers_nothing(server: Server):
    body = server.http.post("/features/batch", json={"service": SERVICE, "entities": []}).json()
    assert body == {"results": [], "registry_version": 1}


def test_one_entity_by_its_path_has_all_its_views(server: Server, shop: Shop):
    (row,) = pairs(shop, 1)
    at = format_timestamp(shop.end_us)
    body = server.http.get(f"/features/user/{row['user_id']}", params={"as_of": at}).json()
    listed = {
        "features": ["user_activity:*", "user_history:*"],
        "entities": {"user_id": row["user_id"]},
        "as_of": at,
    }
    assert body == server.vector(listed).json()


def test_a_path_takes_features_or_a_service_with_its_other_keys(server: Server, shop: Shop):
    (row,) = pairs(shop, 1)
    path, at = f"/features/user/{row['user_id']}", format_timestamp(shop.end_us)
    some = server.http.get(
        path, params={"features": "user_activity:cart_count_1h,user_history:*", "as_of": at}
    ).json()
    assert list(some["features"]) == [
        "user_activity__cart_count_1h",
        "user_history__avg_session_duration",
        "user_history__days_since_last_purchase",
    ]
    whole = server.http.get(
        path, params={"service": SERVICE, "item_id": str(row["item_id"]), "as_of": at}
    ).json()
    assert whole == server.vector({"service": SERVICE, "entities": row, "as_of": at}).json()


def test_somebody_unknown_is_200_with_nulls(server: Server):
    answer = server.http.get("/features/user/987654321")
    body = answer.json()
    assert answer.status_code == 200
    assert set(body["features"].values()) == {None}
    assert set(body["status"].values()) == {"unknown"}
    assert body["age_ms"] == {}


def test_a_null_join_key_is_nobody(server: Server, shop: Shop):
    (row,) = pairs(shop, 1)
    body = server.vector({"service": SERVICE, "entities": {**row, "item_id": None}}).json()
    assert body["status"]["item_activity"] == "unknown"


WRONG: list[tuple[str, str, Any]] = [
    ("GET", "/features/usr/42", None),
    ("GET", "/features/user", None),
    ("GET", "/features/user/forty-two", None),
    ("GET", "/features/user/42?features=user_activity:cart_count", None),
    ("GET", "/features/user/42?service=ranking", None),
    ("GET", "/features/user/42?item=7", None),
    ("GET", "/features/user/42?user_id=43", None),
    ("GET", f"/features/user/42?service={SERVICE}&features=user_activity:*", None),
    ("POST", "/features/vector", {"service": "ranking", "entities": {"user_id": 42, "item_id": 7}}),
    (
        "POST",
        "/features/vector",
        {"features": ["user_activity:*", "item_activity:views"], "entities": {"user_id": 1}},
    ),
    ("POST", "/features/vector", {"features": ["user_activty:*"], "entities": {"user_id": 1}}),
    ("POST", "/features/vector", {"features": [], "entities": {"user_id": 1}}),
    ("POST", "/features/vector", {"service": SERVICE, "features": ["a:b"], "entities": {"user_id": 1}}),
    ("POST", "/features/vector", {"service": SERVICE, "entities": {"user_id": 42}}),
    ("POST", "/features/vector", {"service": SERVICE, "entities": {"usr_id": 42, "item_id": 7}}),
    ("POST", "/features/vector", {"service": SERVICE, "entities": {"user_id": 4.5, "item_id": 7}}),
    ("POST", "/features/vector", {"service": SERVICE, "entities": {"user_id": True, "item_id": 7}}),
    ("POST", "/features/vector", {"service": SERVICE, "entities": {"user_id": 2**63, "item_id": 7}}),
    ("POST", "/features/vector", {"service": SERVICE, "entities": [1]}),
    (
        "POST",
        "/features/vector",
        {"service": SERVICE, "entities": {"user_id": 1, "item_id": 2}, "as_of": "noon"},
    ),
    (
        "POST",
        "/features/vector",
        {"service": SERVICE, "entities": {"user_id": 1, "item_id": 2}, "request": {"x": 1}},
    ),
    ("POST", "/features/vector", {"service": SERVICE, "entity": {"user_id": 1}}),
    ("POST", "/features/vector", [1]),
    ("POST", "/features/batch", {"service": SERVICE, "entities": {"user_id": [1]}}),
    (
        "POST",
        "/features/batch",
        {"service": SERVICE, "entities": [{"user_id": 1, "item_id": 2}, {"user_id": 1}]},
    ),
    ("POST", "/features/batch", {"service": SERVICE, "entities": [{}] * 1_001}),
    ("POST", "/get-online-features", {"feature_service": "ranking", "entities": {"user_id": [1]}}),
    ("POST", "/get-online-features", {"feature_service": [SERVICE], "entities": {"user_id": [1]}}),
    (
        "POST",
        "/get-online-features",
        {"feature_service": SERVICE, "entities": {"user_id": [1], "item_id": [1, 2]}},
    ),
    (
        "POST",
        "/get-online-features",
        {"feature_service": SERVICE, "entities": {"user_id": [1], "item_id": [1]}},
    ),
    ("GET", "/featurs/vector", None),
    ("DELETE", "/features/vector", None),
]


def test_what_is_wrong_with_a_request_is_said_with_its_place(server: Server):
    """Golden: the status and the error of each; names that are not there are 404 in a path, 422 in a body."""
    found = []
    for method, path, body in WRONG:
        answer = server.http.request(method, path, json=body)
        text = None if body is None else str(body)[:90]
        found.append(
            {"asked": f"{method} {path}", "body": text, "status": answer.status_code, **answer.json()}
        )
        assert answer.headers["content-type"] == "application/json"
    golden("errors.json", found)


def test_a_body_that_is_not_json_is_400(server: Server):
    answer = server.http.post("/features/vector", content=b'{"service": ')
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


def test_a_past_moment_is_refused_and_names_who_answers_for_it(server: Server, shop: Shop):
    known = next(each.event for each in shop.delivered if each.event["item_id"] is not None)
    row = {"user_id": known["user_id"], "item_id": known["item_id"]}
    answer = server.vector({"service": SERVICE, "entities": row, "as_of": "2026-01-01T00:00:00Z"})
    error = answer.json()["error"]
    assert (answer.status_code, error["at"]) == (422, "as_of")
    assert "get --at" in error["hint"]


def test_a_moment_ahead_of_the_clock_is_refused(server: Server):
    asked = {"service": SERVICE, "entities": {"user_id": 1, "item_id": 1}, "as_of": "2199-01-01T00:00:00Z"}
    assert server.vector(asked).status_code == 422


def test_the_server_describes_itself_without_any_other_server(server: Server):
    registry = server.http.get("/registry").json()
    assert list(registry["feature_services"]) == [SERVICE]
    spec = server.http.get("/openapi.json").json()
    assert spec["openapi"].startswith("3.1")
    assert "/features/vector" in spec["paths"]
    page = server.http.get("/docs").text
    assert SERVICE in page
    assert "https://" not in page
    assert "<script" not in page
    for path in spec["paths"]:
        assert path.split("{")[0] in page


def test_metrics_count_requests_vectors_and_errors(server: Server):
    def value(line: str) -> float:
        text = server.http.get("/metrics").text
        return float(
            next((each.rpartition(" ")[2] for each in text.splitlines() if each.startswith(line)), "0")
        )

    vectors, errors = (
        'featureflow_vectors_total{service="ranking_v1"}',
        'featureflow_errors_total{code="unknown_service"}',
    )
    before = value(vectors), value(errors)
    server.vector({"service": SERVICE, "entities": {"user_id": 1, "item_id": 1}})
    server.vector({"service": "nobody", "entities": {}})
    assert (value(vectors), value(errors)) == (before[0] + 1, before[1] + 1)
    assert value("featureflow_registry_version") == 1
    assert value('featureflow_http_request_seconds_count{endpoint="/features/vector"}') > 0
    assert value("featureflow_store_read_seconds_count") > 0


def test_feast_gets_its_own_shape(server: Server, shop: Shop):
    """Columns, join keys first; statuses and timestamps beside the values."""
    known = next(each.event["user_id"] for each in shop.delivered)
    asked = {
        "features": ["user_activity:purchase_count_24h", "user_history:days_since_last_purchase"],
        "entities": {"user_id": [known, 987654321]},
    }
    body = server.http.post("/get-online-features", json=asked).json()
    assert body["metadata"] == {
        "feature_names": ["user_id", "purchase_count_24h", "days_since_last_purchase"]
    }
    keys, counts, days = body["results"]
    assert keys["values"] == [known, 987654321]
    assert keys["statuses"] == ["PRESENT", "PRESENT"]
    assert counts["values"][1] is None
    assert counts["statuses"][1] == "NOT_FOUND"
    assert counts["event_timestamps"][1] == "1970-01-01T00:00:00Z"
    assert counts["statuses"][0] == "OUTSIDE_MAX_AGE"  # these events lie months back, and the ttl is 30 days
    assert days["statuses"][0] in {"PRESENT", "NULL_VALUE"}
    assert days["event_timestamps"][0].startswith("2026-03-")


def test_feasts_full_names_are_honoured(server: Server):
    asked = {
        "feature_service": SERVICE,
        "entities": {"user_id": [1], "item_id": [1]},
        "full_feature_names": True,
    }
    names = server.http.post("/get-online-features", json=asked).json()["metadata"]["feature_names"]
    assert names[:3] == ["user_id", "item_id", "user_activity__purchase_count_1h"]
    assert names[-1] == "spend_vs_revenue"
