"""Copies of a bucket's files: each fetched once, whole, by whoever asks first; what nobody uses makes room."""

import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.log import accepted
from featureflow_cli.offline import cache
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.times import DAY_US
from tests.integration.offline.places import in_bucket
from tests.integration.offline.shop import NOON_US, events, source
from tests.services.s3 import S3Server

CONTENT = {f"_day=1/{number}.parquet": bytes([number]) * (number + 1) for number in range(5)}
FILES = [(path, len(content)) for path, content in CONTENT.items()]


def reader(asked: list[str]) -> Callable[[str], io.BytesIO]:
    def read(path: str) -> io.BytesIO:
        asked.append(path)
        return io.BytesIO(CONTENT[path])

    return read


def test_each_file_is_fetched_once(tmp_path: Path) -> None:
    asked: list[str] = []
    for wanted in (FILES[:2], FILES[:4], FILES):
        found = cache.bring(tmp_path, wanted, reader(asked))
        assert [Path(path).read_bytes() for path in found] == [CONTENT[path] for path, _ in wanted]
    assert sorted(asked) == sorted(CONTENT)


def test_many_at_once_find_only_whole_files(tmp_path: Path) -> None:
    """Each looks at what it was told of as soon as it was told."""
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(cache.bring, tmp_path, FILES, reader([])) for _ in range(16)]
        for each in running:
            assert [Path(path).read_bytes() for path in each.result()] == list(CONTENT.values())
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(FILES)


def test_a_file_cut_short_is_fetched_again(tmp_path: Path) -> None:
    """By a disk that lost it, or on the way: then it is an error and nothing stays."""
    (found,) = cache.bring(tmp_path, FILES[3:4], reader([]))
    Path(found).write_bytes(b"")
    assert Path(*cache.bring(tmp_path, FILES[3:4], reader([]))).read_bytes() == CONTENT[FILES[3][0]]
    with pytest.raises(OSError, match="has 5 bytes where the log lists 7"):
        cache.bring(tmp_path, [(FILES[4][0], 7)], reader([]))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_what_nobody_used_for_a_week_goes(tmp_path: Path) -> None:
    old, recent = cache.bring(tmp_path, FILES[:2], reader([]))
    os.utime(old, (time.time() - cache.UNUSED_S - 60,) * 2)
    cache.bring(tmp_path, FILES[2:3], reader([]))
    assert (Path(old).exists(), Path(recent).exists()) == (False, True)


def test_a_short_disk_lets_go_of_what_was_used_longest_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But neither of what is asked for nor of what was used a moment ago."""
    found = cache.bring(tmp_path, FILES[:4], reader([]))
    for at, path in enumerate(found):
        os.utime(path, (time.time() - 3600 * (4 - at),) * 2)
    monkeypatch.setattr(cache, "FREE_BYTES", 1 << 60)  # more than there is: as if the disk were full
    cache.bring(tmp_path, [FILES[0], FILES[4]], reader([]))
    assert [Path(path).exists() for path in found] == [True, False, False, False]


def test_a_question_fetches_only_the_days_it_asks_for(s3: S3Server, tmp_path: Path) -> None:
    """And the copies answer when the bucket has lost the files, which no log ever does."""
    stored = in_bucket(s3, tmp_path)
    log = OfflineLog(stored.place, source())
    snapshot = log.append(events(log, 0, 0, 4, step_us=DAY_US), {0: (0, 4)}, log.snapshot())
    with Engine(threads=1) as engine:
        sql = "SELECT count(*), min(_offset), max(_offset) FROM "
        some = accepted(
            engine, log.source, snapshot, since_us=NOON_US + DAY_US, before_us=NOON_US + 3 * DAY_US
        )
        assert engine.row(sql + some) == (2, 1, 2)
        assert len(list((tmp_path / "cache").rglob("*.parquet"))) == 2
        assert engine.row(sql + accepted(engine, log.source, snapshot)) == (4, 0, 3)
        for path in stored.data_files():
            stored.delete(path)
        assert engine.row(sql + accepted(engine, log.source, snapshot)) == (4, 0, 3)
        next((tmp_path / "cache").rglob("*.parquet")).unlink()
        with pytest.raises(StoreUnavailable, match="s3://"):
            accepted(engine, log.source, snapshot)
