"""The brute-force definition of whole rows: what a source accepts, what a service answers, the latest (design.md 1)."""

import math
from typing import Any

from featureflow_cli.compute import reference
from featureflow_cli.compute.reference_rows import accepted, cold, vector
from featureflow_cli.compute.views import View
from featureflow_cli.times import DAY_US, SECOND_US
from tests.laws.strategies import compiled, written_as
from tests.unit.compute.by_hand import at, row, values, view_of

# --- 1.6, 1.7: what a source accepts


def deliver(*deliveries: tuple[int, int, str, int]) -> list[tuple[str, int]]:
    """(partition, recorded, id, timestamp), all in seconds -> what entered, as (id, timestamp)."""
    written = written_as([{"name": "v", "source": "s", "entity": "user", "latest": ["n"]}])
    source = written.sources[0].model_copy(update={"event_id": "name", "dedupe_within": 60 * SECOND_US})
    built = compiled(written.model_copy(update={"sources": (source,)})).sources["s"]
    events = [
        (partition, recorded * SECOND_US, row(when * SECOND_US, name=name))
        for partition, recorded, name, when in deliveries
    ]
    return [(str(event["name"]), int(str(event["ts"])) // SECOND_US) for event in accepted(built, events)]


def test_a_second_event_of_one_id_is_dropped_while_the_first_is_remembered():
    # ids are remembered for 60s behind the newest accepted event of their partition
    assert deliver((0, 0, "a", 0), (0, 0, "a", 0)) == [("a", 0)]
    assert deliver((0, 0, "a", 0), (0, 60, "b", 60), (0, 60, "a", 0)) == [("a", 0), ("b", 60)]
    assert deliver((0, 0, "a", 0), (0, 61, "b", 61), (0, 61, "a", 0)) == [("a", 0), ("b", 61), ("a", 0)]
    assert deliver((0, 0, "a", 0), (1, 0, "a", 0)) == [("a", 0), ("a", 0)]


def test_an_event_too_far_ahead_of_its_recording_is_refused_and_not_remembered():
    # allowed_future is 1m
    assert deliver((0, 0, "a", 60), (0, 0, "b", 61)) == [("a", 60)]
    assert deliver((0, 0, "a", 61), (0, 5, "a", 61)) == [("a", 61)]


# --- 1.11, 1.15: rows of a service


def test_a_label_is_cold_where_no_view_of_a_required_entity_knows_it():
    user = {
        "name": "u",
        "source": "s",
        "entity": "user",
        "features": [{"name": "n", "count": "*", "window": "1h"}],
    }
    long = {
        "name": "l",
        "source": "s",
        "entity": "user",
        "features": [{"name": "n", "count": "*", "window": "7d"}],
    }
    pair = {
        "name": "p",
        "source": "s",
        "entity": "pair",
        "features": [{"name": "n", "count": "*", "window": "7d"}],
    }
    service = compiled(written_as([user, long, pair])).services["all"]
    events = {"s": [row("10:00", name="a")]}
    assert (
        cold(service, events, {"uid": 1, "name": "b"}, at("12:00")) == ()
    )  # `l` knows it; pairs are not required
    assert cold(service, events, {"uid": 1, "name": "b"}, at("10:00")) == ("user",)
    assert cold(service, events, {"uid": None, "name": "a"}, at("12:00")) == ("user",)
    assert vector(service, events, {"uid": 1, "name": "a"}, at("12:00")) == {
        "u__n": None,
        "l__n": 1,
        "p__n": 1,
    }
    pairs_only = compiled(written_as([pair])).services["all"]
    assert cold(pairs_only, events, {"uid": 1, "name": "b"}, at("12:00")) == ("pair",)


def test_an_on_demand_feature_is_computed_from_views_and_the_request():
    view = {
        "name": "u",
        "source": "s",
        "entity": "user",
        "features": [{"name": "n", "sum": "n", "window": "1h"}],
    }
    written = written_as([view])
    data = written.model_dump(by_alias=True, mode="json")
    data["on_demand_features"] = [
        {"name": "plus", "expr": "u.n + extra", "request": {"extra": "int64"}, "default": -1},
        {"name": "age", "expr": "date_diff('minute', timestamp '2026-01-01 10:00:00', as_of)"},
    ]
    data["feature_services"][0]["features"] += ["plus", "age"]
    service = compiled(type(written).model_validate(data)).services["all"]
    events = {"s": [row("10:30", n=5)]}
    asked = {"uid": 1, "extra": 2}
    assert vector(service, events, asked, at("11:00")) == {"u__n": 5, "plus": 7, "age": 60}
    assert vector(service, events, {"uid": 2, "extra": 2}, at("11:00"))["plus"] == -1


# --- 1.16: latest rows


def latest(**rest: Any) -> View:
    return view_of(latest=["n", "kind", "vec"], **rest)


def test_the_newest_row_counts_whole_nulls_included():
    events = [row("10:00", n=1, kind="a", vec=(1.0, math.nan)), row("10:30", n=None, kind="b")]
    assert values(latest(), events, "11:00") == [None, "b", None]
    assert values(latest(), events, "10:30") == [1, "a", (1.0, None)]
    assert values(latest(), events, "10:00") == [None, None, None]


def test_ties_go_to_the_later_created_row_then_to_the_greater_text():
    #  all at 10:00; made at 3, 5, 5 and never: of the two at 5 the greater text
    events = [
        row("10:00", n=made, kind=kind, made=made)
        for made, kind in ((3, "z"), (5, "a"), (5, "b"), (None, "z"))
    ]
    for arrival in (events, events[::-1]):
        assert values(latest(created=True), arrival, "11:00") == [5, "b", None]


def test_a_deleted_newest_row_ends_the_presence_and_an_older_one_does_not():
    gone, back = row("10:00", n=1, flag=True), row("10:30", n=2, flag=False)
    view = latest(deleted="flag")
    assert reference.answer(view, [gone], (1,), at("11:00")).status == "absent"
    assert values(view, [gone, back], "11:00") == [2, None, None]
    assert values(view, [gone, back], "10:30") == [None, None, None]
    assert values(view, [row("10:00", n=1)], "11:00") == [1, None, None]


def test_a_row_older_than_the_ttl_is_not_present_and_without_one_it_stays():
    old = row("2025-12-31T10:00", n=1)
    assert values(latest(ttl="1h"), [old], "11:00") == [None, None, None]
    assert values(latest(), [old], at("11:00") + 1000 * DAY_US) == [1, None, None]
    # ttl 1h steps by a minute: at 11:00:30 it reaches back to 10:00:00
    assert values(latest(ttl="1h"), [row("10:00", n=1)], "11:00:30")[0] == 1
