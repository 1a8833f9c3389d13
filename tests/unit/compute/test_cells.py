"""Cells are packed to be sorted: the order is the one of their parts, however wide these are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.cells import Cells, by_state_and_time, sort
from featureflow_cli.compute.views import Key, Lift, Merge, StateColumn
from featureflow_cli.compute.windows import BEGINNING_US
from featureflow_cli.times import HOUR_US, MINUTE_US

WIDE = st.sampled_from([0, 1, 2, 255, 2**40, 2**62, 2**63 - 1, -1, -(2**63), -(2**63) + 1])
NEAR = st.integers(0, 3)
TILES = st.sampled_from(
    [BEGINNING_US, 0, HOUR_US, -HOUR_US, MINUTE_US, 10**9 * MINUTE_US, -(10**9) * HOUR_US]
)
KINDS = {
    "no key": (Merge.SUM, Key.NONE),
    "hash": (Merge.SUM, Key.HASH),
    "code": (Merge.SUM, Key.CODE),
    "newest": (Merge.NEWEST, Key.TIME),
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(st.tuples(st.integers(0, 2) | st.just(2**40), TILES, NEAR | WIDE, NEAR | WIDE)))
def test_cells_are_sorted_by_state_tile_key_and_in_lists_by_value(
    kind: str, rows: list[tuple[int, ...]]
) -> None:
    merge, key = KINDS[kind]
    column = StateColumn(merge, Lift.ONE, key=key, k=3, horizons=((HOUR_US, MINUTE_US), (None, 1)))
    columns = [np.array([row[place] for row in rows], np.int64) for place in range(4)]
    found = sort(column, Cells(*columns))
    got = list(
        zip(*(getattr(found, name).tolist() for name in ("state", "tile", "key", "value")), strict=True)
    )

    def order(row: tuple[int, ...]) -> tuple[int, ...]:
        state, tile, text, value = row
        keyed = {"no key": (), "hash": (text % 2**64,), "code": (text,), "newest": (text, value)}[kind]
        return (state, tile, *keyed)

    assert [order(row) for row in got] == sorted(order(row) for row in rows)
    assert sorted(got) == sorted(rows)


@given(st.lists(st.tuples(st.integers(0, 2) | st.just(2**40), NEAR | WIDE)), st.booleans())
def test_events_are_put_in_order_of_state_and_time(rows: list[tuple[int, int]], are_sorted: bool) -> None:
    """However far apart they lie; nothing is to be done where they are in order."""
    rows = sorted(rows) if are_sorted else rows
    columns = [np.array([row[place] for row in rows], np.int64) for place in range(2)]
    order = by_state_and_time(*columns)
    assert (order is None) == (rows == sorted(rows))
    if order is not None:
        assert [rows[at] for at in order.tolist()] == sorted(rows)
