"""Accepted events as a relation: from the log, from tables read in place, or both cut at `until`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.spec.types import STRING, ColumnType
from featureflow_cli.times import DAY_US, SECOND_US
from tests.integration.offline.shop import NOON_US, events, source


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(threads=2) as engine:
        yield engine


@pytest.fixture
def log(tmp_path: Path) -> OfflineLog:
    """Offsets 0 … 29 of partition 0 and 0 … 4 of partition 1, 10,000 s apart: over four days, in two commits."""
    log = OfflineLog(str(tmp_path / "a[b]c*" / "it's"), source())
    base = log.append(events(log, 0, 0, 20, step_us=STEP_US), {0: (0, 20)}, log.snapshot())
    rows = pa.concat_tables([events(log, 0, 20, 30, step_us=STEP_US), events(log, 1, 0, 5, step_us=STEP_US)])
    log.append(rows, {0: (20, 30), 1: (0, 5)}, base)
    return log


STEP_US = 10_000 * SECOND_US


def offsets(engine: Engine, relation: str, partition: int = 0) -> list[int]:
    found = engine.table(f"SELECT _offset FROM {relation} WHERE _partition = {partition} ORDER BY _offset")
    return list(found.column("_offset").to_pylist())


def test_the_log_is_read_with_the_sources_types(engine: Engine, log: OfflineLog) -> None:
    """Odd characters in the path are no pattern; timestamps compare as TIMESTAMPTZ."""
    relation = accepted(engine, log.source, log.snapshot())
    assert engine.table(f"SELECT column_type FROM (DESCRIBE {relation})").column(0).to_pylist() == [
        "VARCHAR",
        "BIGINT",
        "DECIMAL(18,2)",
        "TIMESTAMP WITH TIME ZONE",
        "BIGINT",
        "BIGINT",
        "TIMESTAMP WITH TIME ZONE",
    ]
    sql = f"SELECT count(*), sum(epoch_us(timestamp) - {NOON_US} - _offset * {STEP_US}) FROM {relation}"
    assert engine.row(sql) == (35, 0)


def test_an_empty_log_is_an_empty_relation(engine: Engine, tmp_path: Path) -> None:
    """Of the right types, before anything was streamed."""
    relation = accepted(engine, source(), OfflineLog(str(tmp_path / "none"), source()).snapshot())
    assert engine.row(f"SELECT count(*), count(amount + 1.00) FROM {relation}") == (0, 0)


def test_only_files_that_can_hold_the_time_range_are_opened(engine: Engine, log: OfflineLog) -> None:
    """The other days' files are gone, and nobody misses them."""
    snapshot = log.snapshot()
    since, before = NOON_US + DAY_US, NOON_US + 2 * DAY_US
    outside = [file for file in snapshot.files if not file.may_hold(since, before)]
    assert outside
    for file in outside:
        Path(file.path).unlink()
    relation = accepted(engine, log.source, snapshot, since_us=since, before_us=before)
    assert offsets(engine, relation) == list(range(9, 18))


def test_an_earlier_version_and_the_ends_of_a_floor_cut_alike(engine: Engine, log: OfflineLog) -> None:
    """Version 1 had offsets below 20 of partition 0; so does the newest one below those ends."""
    earlier = accepted(engine, log.source, log.snapshot(1), name="earlier")
    floor = accepted(engine, log.source, log.snapshot(), name="floor", below={0: 20})
    assert offsets(engine, earlier) == offsets(engine, floor) == list(range(20))
    assert offsets(engine, floor, 1) == []
    part = accepted(engine, log.source, log.snapshot(), below={0: 25, 1: 3}, above={0: 22})
    assert (offsets(engine, part), offsets(engine, part, 1)) == ([22, 23, 24], [0, 1, 2])
    none = accepted(engine, log.source, log.snapshot(), below={})
    assert offsets(engine, none) == []


def test_columns_that_came_later_are_null_in_older_rows(engine: Engine, log: OfflineLog) -> None:
    """Also where no file has the column yet."""
    newer = OfflineLog(log.place, source(meaning="m2", extra=True))
    base = newer.raise_meaning(newer.snapshot())
    relation = accepted(engine, newer.source, base)
    assert engine.row(f"SELECT count(*), count(extra) FROM {relation}") == (35, 0)
    after = newer.append(events(newer, 0, 30, 33, step_us=STEP_US), {0: (30, 33)}, base)
    relation = accepted(engine, newer.source, after)
    assert engine.row(f"SELECT count(*), count(extra), sum(extra) FROM {relation}") == (38, 3, 46.5)


def test_tables_read_in_place_come_once_and_may_be_scanned_again(engine: Engine, log: OfflineLog) -> None:
    """Cut at their own ends and times, like the log."""
    table = source(streamed=False, batch="events/*.parquet")
    given = [events(log, -1, start, start + 10) for start in (0, 10, 20)]
    relation = accepted(engine, table, None, iter(given), since_us=NOON_US + 5 * SECOND_US, below={-1: 20})
    assert offsets(engine, relation, -1) == offsets(engine, relation, -1) == list(range(5, 20))


def test_an_error_in_a_table_read_in_place_stays_what_it_is(engine: Engine, log: OfflineLog) -> None:
    """What the reader raises while DuckDB pulls keeps its kind and its words."""

    def broken() -> Iterator[pa.Table]:
        yield events(log, -1, 0, 10)
        message = "events/2.parquet has changed since it was listed"
        raise StoreUnavailable(message)

    with pytest.raises(StoreUnavailable, match=r"^events/2\.parquet has changed since it was listed$"):
        accepted(engine, source(streamed=False, batch="x"), None, broken())
    assert engine.row("SELECT 1") == (1,)


def test_history_counts_before_until_and_the_log_from_it_on(engine: Engine, log: OfflineLog) -> None:
    """history 0 … 14 ) until [ log 15 … 29; each of both has events on the other side, which do not count."""
    until = NOON_US + 15 * STEP_US
    both = source(batch="history/*.parquet", until_us=until)
    history = [events(log, -1, 0, 20, step_us=STEP_US)]
    relation = accepted(engine, both, log.snapshot(), iter(history), below={0: 28})
    assert offsets(engine, relation, -1) == list(range(15))
    assert offsets(engine, relation, 0) == list(range(15, 28))
    relation = accepted(engine, both, log.snapshot(), iter(history), before_us=until - STEP_US)
    assert (offsets(engine, relation, -1), offsets(engine, relation, 0)) == (list(range(14)), [])


@settings(max_examples=20)
@given(
    moments=st.lists(st.integers(-(10**15), 4 * 10**15), min_size=1, max_size=20),
    since=st.none() | st.integers(-(10**15), 4 * 10**15),
    width=st.none() | st.integers(0, 10**15),
)
def test_pruning_keeps_exactly_the_events_of_the_range(
    tmp_path_factory: pytest.TempPathFactory, moments: list[int], since: int | None, width: int | None
) -> None:
    """Moments from 1938 to 2096, ties and all; ranges may be open."""
    log = OfflineLog(str(tmp_path_factory.mktemp("log")), source())
    rows = events(log, 0, 0, len(moments))
    at = rows.schema.get_field_index("timestamp")
    rows = rows.set_column(
        at, rows.schema.field(at), pa.array(moments, pa.int64()).cast(rows.schema.field(at).type)
    )
    snapshot = log.append(rows, {0: (0, len(moments))}, log.snapshot())
    before = None if since is None or width is None else since + width
    with Engine(threads=1) as engine:
        relation = accepted(engine, log.source, snapshot, since_us=since, before_us=before)
        found = offsets(engine, relation)
    assert found == [
        offset
        for offset, moment in enumerate(moments)
        if (since is None or moment >= since) and (before is None or moment < before)
    ]


@pytest.mark.parametrize("element", [STRING, ColumnType("double")], ids=str)
def test_lists_pass_through(engine: Engine, tmp_path: Path, element: ColumnType) -> None:
    """A latest view may have a column of lists, nulls in them included."""
    listed: Any = ColumnType("list", element=element)
    held = source(columns={**source().columns, "extra": listed})
    log = OfflineLog(str(tmp_path / "log"), held)
    given = [["1", None], None, []] if element == STRING else [[1.5, None], None, []]
    rows = events(OfflineLog("unused", source()), 0, 0, 3).add_column(4, "extra", pa.array(given))
    snapshot = log.append(rows.select(log.schema.names).cast(log.schema), {0: (0, 3)}, log.snapshot())
    relation = accepted(engine, held, snapshot)
    assert engine.table(f"SELECT extra FROM {relation} ORDER BY _offset").column(0).to_pylist() == given
