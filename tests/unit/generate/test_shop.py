"""The synthetic shop: the mix, the arrival and the files that its users rely on."""

import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featureflow_cli.errors import UsageError
from featureflow_cli.generate.files import Format, generate
from featureflow_cli.generate.shop import (
    EVENT_TYPES,
    ITEM_VIEW,
    PAGE_VIEW,
    PURCHASE,
    RATING,
    SEARCH,
    SHARES,
    Scale,
    deliveries,
    label_views,
    simulate,
)
from featureflow_cli.times import DAY_US, HOUR_US, MINUTE_US, SECOND_US, parse_timestamp

END = parse_timestamp("2026-01-08T00:00:00Z")
WEEK = Scale(events=50_000, users=1_000, items=300, span_us=7 * DAY_US, end_us=END)
SMALL = replace(WEEK, events=3_000, users=50, items=20)


def test_events_have_the_promised_mix() -> None:
    shares = np.bincount(simulate(WEEK).type, minlength=len(EVENT_TYPES)) / WEEK.events
    assert shares == pytest.approx(SHARES, abs=0.01)


@pytest.mark.parametrize("span_us", [SECOND_US, MINUTE_US, HOUR_US, 7 * DAY_US])
@pytest.mark.parametrize("events", [1, 7, 5_000])
def test_every_event_lies_in_the_span(span_us: int, events: int) -> None:
    times_us = simulate(replace(WEEK, events=events, span_us=span_us)).time_us
    assert len(times_us) == events
    assert END - span_us <= times_us.min()
    assert times_us.max() < END


def test_one_user_and_one_item_are_enough_for_a_shop() -> None:
    events = simulate(replace(SMALL, users=1, items=1))
    assert set(events.user) == {1}
    assert set(events.item) == {-1, 1}


def test_the_same_seed_gives_the_same_events_and_another_gives_others() -> None:
    one, again, other = simulate(SMALL), simulate(SMALL), simulate(replace(SMALL, seed=7))
    assert np.array_equal(one.time_us, again.time_us)
    assert np.array_equal(deliveries(one, SMALL), deliveries(again, SMALL))
    assert not np.array_equal(one.time_us, other.time_us)


def test_time_rises_within_a_session_and_a_session_has_one_user() -> None:
    events = simulate(WEEK)
    same = events.session[1:] == events.session[:-1]
    assert same.any()
    assert (np.diff(events.time_us)[same] > 0).all()
    assert (np.diff(events.user)[same] == 0).all()


def test_only_what_concerns_an_item_has_one() -> None:
    events = simulate(WEEK)
    about = (events.type != PAGE_VIEW) & (events.type != SEARCH)
    assert ((events.item > 0) == about).all()
    assert ((events.amount_cents >= 0) == (events.type == PURCHASE)).all()
    assert (~np.isnan(events.rating) == (events.type == RATING)).all()


def test_a_purchase_is_of_the_item_that_its_session_viewed_last() -> None:
    events = simulate(WEEK)
    viewed: dict[int, int] = {}
    checked = 0
    for session, kind, item in zip(events.session, events.type, events.item, strict=True):
        if kind == ITEM_VIEW:
            viewed[session] = item
        elif kind == PURCHASE and session in viewed:
            assert item == viewed[session]
            checked += 1
    assert checked > 1_000


def test_items_are_unevenly_popular_and_users_have_favourite_categories() -> None:
    events = simulate(WEEK)
    views = np.sort(np.bincount(events.item[events.type == ITEM_VIEW]))[::-1]
    assert views[:15].sum() > 0.2 * views.sum()  # 5% of the items
    busiest = np.bincount(events.user).argmax()
    tastes = np.bincount(events.category[(events.user == busiest) & (events.type == ITEM_VIEW)])
    assert tastes.max() > 3 * tastes.mean()


def test_late_events_arrive_behind_newer_ones_and_copies_soon_after_the_first() -> None:
    events = simulate(WEEK)
    order = deliveries(events, WEEK)
    behind = np.maximum.accumulate(events.time_us[order]) - events.time_us[order]
    assert (behind > MINUTE_US).mean() == pytest.approx(WEEK.late, abs=0.005)

    times = Counter(order.tolist())
    assert set(times) == set(range(WEEK.events))
    assert set(times.values()) == {1, 2}
    assert len(order) - WEEK.events == pytest.approx(WEEK.duplicates * WEEK.events, rel=0.2)
    first = {}
    for at, event in enumerate(order.tolist()):
        if event in first:  # its id is remembered for an hour of event time
            assert events.time_us[order[: at + 1]].max() - events.time_us[event] < HOUR_US
        first.setdefault(event, at)


def test_in_order_and_once_where_nothing_is_late_or_repeated() -> None:
    scale = replace(SMALL, late=0.0, duplicates=0.0)
    events = simulate(scale)
    order = deliveries(events, scale)
    assert len(order) == scale.events
    assert (np.diff(events.time_us[order]) > -MINUTE_US).all()


def test_a_label_says_whether_the_session_went_on_to_buy_the_viewed_item() -> None:
    events = simulate(SMALL)
    chosen = label_views(events, 500, seed=1)
    assert (np.diff(events.time_us[chosen]) >= 0).all()
    for view in chosen:
        assert events.type[view] == ITEM_VIEW
        later = (events.session == events.session[view]) & (events.time_us > events.time_us[view])
        views_after = np.flatnonzero(later & (events.type == ITEM_VIEW))
        until = views_after[0] if views_after.size else len(events.type)
        bought = np.flatnonzero(later & (events.type == PURCHASE))
        assert events.bought[view] == (bought.size > 0 and bought[0] < until)


@pytest.mark.parametrize(
    ("scale", "word"),
    [
        ({"events": 0}, "--events"),
        ({"users": 0}, "--users"),
        ({"items": 0}, "--items"),
        ({"late": 1.5}, "--late"),
        ({"duplicates": -0.1}, "--duplicates"),
        ({"span_us": 0}, "--span"),
    ],
)
def test_an_impossible_shop_is_refused_by_the_option_that_asks_for_it(
    scale: dict[str, float], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        replace(WEEK, **scale)  # type: ignore[arg-type]


def _rows(path: Path, format: Format) -> list[dict[str, object]]:
    """The rows of one file in the one shape that all formats mean."""
    if format == "ndjson":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [
            {
                "item_id": None,
                **row,
                "metadata": {"category": None, "total_amount": None, "rating": None} | row["metadata"],
            }
            for row in rows
        ]
    if format == "csv":
        strings = {"event_id", "session_id", "timestamp", "metadata.category", "metadata.total_amount"}
        convert = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(strings, pyarrow.string()), strings_can_be_null=True
        )
        flat = pyarrow.csv.read_csv(path, convert_options=convert).to_pylist()
        return [
            {name: value for name, value in row.items() if "." not in name}
            | {"metadata": {name[9:]: value for name, value in row.items() if name.startswith("metadata.")}}
            for row in flat
        ]
    table = pq.read_table(path)
    text = pyarrow.compute.strftime(table["timestamp"], format="%Y-%m-%dT%H:%M:%SZ")
    return table.set_column(5, "timestamp", text).to_pylist()


def test_all_formats_hold_the_same_rows(tmp_path: Path) -> None:
    written = {}
    for format in ("parquet", "ndjson", "csv"):
        made = generate(SMALL, tmp_path / format, format=format, files=3)
        assert list(made.files) == sorted((tmp_path / format).iterdir())
        written[format] = [row for path in made.files for row in _rows(path, format)]
    assert len(written["parquet"]) == SMALL.events + made.repeated
    assert written["ndjson"] == written["parquet"]
    assert written["csv"] == written["parquet"]


def test_money_is_text_with_its_cents(tmp_path: Path) -> None:
    made = generate(SMALL, tmp_path, files=1, format="parquet")
    events = simulate(SMALL)
    amounts = pq.read_table(made.files[0])["metadata"].combine_chunks().field("total_amount")
    texts = [text for text in amounts.to_pylist() if text is not None]
    assert all(text[-3] == "." for text in texts)
    counted = Counter(events.amount_cents[deliveries(events, SMALL)].tolist())
    del counted[-1]
    assert Counter(int(Decimal(text) * 100) for text in texts) == counted


def test_a_file_that_exists_is_never_written_again(tmp_path: Path) -> None:
    first = generate(SMALL, tmp_path, files=2)
    before = first.files[0].read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        generate(SMALL, tmp_path, files=2)
    later = generate(replace(SMALL, end_us=END + DAY_US), tmp_path, files=2)
    assert first.files[0].read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [*first.files, *later.files]  # in order of time, so appended


def test_the_same_run_has_the_same_ids_and_a_later_one_shares_none(tmp_path: Path) -> None:
    """Else the second run's events would be dropped as duplicates of the first one's."""

    def ids(folder: str, end_us: int) -> set[str]:
        made = generate(replace(SMALL, end_us=end_us), tmp_path / folder, files=1)
        return set(pq.read_table(made.files[0])["event_id"].to_pylist())

    first = ids("first", END)
    assert len(first) == SMALL.events
    assert ids("again", END) == first
    assert not ids("later", END + HOUR_US) & first


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    from featureflow_cli.generate.files import write

    table = pyarrow.table({"timestamp": ["this is no timestamp"]})
    with pytest.raises(pyarrow.ArrowException):
        write(table, tmp_path / "events.csv", "csv")
    assert list(tmp_path.iterdir()) == []
