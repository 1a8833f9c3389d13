"""The offline log keeps each accepted event once, whoever commits, and in whatever order (design.md 4)."""

import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow_cli.errors import Conflict, FeatureflowError, StoreUnavailable, UsageError
from featureflow_cli.offline.buckets import Connection, opened
from featureflow_cli.offline.compaction import Compacted
from featureflow_cli.offline.log import MeaningMoved, OfflineLog, trim
from featureflow_cli.times import DAY_US
from tests.integration.offline.places import Stored
from tests.integration.offline.shop import (
    NOON_US,
    append_all,
    events,
    positions,
    read,
    source,
    write_and_stop,
)

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def log(stored: Stored) -> OfflineLog:
    return OfflineLog(stored.place, source())


def test_there_is_no_table_before_the_first_commit(log: OfflineLog) -> None:
    """Looking makes nothing."""
    snapshot = log.snapshot()
    assert (snapshot.version, snapshot.ends, snapshot.files) == (-1, {}, ())
    assert not log.place.holds_table()


def test_the_first_commit_makes_the_table_with_its_ends(log: OfflineLog) -> None:
    """An unknown partition may begin anywhere: at the first offset that Kafka still has."""
    after = log.append(events(log, 0, 5, 10), {0: (5, 10), -1: (0, 1 << 40)}, log.snapshot())
    assert after.ends == {-1: 1 << 40, 0: 10}
    assert after.meaning == "m1"
    assert OfflineLog(log.place, source()).snapshot().ends == after.ends
    assert positions(after) == [(0, offset) for offset in range(5, 10)]


def test_files_are_sorted_by_time_in_daily_folders_and_say_what_they_hold(log: OfflineLog) -> None:
    """The day is the event's own, late ones included; bounds are what readers prune by."""
    rows = events(log, 3, 0, 4, step_us=-DAY_US // 2)
    after = log.append(rows, {3: (0, 4)}, log.snapshot())
    assert [(Path(file.path).parent.name, file.rows, file.bounds["_offset"]) for file in after.files] == [
        ("_day=2025-12-31", 2, (2, 3)),
        ("_day=2026-01-01", 2, (0, 1)),
    ]
    last = after.files[-1]
    assert (last.first_us, last.last_us, last.bounds["_partition"]) == (
        NOON_US - DAY_US // 2,
        NOON_US,
        (3, 3),
    )
    assert last.columns == frozenset(log.schema.names)
    assert last.may_hold(NOON_US, None)
    assert not last.may_hold(NOON_US + 1, None)
    assert not last.may_hold(None, last.first_us)


def test_a_commit_without_rows_moves_the_end(log: OfflineLog) -> None:
    """All of a batch may be duplicates or letters; the log has decided them all the same."""
    after = log.append(events(log, 0, 0, 0), {0: (0, 9)}, log.snapshot())
    assert (after.ends, after.files) == ({0: 9}, ())
    assert log.append(events(log, 0, 0, 0), {0: (9, 9)}, after).version == after.version


def test_the_ends_are_known_to_a_fresh_reader_past_checkpoints(stored: Stored, log: OfflineLog) -> None:
    """Application transactions outlive the log files that are folded into checkpoints."""
    base = log.append(events(log, 2, 0, 0), {2: (0, 1), -2: (0, 1)}, log.snapshot())
    for offset in range(45):
        base = log.append(events(log, 0, 0, 0), {0: (offset, offset + 1)}, base)
    assert any(key.endswith(".checkpoint.parquet") for key in stored.paths())
    assert OfflineLog(log.place, source()).snapshot().ends == {-2: 1, 0: 45, 2: 1} == base.ends


def test_a_stale_snapshot_is_refused_and_leaves_no_file(stored: Stored, log: OfflineLog) -> None:
    """Both commit [0, 10); the second is refused, and what it wrote is gone."""
    base = log.snapshot()
    after = log.append(events(log, 0, 0, 10), {0: (0, 10)}, base)
    other = OfflineLog(log.place, source())
    with pytest.raises(Conflict, match="ends at 10"):
        other.append(events(log, 0, 0, 10), {0: (0, 10)}, base)
    assert log.snapshot().version == after.version
    assert len(stored.data_files()) == 1


def test_what_is_left_after_a_conflict_is_trimmed_by_partition(log: OfflineLog) -> None:
    """Of partition 0 the rest is committed, of 1 nothing is left, of 2 all is."""
    base = log.append(events(log, 0, 0, 10), {0: (0, 10), 1: (0, 5)}, log.snapshot())
    rows = pa.concat_tables([events(log, 0, 5, 15), events(log, 1, 0, 5), events(log, 2, 0, 3)])
    spans = {0: (5, 15), 1: (0, 5), 2: (0, 3)}
    with pytest.raises(Conflict):
        log.append(rows, spans, base)
    rows, left = trim(rows, spans, log.snapshot())
    assert left == {0: (10, 15), 2: (0, 3)}
    after = log.append(rows, left, base)
    assert after.ends == {0: 15, 1: 5, 2: 3}
    assert positions(after) == [(0, o) for o in range(15)] + [(2, o) for o in range(3)]


def test_a_gap_cannot_be_trimmed(log: OfflineLog) -> None:
    """The table ends at 10, the span starts at 12: rows 10 and 11 would be lost."""
    after = log.append(events(log, 0, 0, 10), {0: (0, 10)}, log.snapshot())
    with pytest.raises(Conflict):
        log.append(events(log, 0, 12, 15), {0: (12, 15)}, after)
    with pytest.raises(FeatureflowError, match="up to 12 are missing"):
        trim(events(log, 0, 12, 15), {0: (12, 15)}, after)


def test_rows_outside_their_spans_are_an_error(log: OfflineLog) -> None:
    """A row past the end would be decided twice."""
    with pytest.raises(FeatureflowError, match="outside the offsets"):
        log.append(events(log, 0, 0, 10), {0: (0, 9)}, log.snapshot())
    with pytest.raises(FeatureflowError, match="outside the offsets"):
        log.append(events(log, 0, 0, 0), {0: (9, 0)}, log.snapshot())
    assert log.snapshot().version == -1


def test_two_processes_make_the_table_and_append_at_once(stored: Stored) -> None:
    """Own partitions: no commit is lost, and none is refused for good."""
    with SPAWN.Pool(2) as pool:
        running = [
            pool.apply_async(append_all, (stored.place, partition, stored.commits, 10))
            for partition in (0, 1)
        ]
        assert [each.get(60) for each in running] == [0, 0]
    after = OfflineLog(stored.place, source()).snapshot()
    end = stored.commits * 10
    assert after.ends == {0: end, 1: end}
    assert positions(after) == [(p, o) for p in (0, 1) for o in range(end)]


def test_two_processes_on_one_partition_commit_each_offset_once(stored: Stored) -> None:
    """A zombie and its successor bring the same events in the same batches."""
    with SPAWN.Pool(2) as pool:
        running = [pool.apply_async(append_all, (stored.place, 0, stored.commits, 10)) for _ in range(2)]
        for each in running:
            each.get(60)
    after = OfflineLog(stored.place, source()).snapshot()
    end = stored.commits * 10
    assert after.ends == {0: end}
    assert positions(after) == [(0, offset) for offset in range(end)]
    assert stored.data_files() == [file.name for file in after.files]


def test_a_file_written_before_a_kill_is_never_read(stored: Stored, log: OfflineLog) -> None:
    """Killed between the file and its commit: the file lies there, invisible, until it is vacuumed."""
    before = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    process = SPAWN.Process(target=write_and_stop, args=(log.place, 5, 9))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(stored.data_files()) == 2
    assert log.snapshot().version == before.version
    after = log.append(events(log, 0, 5, 9), {0: (5, 9)}, log.snapshot())
    assert positions(after) == [(0, offset) for offset in range(9)]


@settings(max_examples=15)
@given(
    batches=st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=12
    )
)
def test_any_interleaving_of_two_writers_yields_each_offset_once(
    new_place: Callable[[], Stored], batches: list[tuple[int, int, bool, bool]]
) -> None:
    """Each step: a writer reads on from where it stands, and commits on a fresh or on an old snapshot."""
    place = new_place().place
    logs = [OfflineLog(place, source()) for _ in range(2)]
    bases = [log.snapshot() for log in logs]
    positions_read = [0, 0]
    for writer, size, look, lose_answer in batches:
        log, start = logs[writer], positions_read[writer]
        rows, spans = events(log, 0, start, start + size), {0: (start, start + size)}
        if look:
            bases[writer] = log.snapshot()
        while spans:
            try:
                after = log.append(rows, spans, bases[writer])
            except Conflict:
                bases[writer] = log.snapshot()
                rows, spans = trim(rows, spans, bases[writer])
            else:
                bases[writer] = bases[writer] if lose_answer else after
                break
        positions_read[writer] = start + size
    final = OfflineLog(place, source()).snapshot()
    assert final.ends == {0: max(positions_read)}
    assert positions(final) == [(0, offset) for offset in range(max(positions_read))]


def test_an_older_meaning_is_refused(log: OfflineLog) -> None:
    """One commit raises the meaning; its ends are the new views' floor, and old workers must learn."""
    before = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    newer = OfflineLog(log.place, source(meaning="m2", extra=True))
    with pytest.raises(MeaningMoved):
        newer.append(events(newer, 0, 5, 6), {0: (5, 6)}, before)
    raised = newer.raise_meaning(newer.snapshot())
    assert (raised.meaning, raised.meaning_order, raised.ends) == ("m2", 2, {0: 5})
    with pytest.raises(MeaningMoved):
        log.append(events(log, 0, 5, 6), {0: (5, 6)}, before)
    with pytest.raises(MeaningMoved):
        log.raise_meaning(before)
    with pytest.raises(MeaningMoved):
        log.raise_meaning(log.snapshot(), order=2)
    after = newer.append(events(newer, 0, 5, 6), {0: (5, 6)}, raised)
    assert newer.raise_meaning(after).version == after.version
    assert [file.columns is not None and "extra" in file.columns for file in after.files].count(True) == 1


def test_verdicts_are_not_committed_after_the_meaning_went_there_and_back(log: OfflineLog) -> None:
    """They rest on a memory that others have added to under the meaning in between."""
    before = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    newer = OfflineLog(log.place, source(meaning="m2"))
    newer.raise_meaning(newer.snapshot())
    again = OfflineLog(log.place, log.source)
    back = again.raise_meaning(again.snapshot())
    assert back.meaning == before.meaning
    with pytest.raises(MeaningMoved):
        log.append(events(log, 0, 5, 6), {0: (5, 6)}, before)
    log.append(events(log, 0, 5, 6), {0: (5, 6)}, back)


def test_verdicts_under_another_meaning_are_not_committed(log: OfflineLog) -> None:
    """The rows were judged by a snapshot of m1, even if this writer has learned m2 since."""
    before = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    newer = OfflineLog(log.place, source(meaning="m2"))
    newer.raise_meaning(before)
    with pytest.raises(MeaningMoved):
        newer.append(events(newer, 0, 5, 6), {0: (5, 6)}, before)


def test_a_column_keeps_its_type(log: OfflineLog) -> None:
    """What the log holds cannot be read as something else: the message says which column, and what to do."""
    base = log.append(events(log, 0, 0, 1), {0: (0, 1)}, log.snapshot())
    columns = {**source().columns, "user_id": source(extra=True).columns["extra"]}
    with pytest.raises(FeatureflowError, match=r"user_id \(int64 -> double\)(.|\n)*new name"):
        OfflineLog(log.place, source(meaning="m2", columns=columns)).raise_meaning(base)
    assert log.snapshot().version == base.version


def test_the_memory_of_ids_is_what_the_partition_accepted_lately(log: OfflineLog) -> None:
    """e0 … e5 | e6 … e9        of partition 0; others and offsets past the snapshot's end are not in it."""
    base = log.append(events(log, 0, 0, 10), {0: (0, 10)}, log.snapshot())
    base = log.append(events(log, 1, 0, 20), {1: (0, 20)}, base)
    log.append(events(log, 0, 10, 12), {0: (10, 12)}, base)
    assert base.files  # the memory and the ends come from one snapshot
    found = log.recent(base, 0, NOON_US + 6_000_000)
    assert sorted(found.column("id").to_pylist()) == [f"0-{offset}" for offset in range(6, 10)]
    assert pc.min(found.column("ts").cast("int64")).as_py() == NOON_US + 6_000_000
    assert log.newest_us(base, 0) == NOON_US + 9_000_000
    assert log.newest_us(base, 7) is None


def joined(done: Compacted) -> tuple[int, int]:
    return done.before, done.after


def test_compaction_changes_no_row_and_no_end(log: OfflineLog) -> None:
    """day 1: a | day 2: a b c | day 3: c      ->  one file a day; earlier versions stay readable until a vacuum."""
    base = log.snapshot()
    for start in range(0, 30, 10):
        base = log.append(
            events(log, 0, start, start + 10, step_us=DAY_US // 16), {0: (start, start + 10)}, base
        )
    assert joined(log.compact()) == (3, 1)
    after = log.snapshot()
    assert (len(after.files), after.ends, positions(after)) == (3, {0: 30}, positions(base))
    assert all("_offset" in file.bounds for file in after.files)
    assert joined(log.compact()) == (0, 0)
    assert log.append(events(log, 0, 30, 31), {0: (30, 31)}, base).ends == {0: 31}
    assert log.snapshot(base.version).ends == base.ends
    assert len(log.vacuum(0)) == 3
    assert positions(log.snapshot()) == [(0, offset) for offset in range(31)]


def test_compaction_takes_columns_that_came_later(log: OfflineLog) -> None:
    """Files of both schemas become one in which the old rows have nulls."""
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    newer = OfflineLog(log.place, source(meaning="m2", extra=True))
    newer.append(events(newer, 0, 5, 6), {0: (5, 6)}, newer.raise_meaning(base))
    assert joined(newer.compact()) == (2, 1)
    (file,) = newer.snapshot().files
    assert read(file).column("extra").to_pylist() == [None] * 5 + [2.5]


def test_time_travel_answers_for_the_version_asked_for(log: OfflineLog) -> None:
    """A dataset records the version it was built from."""
    first = log.append(events(log, 0, 0, 3), {0: (0, 3)}, log.snapshot())
    log.append(events(log, 0, 3, 6), {0: (3, 6)}, first)
    again = log.snapshot(first.version)
    assert (again.ends, positions(again)) == ({0: 3}, [(0, 0), (0, 1), (0, 2)])
    with pytest.raises(StoreUnavailable):
        log.snapshot(99)


def test_object_storage_is_refused_by_name() -> None:
    """Not taken for a folder called `s3:`."""
    with pytest.raises(UsageError, match="not a folder"):
        OfflineLog("s3://bucket/log", source())
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        opened("gs://bucket/log", Connection(), Path("cache"))
