"""What a plan says about cost: from the history there is, and from what the definitions ask to be kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.views import View
from featureflow_cli.plan.costs import (
    KEYED_CELL_BYTES,
    count,
    rebuild_text,
    size_text,
    source_notes,
    view_notes,
)
from featureflow_cli.plan.differences import differences, is_cosmetic
from featureflow_cli.plan.history import History, history
from featureflow_cli.spec import models
from featureflow_cli.times import DAY_US, parse_timestamp

START_US = parse_timestamp("2026-01-01")
HISTORY = History(1_200_000, START_US, START_US + 10 * DAY_US)


def view(*features: dict[str, object], **more: object) -> View:
    source = {
        "name": "events",
        "schema": {
            "user_id": "int64",
            "kind": "string",
            "amount": "double",
            "id": "string",
            "at": "timestamp",
        },
        "timestamp_field": "at",
        "event_id": "id",
        "dedupe_within": "1h",
        "stream": {"files": {"path": "events/*.parquet"}},
    }
    definitions = models.Definitions.model_validate(
        {
            "entities": [{"name": "user", "join_keys": {"user_id": "int64"}}],
            "sources": [source],
            "feature_views": [
                {
                    "name": "v",
                    "entity": "user",
                    "source": "events",
                    "features": list(features) or None,
                    **more,
                }
            ],
        }
    )
    return compile_repo(models.StoreConfig(project="p"), definitions).views["v"]


def test_a_rebuild_says_events_time_and_where_history_starts():
    text = rebuild_text(HISTORY, replaces=True)
    assert text == (
        "state is rebuilt from 1.2M events of history (about 4s), which starts at 2026-01-01T00:00:00Z;"
        " the present one serves until then"
    )
    assert rebuild_text(History(0, None, None), replaces=False).endswith("there is no history yet")


def test_ids_to_be_remembered_are_estimated_from_the_log():
    """1.2M events in 240 hours are 5,000 an hour."""
    source = view({"name": "n", "count": "*", "window": "1h"}).source
    ids, start = source_notes(source, HISTORY)
    assert ids == "event ids (id) of the last 1h are remembered, about 5.0k at the log's rate"
    assert start == "history starts at 2026-01-01T00:00:00.000000Z"


FIRST_DAY = parse_timestamp("0001-01-01")


def test_a_few_absurd_events_tell_neither_where_history_starts_nor_the_rate():
    days = [(120_000, START_US + day * DAY_US, START_US + (day + 1) * DAY_US) for day in range(10)]
    absurd = [(1, FIRST_DAY, FIRST_DAY), (2, 0, 5)]
    found = history([*days, *absurd])
    assert found == History(1_200_003, START_US, START_US + 10 * DAY_US, 3)
    ids, start = source_notes(view({"name": "n", "count": "*", "window": "1h"}).source, found)
    assert "about 5.0k" in ids
    assert start == "history starts at 2026-01-01T00:00:00.000000Z, but for 3 of the events, long before"


@pytest.mark.parametrize(
    "files",
    [
        [
            (1, START_US - 100 * DAY_US, START_US - 100 * DAY_US),
            (500, START_US, START_US),
        ],  # a quiet beginning
        [(1, 0, 0), (50, START_US, START_US)],  # one of fifty is no exception
        [(1, day * DAY_US, day * DAY_US) for day in range(0, 20_000, 400)],  # rare ones, evenly
        [(5, START_US, START_US), (7, None, None)],
    ],
)
def test_what_came_early_is_history_where_it_is_not_absurd(files: list[tuple[int, int, int]]):
    found = history(files)
    assert (found.events, found.apart) == (sum(rows for rows, _, _ in files), 0)
    assert found.starts_us == files[0][1]


def test_keyed_state_is_bounded_by_tiles_times_max_keys():
    """24h in steps of 15m are 96 tiles, one more at the old edge and one for what is newest."""
    notes = view_notes(
        view({"name": "t", "top_k": {"of": "kind", "k": 3}, "window": "24h", "max_keys": 100}), None
    )
    assert notes == (
        f"keyed state of t: at most {size_text(98 * 100 * KEYED_CELL_BYTES)} an entity (tiles x max_keys)",
    )


def test_distinct_counts_need_no_tiles():
    notes = view_notes(view({"name": "d", "count_distinct": "kind", "window": "7d", "max_keys": 1000}), None)
    assert notes == (
        f"keyed state of d: at most {size_text(1000 * KEYED_CELL_BYTES)} an entity (tiles x max_keys)",
    )


def test_exact_windows_grow_and_short_ones_are_no_news():
    grows = view({"name": "s", "sum": "amount", "window": "1h", "resolution": "exact"})
    assert "the state of s grows with the events in its window" in view_notes(grows, None)[0]
    assert view_notes(view({"name": "s", "sum": "amount", "window": "50ms"}), None) == ()


def test_what_never_expires_says_so():
    assert "never expires" in view_notes(view({"name": "n", "count": "*", "window": "forever"}), None)[0]
    assert "never expires" in view_notes(view(latest=["kind"]), None)[0]
    assert view_notes(view(latest=["kind"], ttl="30d"), None) == ()


def test_a_rank_says_how_often_how_many_are_evaluated():
    notes = view_notes(
        view(
            {"name": "n", "count": "*", "window": "1h"}, {"name": "r", "rank": {"of": "n"}, "refresh": "1m"}
        ),
        HISTORY,
    )
    assert notes == (
        "rank r: every entity active in its window (at most 1.2M now) is evaluated once per 1m while it is read",
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1_000, "1.0k"), (99_949, "99.9k"), (123_456, "123k"), (2 * 10**9, "2.0G")],
)
def test_counts_have_three_digits(number: int, text: str):
    assert count(number) == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["where", "owner", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
WRITTEN = st.dictionaries(
    st.sampled_from(["description", "owner", "tags", "ttl", "where", "features", "schema"]), VALUES
)


@given(WRITTEN, WRITTEN)
def test_a_difference_is_told_exactly_where_there_is_one(before, after):
    before, after = (
        {key: value for key, value in each.items() if value not in (None, [], {})} for each in (before, after)
    )  # what is empty was left out
    assert bool(differences(before, after)) == (before != after)
    assert differences(before, before) == ()
    if not differences(before, after):
        assert is_cosmetic(before, after)


@given(WRITTEN, st.text(), st.dictionaries(st.text(), st.text(), max_size=2))
def test_owners_descriptions_and_tags_are_cosmetic(written, text, tags):
    assert is_cosmetic(written, {**written, "owner": text, "description": text, "tags": tags})
