"""Drafts: rows that are encoded before their commit are those that it lists, and nothing else ever lies there."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow_cli.errors import Conflict
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.times import DAY_US
from tests.integration.offline.places import Stored
from tests.integration.offline.shop import NOON_US, events, positions, read, source


@settings(max_examples=25)
@given(
    parts=st.lists(st.lists(st.integers(-3, 3), min_size=0, max_size=8), min_size=1, max_size=5),
    drafted=st.integers(0, 5),
)
def test_in_whatever_parts_rows_come_a_day_has_one_file_of_them(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]], drafted: int
) -> None:
    """Of the first parts there is a draft, the rest comes with the commit; days alternate as they like."""
    log = OfflineLog(str(tmp_path_factory.mktemp("log")), source())
    days = [day for part in parts for day in part]
    rows = events(log, 0, 0, len(days))
    place = rows.schema.get_field_index("timestamp")
    moments = pa.array([NOON_US + day * DAY_US for day in days], pa.int64()).cast(
        rows.schema.field(place).type
    )
    rows = rows.set_column(place, rows.schema.field(place), moments)
    draft, start = log.draft(), 0
    for part in parts[:drafted]:
        draft.add(rows.slice(start, len(part)))
        start += len(part)
    assert draft.rows == start
    after = log.append(rows, {0: (0, len(days))}, log.snapshot(), draft)
    assert after.ends == ({0: len(days)} if days else {})
    assert len(after.files) == len(set(days))
    found = [(file, read(file)) for file in after.files]
    for file, held in found:
        moments_us = held.column("timestamp").cast("int64").to_pylist()
        offsets = held.column("_offset").to_pylist()
        assert (file.rows, file.first_us, file.last_us) == (len(offsets), min(moments_us), max(moments_us))
        assert file.bounds["_offset"] == (min(offsets), max(offsets))
    if found:
        together = pa.concat_tables([held for _, held in found]).sort_by("_offset")
        assert together.equals(rows)


def test_a_draft_that_is_let_go_leaves_nothing(stored: Stored) -> None:
    log = OfflineLog(stored.place, source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    log.draft().add(events(log, 0, 5, 10))
    assert stored.data_files() == [file.name for file in base.files]


def test_a_draft_that_came_too_late_leaves_nothing(stored: Stored) -> None:
    """Another writer has committed some of its rows: it is refused like any commit."""
    log = OfflineLog(stored.place, source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    draft = log.draft()
    draft.add(events(log, 0, 5, 10))
    other = OfflineLog(stored.place, source())
    after = other.append(events(log, 0, 5, 7), {0: (5, 7)}, other.snapshot())
    with pytest.raises(Conflict):
        log.append(events(log, 0, 5, 10), {0: (5, 10)}, base, draft)
    assert positions(log.snapshot()) == [(0, offset) for offset in range(7)]
    assert stored.data_files() == [file.name for file in after.files]
