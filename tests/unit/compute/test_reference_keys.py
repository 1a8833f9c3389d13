"""The brute-force definition of what is told by keys or across entities (design.md 1.12 to 1.14), derived by hand."""

from typing import Any

from featureflow_cli.compute import reference
from featureflow_cli.compute.hashing import hash_text
from featureflow_cli.compute.views import View
from tests.unit.compute.by_hand import at, row, value, values, view_of

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
