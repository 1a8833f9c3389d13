"""Offline commits of rows that are encoded as they come: each once in the log, whatever became of the draft."""

import random
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.offline.drafts import Draft
from featureflow_cli.offline.log import OfflineLog
from featureflow_cli.stream import commits
from featureflow_cli.stream.worker import Worker
from tests.integration.stream.world import Topic, World, check, compiled, fill


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A topic of 300 events of several days; ten rows are worth a draft."""
    monkeypatch.setattr(commits, "DRAFT_ROWS", 10)
    world = World(tmp_path, Topic([0, 1, 2]), compiled(tmp_path))
    fill(world, random.Random(5), 300)
    yield world
    world.close()


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def drafted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows of each commit were encoded before it."""
    found: list[int] = []
    append = OfflineLog.append

    def watched(*arguments: Any) -> Any:
        draft = arguments[4]
        assert draft is None or isinstance(draft, Draft)
        found.append(0 if draft is None else draft.rows)
        return append(*arguments)

    monkeypatch.setattr(OfflineLog, "append", watched)
    return found


def take(worker: Worker, executor: Executor, *rows: int) -> None:
    """Batches of so many rows, encoded as they come."""
    for count in rows:
        assert worker.poll(count) is not None
        worker.commits.draft(executor)


@pytest.mark.parametrize("beside", [True, False], ids=["in a thread", "here and now"])
def test_a_commit_finds_most_of_its_rows_encoded(
    world: World, executor: Executor, drafted: list[int], beside: bool
) -> None:
    worker = world.worker([])
    worker.take_up()
    for rows in ((30, 30, 6), (6, 60, 60), (60, 150)):
        take(worker, executor, *rows)
        if beside:
            worker.commits.start(executor)
        else:
            worker.commit_offline()
    worker.commits.land()
    assert worker.poll(1) is None
    assert worker.progress.commits == len(drafted) == 3
    assert all(drafted)
    assert 0 < sum(drafted) < worker.progress.committed
    check(world, [])


def test_rows_that_another_worker_committed_leave_with_the_draft(
    world: World, executor: Executor, drafted: list[int]
) -> None:
    one, two = world.worker([]), world.worker([])
    one.take_up()
    two.take_up()
    take(two, executor, 60, 60)
    take(one, executor, 40)
    one.commit_offline()
    two.commit_offline()
    assert drafted[1] == 0
    take(two, executor, 300)
    two.commit_offline()
    assert drafted[2] > 0
    check(world, [])


def test_after_a_commit_that_failed_all_is_encoded_anew(
    world: World, executor: Executor, drafted: list[int]
) -> None:
    """The disk refuses a day's folder, once beside the next batches and once to who waits for it."""
    worker = world.worker([])
    worker.take_up()
    take(worker, executor, 60)
    folder = world.folder / "offline" / "events"
    days = {batch.rows.column("at")[0].as_py().date() for batch in worker.commits.held}
    for day in days:
        (folder / f"_day={day}").write_text("not a folder")
    worker.start_commit(executor)
    take(worker, executor, 60)
    with pytest.raises(StoreUnavailable):
        worker.commits.land()
    take(worker, executor, 30)
    with pytest.raises(StoreUnavailable):
        worker.commit_offline()
    assert list(folder.rglob("_day=*/*.parquet")) == []
    for day in days:
        (folder / f"_day={day}").unlink()
    take(worker, executor, 300)
    worker.commit_offline()
    assert [rows > 0 for rows in drafted] == [True, True, True]
    check(world, [])


def test_what_is_forgotten_is_not_committed(world: World, executor: Executor) -> None:
    worker = world.worker([])
    worker.take_up()
    take(worker, executor, 60, 60)
    worker.lose()
    worker.take_up()
    take(worker, executor, 30, 300)
    worker.commit_offline()
    check(world, [])
