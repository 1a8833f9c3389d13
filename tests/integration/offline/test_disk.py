"""A disk that is full, read-only or not there: a clear message, nothing half-visible, and on it goes afterwards."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.log import OfflineLog
from tests.integration.offline.shop import events, positions, source
from tests.integration.offline.test_letters import letters


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte; skipped where the test may not mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)


@pytest.mark.parametrize("size", [2000, 50], ids=["large commits", "small commits"])
def test_a_full_disk_loses_nothing_and_leaves_nothing_half_visible(small_disk: Path, size: int) -> None:
    """Commits until it is full; with room again, the same commit goes through."""
    log = OfflineLog(str(small_disk / "log"), source())
    base, start = log.snapshot(), 0
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        while True:
            base = log.append(events(log, 0, start, start + size), {0: (start, start + size)}, base)
            start += size
    remount(small_disk, "size=4m")
    again = OfflineLog(str(small_disk / "log"), source())
    found = again.snapshot()
    assert found.ends[0] in (start, start + size)  # a commit whose answer was lost is a commit
    assert positions(found) == [(0, offset) for offset in range(found.ends[0])]
    start = found.ends[0]
    after = again.append(events(log, 0, start, start + size), {0: (start, start + size)}, found)
    assert positions(after) == [(0, offset) for offset in range(start + size)]
    listed = {file.path for file in after.files}
    assert {str(path) for path in (small_disk / "log").glob("_day=*/*.parquet")} == listed


def test_a_read_only_disk_is_said_in_one_line(small_disk: Path) -> None:
    """Reading goes on; with and without rows the message names the place and the reason."""
    log = OfflineLog(str(small_disk / "log"), source())
    base = log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
    remount(small_disk, "ro")
    for rows in (5, 0):
        with pytest.raises(StoreUnavailable, match="Read-only file system") as raised:
            log.append(events(log, 0, 5, 5 + rows), {0: (5, 10)}, base)
        assert "\n" not in str(raised.value)
        assert "\x1b" not in str(raised.value)
        assert str(log.place) in str(raised.value)
    with pytest.raises(StoreUnavailable, match="Read-only file system"):
        OfflineLog(str(small_disk / "other"), source()).append(events(log, 0, 0, 5), {0: (0, 5)}, base)
    with pytest.raises(StoreUnavailable, match="Read-only file system"):
        DeadLetters(str(small_disk / "letters")).append(letters([("a", 0, 1)]))
    assert positions(log.snapshot()) == positions(base)


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    """The path names a file: nothing can be written beneath it."""
    (tmp_path / "log").write_text("not a folder")
    log = OfflineLog(str(tmp_path / "log" / "user_events"), source())
    with pytest.raises(StoreUnavailable, match="log"):
        log.append(events(log, 0, 0, 5), {0: (0, 5)}, log.snapshot())
