"""A log of many commits: its ends in one pass, its small files joined beside commits, its own log cut behind it."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow_cli.errors import Conflict, StoreUnavailable
from featureflow_cli.offline import compaction
from featureflow_cli.offline.delta import CHECKPOINT_EVERY, Table
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.log import OfflineLog, trim
from featureflow_cli.offline.places import Folder
from featureflow_cli.times import DAY_US
from tests.integration.offline.places import Stored, in_bucket, in_folder
from tests.integration.offline.shop import NOON_US, events, positions, read, source
from tests.integration.offline.test_letters import letters
from tests.services.s3 import S3Server

LONG_AGO_S = 3 * 3600


@pytest.fixture
def folder(tmp_path: Path) -> Stored:
    return in_folder(tmp_path)


def moved(log: OfflineLog, commits: int) -> None:
    """Moves the ends of three partitions, one a commit."""
    base = log.snapshot()
    for number in range(commits):
        partition = number % 3
        start = base.ends.get(partition, 0)
        base = log.append(events(log, 0, 0, 0), {partition: (start, start + 1 + number)}, base)


def test_all_ends_are_those_that_deltalake_tells_one_by_one(folder: Stored) -> None:
    """At every version: before, at and after checkpoints; for who follows, who begins, and who looks back."""
    log = OfflineLog(folder.place, source())
    moved(log, CHECKPOINT_EVERY * 2 + 5)
    follower = Table.open(folder.place, 0)
    assert follower is not None
    for version in range(log.snapshot().version + 1):
        table = Table.open(folder.place, version)
        assert table is not None
        told = {f"featureflow/{n}": table._table.transaction_version(f"featureflow/{n}") for n in range(4)}
        expected = {app_id: end for app_id, end in told.items() if end is not None}
        assert table.transactions() == expected
        follower._table = table._table
        assert follower.transactions() == expected


def age(folder: Stored, below: int) -> None:
    """Makes the log's files of versions under `below` three hours old."""
    assert isinstance(folder.place, Folder)
    for path in (folder.place.path / "_delta_log").glob("0*"):
        if int(path.name[:20]) < below:
            os.utime(path, (time.time() - LONG_AGO_S,) * 2)


def test_the_log_is_cut_and_who_slept_meanwhile_wakes_up_in_the_present(folder: Stored) -> None:
    """The sleeper's version is gone; its ends are those of all others, and its commit stands or is refused."""
    log, sleeper = OfflineLog(folder.place, source()), OfflineLog(folder.place, source())
    moved(log, 10)
    asleep = sleeper.snapshot()
    moved(log, 50)
    age(folder, 50)
    moved(log, 2 * CHECKPOINT_EVERY)
    assert len(folder.paths()) < 70
    now = log.snapshot()
    with pytest.raises(StoreUnavailable, match="no version"):
        log.snapshot(asleep.version)
    with pytest.raises(Conflict):
        sleeper.append(events(log, 0, 0, 0), {0: (asleep.ends[0], asleep.ends[0] + 9)}, asleep)
    assert sleeper.snapshot().ends == now.ends
    end = now.ends[0]
    assert sleeper.append(events(log, 0, end, end + 5), {0: (end, end + 5)}, now).ends[0] == end + 5
    assert OfflineLog(folder.place, source()).snapshot().ends == log.snapshot().ends


def test_a_commit_in_a_bucket_takes_few_requests_however_many_there_were(
    s3: S3Server, tmp_path: Path
) -> None:
    """One after the other, each of them tens of milliseconds: they decide how many workers may share a log."""
    log = OfflineLog(in_bucket(s3, tmp_path).place, source())
    moved(log, CHECKPOINT_EVERY + 5)
    before, base = s3.requests(), log.snapshot()
    end = base.ends[0]
    log.append(events(log, 0, end, end + 5), {0: (end, end + 5)}, base)
    assert s3.requests() - before <= 17


def test_compaction_is_due_by_the_small_files_of_one_day(folder: Stored) -> None:
    """Three files of two days: two of one day are many where two are many."""
    log = OfflineLog(folder.place, source())
    base = log.append(events(log, 0, 0, 2, step_us=DAY_US), {0: (0, 2)}, log.snapshot())
    assert not compaction.is_due(base.files, 2)
    base = log.append(events(log, 0, 2, 3, step_us=1), {0: (2, 3)}, base)
    assert compaction.is_due(base.files, 2)
    assert not compaction.is_due(base.files, 3)


def test_compaction_beside_commits_loses_and_doubles_nothing(stored: Stored) -> None:
    """Two compactions, one of them of no use, beside a writer that never waits for them."""
    stop = threading.Event()

    def compact() -> int:
        log, joined = OfflineLog(stored.place, source()), 0
        while not stop.is_set():
            joined += log.compact(2).before
        return joined

    log = OfflineLog(stored.place, source())
    base = log.append(events(log, 0, 0, 10), {0: (0, 10)}, log.snapshot())
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(compact) for _ in range(2)]
        try:
            for start in range(10, 10 + 10 * stored.commits, 10):
                rows, spans = events(log, 0, start, start + 10), {0: (start, start + 10)}
                try:
                    base = log.append(rows, spans, base)
                except Conflict:
                    base = log.snapshot()
                    rows, left = trim(rows, spans, base)
                    assert not left
        finally:
            stop.set()
        assert sum(each.result(60) for each in running) > 0
    log.compact(2)
    after = log.snapshot()
    end = 10 + 10 * stored.commits
    assert after.ends == {0: end}
    assert positions(after) == [(0, offset) for offset in range(end)]
    assert len(after.files) == 1
    log.vacuum(0)
    assert stored.data_files() == [file.name for file in after.files]


@settings(max_examples=15)
@given(
    commits=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=2, max_size=5),
    part_rows=st.integers(1, 12),
)
def test_a_joined_file_has_every_row_once_and_in_order_of_time(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[int]], part_rows: int
) -> None:
    """However few rows are unpacked at once, ties and late events among them."""
    log = OfflineLog(str(tmp_path_factory.mktemp("log")), source())
    base, start = log.snapshot(), 0
    for seconds in commits:
        end = start + len(seconds)
        rows = events(log, 0, start, end)
        moments = pa.array([NOON_US + second * 1_000_000 for second in seconds]).cast(
            rows.schema.field(3).type
        )
        base = log.append(rows.set_column(3, rows.schema.field(3), moments), {0: (start, end)}, base)
        start = end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "PART_ROWS", part_rows)
        assert log.compact().before == len(commits)
    (file,) = log.snapshot().files
    rows = read(file)
    assert sorted(rows.column("_offset").to_pylist()) == list(range(start))
    found = rows.column("timestamp").cast("int64").to_pylist()
    assert found == sorted(NOON_US + second * 1_000_000 for seconds in commits for second in seconds)
    assert (file.rows, file.first_us, file.last_us) == (start, found[0], found[-1])
    assert file.bounds == {"_partition": (0, 0), "_offset": (0, start - 1)}


def test_letters_are_compacted_and_known_positions_stay_known(stored: Stored) -> None:
    """After it a replay still brings nothing twice."""
    held = DeadLetters(stored.place)
    for offset in range(4):
        held.append(letters([("a", 0, offset), ("b", 0, offset)]))
    assert (held.compact().before, held.compact().before) == (4, 0)
    assert held.read().num_rows == 8
    assert held.append(letters([("a", 0, 2), ("a", 0, 4)])) == 1
    assert held.counts() == {"a": 5, "b": 4}


def test_a_replay_opens_no_file_of_letters_but_those_of_its_offsets(folder: Stored) -> None:
    """The other files are gone, and nobody misses them."""
    held = DeadLetters(folder.place)
    files: list[set[str]] = []
    for name, start in (("a", 0), ("a", 100), ("a", 200), ("b", 100)):
        held.append(letters([(name, 0, start), (name, 0, start + 9)]))
        files.append(set(folder.data_files()).difference(*files))
    for path in files[0] | files[2] | files[3]:
        folder.delete(path)
    assert held.append(letters([("a", 0, 100), ("a", 0, 105)])) == 1
