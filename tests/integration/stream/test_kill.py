"""`kill -9` at random moments of a real process, and two processes at once: nothing is lost, nothing doubled."""

import random
import time
from pathlib import Path

import pytest

from featureflow_cli.evaluate.project import Project
from featureflow_cli.generate.files import generate
from featureflow_cli.generate.shop import Scale
from featureflow_cli.times import DAY_US, SECOND_US, system_clock
from tests.integration.stream.repo import (
    drained,
    kept_views,
    opened,
    positions,
    reapplied,
    start,
    states,
)

EXAMPLE = Path(__file__).parents[3] / "example_repo"


def shop(folder: Path, events: Path) -> Project:
    """The example's shop, applied, over files of events that others use as well."""
    folder.mkdir()
    (folder / "features").symlink_to(EXAMPLE / "features")
    store = (EXAMPLE / "feature_store.yaml").read_text()
    (folder / "feature_store.yaml").write_text(store.replace("commit_interval: 5s", "commit_interval: 300ms"))
    (folder / "data").mkdir()
    (folder / "data" / "events").symlink_to(events)
    return reapplied(folder)


def generated(folder: Path, events: int, files: int) -> Path:
    end_us = system_clock() // SECOND_US * SECOND_US
    scale = Scale(events, users=events // 50, items=events // 200, span_us=3 * DAY_US, end_us=end_us)
    generate(scale, folder / "events", files=files)
    return folder / "events"


def marks(project: Project) -> int:
    """How far the online store says that it is, in all views together."""
    markers = [project.online.marker(0, kept.field) or {} for kept in kept_views(project).values()]
    return sum(end for marker in markers for end in marker.values())


def kill_once(folder: Path, batch_rows: int, chance: random.Random) -> bool:
    """Start a stream and kill it a moment after it got anywhere; False: it was done before that."""
    project = opened(folder)
    before, process = marks(project), start(folder, batch_rows)
    give_up = time.monotonic() + 120
    while marks(project) == before and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.002)
    time.sleep(chance.random() * 0.3)  # the random moment; nothing waits for it
    unfinished = process.poll() is None
    process.kill()
    process.wait()
    project.online.close()
    return unfinished


def assert_alike(folder: Path, reference: Path) -> None:
    one, other = opened(folder), opened(reference)
    assert positions(one, "user_events") == positions(other, "user_events")
    theirs = states(other)
    for name, found in states(one).items():
        assert found == theirs[name], name


def killed_many_times(tmp_path: Path, events: int, files: int, batch_rows: int, kills: int) -> int:
    """Kill, and start again; then let it end. How many kills cut into work."""
    source = generated(tmp_path, events, files)
    shop(tmp_path / "calm", source)
    shop(tmp_path / "killed", source)
    drained(tmp_path / "calm")
    chance = random.Random(7)
    cut = sum(kill_once(tmp_path / "killed", batch_rows, chance) for _ in range(kills))
    drained(tmp_path / "killed")
    assert_alike(tmp_path / "killed", tmp_path / "calm")
    return cut


def test_three_kills_change_nothing(tmp_path: Path) -> None:
    assert killed_many_times(tmp_path, events=30_000, files=30, batch_rows=1_000, kills=3) > 0


@pytest.mark.slow
def test_twenty_kills_of_half_a_million_events_change_nothing(tmp_path: Path) -> None:
    assert killed_many_times(tmp_path, events=500_000, files=100, batch_rows=5_000, kills=20) >= 10


def test_two_streams_at_once_double_nothing(tmp_path: Path) -> None:
    source = generated(tmp_path, 20_000, 20)
    shop(tmp_path / "calm", source)
    shop(tmp_path / "both", source)
    drained(tmp_path / "calm")
    processes = [start(tmp_path / "both", batch_rows) for batch_rows in (1_000, 1_700)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert_alike(tmp_path / "both", tmp_path / "calm")
