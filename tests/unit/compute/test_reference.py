"""The brute-force definition itself, clause by clause of design.md section 1: every value is derived by hand."""

import math
from decimal import Decimal
from typing import Any

import pytest

from featureflow_cli.compute import reference
from featureflow_cli.compute.hashing import hash_text
from featureflow_cli.compute.reference_rows import accepted, cold, vector
from featureflow_cli.compute.views import View
from featureflow_cli.spec.types import Value
from featureflow_cli.times import DAY_US, HOUR_US, MINUTE_US, SECOND_US, parse_timestamp
from tests.laws.strategies import SCHEMA, compiled, written_as


def at(text: str) -> int:
    """A moment of 1 January 2026 (`10:30`, `10:30:00.5`), or of another day where the text says so."""
    return parse_timestamp(text if "-" in text else f"2026-01-01T{text}")


def row(when: str | int, **columns: Value) -> dict[str, Value]:
    """An event of user 1, null where nothing is said."""
    known = {"uid": 1, "ts": at(when) if isinstance(when, str) else when, **columns}
    return {name: known.get(name) for name in SCHEMA}


def view_of(*features: dict[str, Any], created: bool = False, **rest: Any) -> View:
    written = {"name": "v", "source": "s", "entity": "user", **rest}
    if features:
        written["features"] = [{"name": f"f{place}", **feature} for place, feature in enumerate(features)]
    return compiled(written_as([written], created=created)).views["v"]


def values(
    view: View, events: list[dict[str, Value]], when: str | int, key: tuple[Value, ...] = (1,)
) -> list[Value]:
    t_us = at(when) if isinstance(when, str) else when
    return list(reference.answer(view, events, key, t_us).values.values())


def value(feature: dict[str, Any], events: list[dict[str, Value]], when: str | int) -> Value:
    """One feature over `forever` (unless it says another window) of user 1."""
    window = {} if "window" in feature else {"window": "forever"}
    return values(view_of(feature | window), events, when)[0]


# --- 1.1 to 1.3: time, windows, resolution


def test_the_event_at_the_instant_itself_is_not_seen():
    #          9:59 |------- 1h -------) 11:00
    #     e1        e2          e3     e4=T          -> e2, e3
    events = [row("09:59:59.999999"), row("10:00"), row("10:59:59.999999"), row("11:00")]
    assert value({"count": "*", "window": "1h"}, events, "11:00") == 2


def test_the_old_edge_is_floored_to_the_resolution_and_the_new_edge_is_not():
    # T = 11:00:30, so T - 1h = 10:00:30; a 1h window steps by 1m: it starts at 10:00:00
    #   e1=9:59:59   [10:00:00   e2=10:00:10   T-1h=10:00:30  ...  e3=11:00:29) T=11:00:30      -> e2, e3
    events = [row("09:59:59"), row("10:00:10"), row("11:00:29")]
    assert value({"count": "*", "window": "1h"}, events, "11:00:30") == 2
    assert value({"count": "*", "window": "1h", "resolution": "exact"}, events, "11:00:30") == 1
    # T = 11:20: at 15m it starts at floor(10:20) = 10:15, at the default 1m at 10:20
    for resolution, seen in (({"resolution": "15m"}, 1), ({}, 0)):
        view = view_of({"count": "*", "window": "1h", **resolution}, ttl="30d")
        assert values(view, [row("10:16")], "11:20") == [seen]


def test_edges_are_floored_before_the_epoch_too():
    # T = -30s, T - 1h = -1h30s, floored to the minute: -1h1m
    events = [row(-HOUR_US - MINUTE_US), row(-HOUR_US - MINUTE_US - 1)]
    view = view_of({"count": "*", "window": "1h"}, ttl="30d")
    assert values(view, events, -30 * SECOND_US) == [1]


def test_forever_covers_all_that_came_before():
    assert value({"count": "*"}, [row("1970-01-02"), row("1700-01-01"), row("10:00")], "10:00") == 2


# --- 1.5: order of arrival


def test_order_of_arrival_never_changes_a_value_and_ties_go_by_the_value():
    #   10:00 n=5     10:00 n=7     9:00 n=1 (late)
    events = [row("10:00", n=5), row("10:00", n=7), row("09:00", n=1)]
    features = (
        {"first": "n"},
        {"last": "n"},
        {"last_k": {"of": "n", "k": 2}},
        {"first_k": {"of": "n", "k": 2}},
    )
    view = view_of(*({**feature, "window": "forever"} for feature in features))
    for arrival in (events, events[::-1], [events[1], events[2], events[0]]):
        assert values(view, arrival, "11:00") == [1, 7, (7, 5), (1, 5)]


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


# --- 1.8: nulls and nothing


ALL = (
    {"count": "n"}, {"sum": "n"}, {"count_distinct": "n"}, {"mean": "n"}, {"min": "n"}, {"max": "n"},
    {"variance": "n"}, {"stddev": "n"}, {"first": "n"}, {"last": "n"}, {"last_k": {"of": "n", "k": 2}},
    {"top_k": {"of": "n", "k": 2}}, {"percentile": {"of": "n", "p": 0.5}}, {"session_mean": {"by": "n"}},
    {"ratio": {"of": {"sum": "n"}, "to": {"count": "n"}}},
)  # fmt: skip


def test_over_nothing_counts_and_sums_are_zero_and_the_rest_null():
    """Nothing: only nulls, or no event in the window of an entity that is present."""
    only_nulls = view_of(*({**feature, "window": "forever"} for feature in ALL))
    assert values(only_nulls, [row("10:00")], "11:00") == [0, 0, 0] + [None] * 12
    too_old = view_of(*({**feature, "window": "1h"} for feature in ALL), ttl="30d")
    assert values(too_old, [row("2025-12-31T00:00", n=1)], "11:00") == [0, 0, 0] + [None] * 12


def test_a_default_answers_for_nothing_and_for_a_zero_denominator_alone():
    with_default = [{**feature, "default": 7} for feature in ({"count": "n"}, {"sum": "n"}, {"mean": "n"})]
    view = view_of(*({**feature, "window": "forever"} for feature in with_default))
    assert values(view, [row("10:00")], "11:00") == [7, 7, 7.0]
    assert values(view, [row("10:00", n=0)], "11:00") == [1, 0, 0.0]
    ratio = {"ratio": {"of": {"count": "*"}, "to": {"sum": "n"}}, "default": 0.5}
    assert value(ratio, [row("10:00", n=3), row("10:01", n=-3)], "11:00") == 0.5
    assert value({"variance": "n", "default": 7.0}, [row("10:00", n=1)], "11:00") is None


def test_a_null_where_is_false_and_aggregates_ignore_nulls():
    events = [
        row("10:00", n=1, kind="a"),
        row("10:01", n=2),
        row("10:02", kind="a"),
        row("10:03", n=5, kind="b"),
    ]
    view = view_of(
        {"count": "*", "where": "kind = 'a'", "window": "forever"},
        {"count": "n", "where": "kind = 'a'", "window": "forever"},
        {"mean": "n", "window": "forever"},
    )
    assert values(view, events, "11:00") == [2, 1, 8 / 3]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_null(bad: float):
    events = [row("10:00", x=bad), row("10:01", x=2.0)]
    view = view_of(*({key: "x", "window": "forever"} for key in ("count", "sum", "max", "first")))
    assert values(view, events, "11:00") == [1, 2.0, 2.0, 2.0]


def test_no_infinity_leaves():
    """Not even where the sum of doubles has no double."""
    answer = reference.answer(
        view_of({"sum": "x", "window": "forever"}),
        [row(m, x=1e308) for m in ("10:00", "10:01")],
        (1,),
        at("11:00"),
    )
    assert answer.values == {"f0": None}
    assert answer.reasons == {"f0": "overflow"}


# --- 1.9: numbers


def test_integers_are_exact_up_to_the_edge_of_int64_and_null_beyond():
    most = 2**63 - 1
    view = view_of({"sum": "n", "window": "forever"})
    assert values(view, [row("10:00", n=most), row("10:01", n=1), row("10:02", n=-1)], "11:00") == [most]
    past = reference.answer(view, [row("10:00", n=most), row("10:01", n=1)], (1,), at("11:00"))
    assert (past.values, past.reasons) == ({"f0": None}, {"f0": "overflow"})
    assert values(view, [row("10:00", n=-most), row("10:01", n=-1)], "11:00") == [-(2**63)]


def test_decimals_are_exact_up_to_38_digits_and_null_beyond():
    nines = Decimal("9" * 34 + ".9999")
    view = view_of({"sum": "big", "window": "forever"}, {"sum": "price", "window": "forever"})
    step = Decimal("0.0001")
    assert values(
        view, [row("10:00", big=nines), row("10:01", big=step), row("10:02", big=-step)], "11:00"
    ) == [
        nines,
        Decimal("0.00"),
    ]
    past = reference.answer(view, [row("10:00", big=nines), row("10:01", big=step)], (1,), at("11:00"))
    assert (past.values["f0"], past.reasons) == (None, {"f0": "overflow"})
    cents = values(view, [row("10:00", price=Decimal("0.10"))] * 3, "11:00")[1]
    assert str(cents) == "0.30"


def test_means_and_deviations():
    # 1, 2, 6: mean 3, squares of differences 4 + 1 + 9 = 14, sample variance 7
    events = [row("10:00", n=1), row("10:01", n=2), row("10:02", n=6)]
    view = view_of(*({key: "n", "window": "forever"} for key in ("mean", "variance", "stddev", "min", "max")))
    assert values(view, events, "11:00") == [3.0, 7.0, math.sqrt(7), 1, 6]
    assert values(view, events[:1], "11:00") == [1.0, None, None, 1, 1]


def test_a_percentile_is_the_nearest_rank_by_its_bucket():
    # 1..10: p 0.95 is rank ceil(9.5) = 10, p 0.5 rank 5, p 0.01 rank 1
    events = [row(f"10:0{place}", n=place + 1) for place in range(10)]
    for share, expected in ((0.95, 10), (0.5, 5), (0.01, 1), (1.0, 10), (0.1, 1)):
        found = value({"percentile": {"of": "n", "p": share}}, events, "11:00")
        assert found == pytest.approx(expected, rel=0.01)


def test_decayed_sums_halve_with_every_half_life():
    # ages at 12:00: 2h, 1h, 0+; half_life 1h: 8/4 + 4/2 = 4, and 1/4 + 1/2
    events = [row("10:00", n=8), row("11:00", n=4), row("12:00", n=100)]
    assert value({"sum": "n", "half_life": "1h"}, events, "12:00") == 4.0
    assert value({"count": "*", "half_life": "1h"}, events, "12:00") == 0.75


def test_times_since_are_in_their_unit():
    events = [row("10:00"), row("11:30")]
    assert value({"time_since_last": {"unit": "minutes"}}, events, "12:00") == 30.0
    assert value({"time_since_first": {"unit": "hours"}}, events, "12:00") == 2.0
    assert value({"time_since_last": {}}, events, "12:00") == 1800.0


# --- 1.10: presence


def test_an_entity_is_present_from_the_floored_ttl_on():
    # ttl 2d steps by its rung of 15m: at 2026-01-03T10:05 it reaches back to 2026-01-01T10:00
    view = view_of({"count": "*", "window": "1h"}, ttl="2d")
    for when, status in (("10:00", "present"), ("09:59:59.999999", "absent")):
        assert reference.answer(view, [row(when)], (1,), at("2026-01-03T10:05")).status == status


def test_the_widest_window_is_the_default_ttl_and_a_coarse_window_reaches_further():
    # window 1h at resolution 1h, read at 11:59: it starts at 10:00, before floor(10:59, 1m)
    view = view_of({"count": "*", "window": "1h", "resolution": "1h"})
    assert reference.answer(view, [row("10:00")], (1,), at("11:59")).values == {"f0": 1}
    assert reference.answer(view, [row("09:59")], (1,), at("11:59")).status == "absent"


def test_an_absent_entity_has_no_default_and_the_views_where_narrows_presence():
    view = view_of({"count": "*", "window": "1h", "default": 7}, where="kind = 'a'", ttl="30d")
    assert values(view, [row("10:30", kind="b")], "11:00") == [None]
    assert values(view, [row("10:30", kind="a")], "11:00", key=(2,)) == [None]
    assert values(view, [row("2025-12-31T10:30", kind="a")], "11:00") == [7]


def test_with_a_forever_window_nothing_expires():
    view = view_of({"count": "*", "window": "1h"}, {"count": "*", "window": "forever"})
    assert values(view, [row("1970-01-02")], "11:00") == [0, 1]


def test_a_null_join_key_is_nobody():
    view = view_of({"count": "*", "window": "forever"}, entity="pair")
    events = [row("10:00", name="a"), row("10:01", name=None), row("10:02", name="b")]
    assert values(view, events, "11:00", key=(1, "a")) == [1]
    assert reference.answer(view, events, (1, None), at("11:00")).status == "absent"


# --- 1.12, 1.13: sessions and keys


def test_a_session_across_the_old_edge_is_cut_there():
    #        10:00 |------------- 1h -------------) 11:00
    #  a: 9:50     10:10    10:30                      -> 20m (9:50 is not seen)
    #  b:                      10:40  10:50            -> 10m
    #  c:  9:55       10:20                            -> one event is no session
    events = [row(when, kind="a") for when in ("09:50", "10:10", "10:30")]
    events += [row(when, kind="b") for when in ("10:40", "10:50")]
    events += [row(when, kind="c") for when in ("09:55", "10:20")]
    feature = {"session_mean": {"by": "kind", "unit": "minutes"}, "window": "1h"}
    assert value(feature, events, "11:00") == 15.0


def test_ties_in_top_k_go_to_the_smaller_key():
    # 10 twice; 9, -1 and 2 once. As numbers, not as texts
    events = [row(f"10:0{place}", n=n) for place, n in enumerate((10, 9, -1, 2, 10))]
    assert value({"top_k": {"of": "n", "k": 3}}, events, "11:00") == (10, -1, 2)
    # by UTF-8 bytes: 'a' < 'ä' < '日' < the clef, whose UTF-16 would come before
    texts = [row(f"10:0{place}", kind=text) for place, text in enumerate(("\U0001d11e", "\uff5e", "ä", "a"))]
    assert value({"top_k": {"of": "kind", "k": 4}}, texts, "11:00") == ("a", "ä", "\uff5e", "\U0001d11e")


def test_beyond_max_keys_the_smallest_hashes_stand_for_all():
    # keys 1..5 and max_keys 3: the three smallest hashes; h is the largest of them
    hashes = sorted(hash_text(str(n)) for n in range(1, 6))
    events = [row(f"10:0{n}", n=n) for n in range(1, 6)]
    events += [row(f"10:1{n}", n=n) for n in range(1, 6) if hash_text(str(n)) in hashes[:3]]
    view = view_of(
        *(
            {**feature, "window": "forever", "max_keys": 3}
            for feature in (
                {"count_distinct": "n"},
                {"session_mean": {"by": "n", "unit": "minutes"}},
                {"top_k": {"of": "n", "k": 1}},
            )
        )
    )
    found = reference.answer(view, events, (1,), at("11:00"))
    assert found.values == {"f0": 2 * 2**64 // hashes[2], "f1": 10.0, "f2": None}
    assert found.reasons == {"f2": "too_many_keys"}
    assert values(view, [event for event in events if event["n"] in {1, 2, 3}], "11:00")[0] == 3


def test_a_text_too_long_to_keep_is_null_but_counts():
    events = [row("10:00", kind="x" * 1025), row("10:01", kind="y" * 1024)]
    view = view_of(*({key: "kind", "window": "forever"} for key in ("count", "first", "count_distinct")))
    assert values(view, events, "11:00") == [2, "y" * 1024, 1]


# --- 1.14: ranks


def ranked(method: str, **rest: Any) -> View:
    of = {"name": "of", "count": "*", "where": "flag", "window": "1h"}
    rank = {"name": "rank", "rank": {"of": "of", "method": method}, "refresh": "15m", **rest}
    return view_of(of, rank, ttl="30d")


def test_ranks_are_taken_on_the_grid():
    #            10:45=g |
    #  user 1: 2 before  |  1 after          2/4 of the largest
    #  user 2: 4 before  |
    #  user 3:           |  9 after          no member at g: its default
    #  user 4: 1 that `of` does not count    no member
    #  user 5: 3 before  |                   T = 10:50
    counts = {1: (2, 1), 2: (4, 0), 3: (0, 9), 5: (3, 0)}
    events = [row("10:10", uid=4, flag=False)]
    for uid, (before, after) in counts.items():
        events += [row("10:20", uid=uid, flag=True)] * before + [row("10:47", uid=uid, flag=True)] * after
    shares = {
        uid: values(ranked("share_of_max", default=-1.0), events, "10:50", (uid,))[1]
        for uid in (1, 2, 3, 4, 5)
    }
    assert shares == {1: 0.5, 2: 1.0, 3: -1.0, 4: -1.0, 5: 0.75}
    # strictly below / (n - 1), n = 3: users 1, 5, 2
    places = {uid: values(ranked("percent_rank"), events, "10:50", (uid,))[1] for uid in (1, 2, 3, 4, 5)}
    assert places == {1: 0.0, 2: 1.0, 3: None, 4: None, 5: 0.5}


def test_alone_in_the_population_the_place_is_zero_and_a_share_needs_a_positive_maximum():
    assert values(ranked("percent_rank"), [row("10:20", flag=True)], "10:50")[1] == 0.0
    of = {"name": "of", "sum": "n", "window": "1h"}
    view = view_of(of, {"name": "rank", "rank": {"of": "of"}, "refresh": "15m"})
    assert values(view, [row("10:20", n=-5)], "10:50") == [-5, None]


def test_a_member_without_a_value_has_no_rank_and_is_nobodys_rival():
    #  user 1: a ratio with a zero denominator; user 2: 1/1; user 3: no event at all in the window
    of = {"name": "of", "ratio": {"of": {"count": "*"}, "to": {"count": "n"}}, "window": "1h"}
    view = view_of(of, {"name": "rank", "rank": {"of": "of"}, "refresh": "15m", "default": -1.0}, ttl="30d")
    events = [row("10:20"), row("10:20", uid=2, n=5), row("2025-12-31T10:00", uid=3)]
    ranks = [values(view, events, "10:50", (uid,))[1] for uid in (1, 2, 3)]
    assert ranks == [None, 1.0, -1.0]


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
