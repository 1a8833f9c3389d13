"""The brute-force definition itself, clause by clause of design.md section 1: every value is derived by hand."""

import math
from decimal import Decimal

import pytest

from featureflow_cli.compute import reference
from featureflow_cli.times import HOUR_US, MINUTE_US, SECOND_US
from tests.unit.compute.by_hand import at, row, value, values, view_of

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
