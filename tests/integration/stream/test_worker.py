"""The steps of design.md 4, run by hand over real stores: when nothing fails, and when something does."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.stream import merging
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.resident import Resident
from featureflow_cli.stream.worker import Worker
from featureflow_cli.stream.writing import ended
from featureflow_cli.times import MINUTE_US
from tests.integration.stream.world import START_US, Topic, World, check, compiled, drain, fill, online_states


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, Topic([-1, 0]), compiled(tmp_path))
    yield made
    made.close()


def begun(world: World) -> tuple[Worker, Batch]:
    """A worker that has taken up what there is, and its first batch."""
    worker = world.worker()
    worker.take_up()
    batch = worker.poll()
    assert batch is not None
    return worker, batch


def test_one_worker_applies_each_accepted_event_once(world: World) -> None:
    fill(world, random.Random(1), 400)
    worker = world.worker()
    drain(worker)
    check(world, worker.members)


def test_a_second_run_finds_nothing_to_do(world: World) -> None:
    fill(world, random.Random(2), 100)
    drain(world.worker())
    again = world.worker()
    drain(again)
    assert (again.progress.read, again.progress.writes, again.progress.commits) == (0, 0, 0)
    fill(world, random.Random(3), 100)
    drain(again)
    check(world, again.members)
    assert again.progress.read == 100


def test_a_worker_is_behind_that_finds_a_quarter_of_what_it_asks_for_or_more(world: World) -> None:
    fill(world, random.Random(9), 400)
    worker = world.worker()
    worker.take_up()
    assert worker.poll(200) is not None and worker.is_behind
    assert worker.poll(10_000) is not None and not worker.is_behind
    assert worker.poll(10_000) is None and not worker.is_behind


def test_states_are_built_up_to_a_floor_that_another_worker_set_by_a_later_log(world: World) -> None:
    """It recorded the floor, and was killed before it built anything; this one had looked at the log before."""
    fill(world, random.Random(10), 100)
    worker = world.worker()
    numbers = [kept.build.number for kept in worker.members]

    def set_floor(number: int, ends: Mapping[int, int]) -> Mapping[int, int]:
        assert not ends
        if not world.floors:
            drain(world.worker([]))
            world.floors.update(dict.fromkeys(numbers, world.log().snapshot().ends))
        return world.floors[number]

    worker._outside = replace(worker._outside, set_floor=set_floor)
    drain(worker)
    assert sum(world.floors[numbers[0]].values()) == 100
    check(world, worker.members)


def test_what_went_online_but_not_into_the_log_is_not_applied_twice(world: World) -> None:
    """Killed before the offline commit: the successor decides anew, and every header covers it."""
    fill(world, random.Random(4), 100)
    first, batch = begun(world)
    first.write_online(batch)
    second = world.worker()
    drain(second)
    assert second.progress.writes == 0
    check(world, second.members)


def test_what_is_lost_and_decided_again_counts_as_if_it_were_decided_once(world: World) -> None:
    fill(world, random.Random(9), 400)
    cut_us = START_US + 30 * MINUTE_US
    world.repo = replace(world.repo, sources={"events": replace(world.source, until_us=cut_us)})
    unlucky, lucky = world.worker(), world.worker()
    unlucky.take_up()
    while (batch := unlucky.poll(50)) is not None:
        unlucky.write_online(batch)
    before = asdict(unlucky.progress)
    unlucky.lose()
    assert (unlucky.progress.read, unlucky.progress.before_until, unlucky.progress.newest_us) == (0, 0, None)
    unlucky.take_up()
    lucky.take_up()
    for worker in (unlucky, lucky):
        while worker.poll(50) is not None:
            pass
    counted = ("accepted", "duplicates", "letters", "before_until", "late", "newest_us")
    one, other = asdict(unlucky.progress), asdict(lucky.progress)
    assert [one[name] for name in counted] == [other[name] for name in counted]
    assert [one[name] for name in counted] == [before[name] for name in counted]
    assert 0 < one["late"] < one["accepted"] and one["before_until"] > 0


@pytest.mark.parametrize("turn_bytes", [merging.TURN_BYTES, 10_000])
def test_two_workers_on_one_store_double_nothing(
    world: World, turn_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "TURN_BYTES", turn_bytes)
    fill(world, random.Random(5), 300)
    one, two = world.worker(), world.worker()
    one.take_up()
    two.take_up()
    for own_rows in ((37, 60), (64, 20), (90, 200), (200, 200)):
        for worker, rows in zip((one, two), own_rows, strict=True):
            batch = worker.poll(rows)
            if batch is not None:
                worker.write_online(batch)
                assert worker.mark(batch)
        one.commit_offline()
    two.commit_offline()
    assert one.progress.conflicts + two.progress.conflicts > 0
    check(world, one.members)


def test_large_states_are_merged_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    monkeypatch.setattr(merging, "TURN_BYTES", 1)
    monkeypatch.setattr(merging, "reached", turns.append)
    fill(world, random.Random(5), 300)
    worker = world.worker()
    drain(worker)
    assert len(turns) == worker.progress.writes > 10
    check(world, worker.members)


def test_entities_share_what_is_merged_at_a_time_and_the_last_has_it_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, count_in = list[tuple[str, int]](), Resident.count_in

    def noted(some: Resident, size_bytes: int) -> int:
        asked.append((some.entity, size_bytes))
        return count_in(some, size_bytes)

    monkeypatch.setattr(merging, "TURN_BYTES", 200)  # a turn for each of six users and three items
    monkeypatch.setattr(Resident, "count_in", noted)  # it goes on to the real one
    fill(world, random.Random(5), 300)
    worker, batch = begun(world)
    worker.write_online(batch)
    assert sorted(asked) == sorted([*[("user", 100), ("item", 100)] * 3, *[("user", 200)] * 3])
    assert asked[-3:] == [("user", 200)] * 3


def test_the_loop_is_told_once_when_the_last_of_many_turns_is_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    monkeypatch.setattr(merging, "TURN_BYTES", 1)  # a turn for each entity
    monkeypatch.setattr(
        merging, "reached", turns.append
    )  # each turn has a fault point, which does nothing here
    fill(world, random.Random(5), 300)
    worker, batch = begun(world)
    steps = worker.writer(batch)
    next(steps)
    sent = len(turns)
    assert ended(steps)
    assert len(turns) == sent > 2
    worker.commit_offline()
    check(world, worker.members)


def test_a_deleted_store_is_noticed_and_rebuilt_from_the_log(world: World) -> None:
    fill(world, random.Random(6), 200)
    worker = world.worker()
    drain(worker)
    world.lose_online()
    with pytest.raises(StoreUnavailable, match="removed"):
        worker.look()
    world.topic.messages = {partition: [] for partition in world.topic.messages}  # the source is gone as well
    kept = world.topic.messages
    drain(worker)
    assert worker.progress.replayed == worker.progress.accepted
    assert kept == world.topic.messages
    for member in worker.members:
        assert online_states(world.store(), member)


def test_a_store_that_fell_behind_its_markers_is_taken_up_again(world: World) -> None:
    """Restored from an older copy, under the same name: only the markers tell."""
    fill(world, random.Random(7), 100)
    worker = world.worker()
    drain(worker)
    world.opened[0]._file.close()
    copy = (world.folder / "online.db").read_bytes()
    fill(world, random.Random(8), 100)
    drain(worker)
    world.opened[0]._file.close()
    (world.folder / "online.db").write_bytes(copy)
    assert not worker.look()
    assert worker.needs_take_up
    drain(worker)
    check(world, worker.members)


def test_a_new_view_is_bootstrapped_from_the_log_and_then_streamed(world: World) -> None:
    fill(world, random.Random(9), 150)
    drain(world.worker(world.members(["history"])))
    later = world.worker()
    fill(world, random.Random(10), 50)
    drain(later, rows=20)
    assert later.progress.bootstrapped == ["spending", "popularity"]
    check(world, later.members)
    assert later.progress.read == 50


def test_late_events_withdraw_the_populations_that_they_change(world: World) -> None:
    worker = world.worker()
    worker.take_up()
    kept = next(member for member in worker.members if member.view.name == "popularity")
    store = world.store()
    for grid_us in (START_US, START_US + MINUTE_US):
        store.publish(kept.field, "rank_1h", grid_us, b"population", store.withdrawals(kept.field))
    event = {"event_id": "late", "user_id": 1, "item_id": "a", "at": "2026-01-01T00:00:30Z"}
    world.topic.put(-1, event, START_US + 2 * MINUTE_US)
    drain(worker)
    assert store.population(kept.field, "rank_1h", START_US) == b"population"
    assert store.population(kept.field, "rank_1h", START_US + MINUTE_US) is None


def test_a_log_that_was_removed_is_decided_anew(world: World) -> None:
    """Online headers cover what was applied; the log gets all of it again."""
    fill(world, random.Random(11), 60)
    worker = world.worker()
    drain(worker)
    fill(world, random.Random(12), 60)
    worker.poll()
    for path in sorted((world.folder / "offline" / "events").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    fresh = world.worker()
    drain(fresh)
    check(world, fresh.members)


@pytest.mark.parametrize("seed", range(12))
def test_any_schedule_of_steps_kills_and_losses_ends_alike(world: World, seed: int) -> None:
    """Three workers step in any order; they are killed, and the store loses all, in between any two steps."""
    chance = random.Random(seed)
    drain(world.worker(world.members(["spending"])))
    workers: list[Worker] = [world.worker() for _ in range(3)]
    open_batches: dict[int, list] = {number: [] for number in range(3)}
    for _ in range(160):
        number = chance.randrange(3)
        worker = workers[number]
        roll = chance.random()
        if roll < 0.05:
            workers[number], open_batches[number] = world.worker(), []
        elif roll < 0.06:
            world.lose_online()
        elif roll < 0.3:
            fill(world, chance, chance.randrange(12))
        else:
            _step(worker, chance, open_batches[number])
    for worker in workers[:2]:
        try:
            worker.look()
        except StoreUnavailable:
            worker.lose()
    drain(workers[0], rows=40)
    check(world, workers[0].members)
    drain(workers[1], rows=40)
    check(world, workers[1].members)


def _step(worker: Worker, chance: random.Random, batches: list) -> None:
    """One step, as the loop may take it next; what fails is taken up again."""
    try:
        if worker.needs_take_up:
            batches.clear()
            worker.take_up()
        elif batches and chance.random() < 0.7:
            batch = batches[0]
            worker.write_online(batch)
            if chance.random() < 0.8:
                worker.mark(batch)
                batches.clear()
        elif chance.random() < 0.3:
            worker.commit_offline()
        elif not batches:
            batch = worker.replay() or worker.poll(chance.randrange(1, 15))
            if batch is not None:
                batches.append(batch)
    except StoreUnavailable:
        worker.lose()
        batches.clear()
