"""When a single run is done that shares its source with others: what they hold is in the log and in all states."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from featureflow_cli.stream.worker import Worker
from tests.integration.stream.world import START_US, Topic, World, compiled


class Member(Topic):
    """A topic, and which of its partitions this member holds; `start` is the first offset that it has.

    `fixed`: the goal as it was when it was asked for.
    """

    def __init__(self, topic: Topic, held: Sequence[int]) -> None:
        self.messages = topic.messages
        self.held = held
        self.start = 0
        self.fixed: Mapping[int, int] | None = None

    def partitions(self) -> Sequence[int]:
        return self.held

    def first(self, partition: int) -> int:
        return self.start

    def goal(self) -> Mapping[int, int]:
        return self.fixed or {partition: len(each) for partition, each in self.messages.items() if each}

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        return {each: len(self.messages[each]) - position for each, position in positions.items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, Topic([0, 1]), compiled(tmp_path))
    yield made
    made.close()


def member(world: World, held: Sequence[int]) -> tuple[Worker, Member]:
    world.topic = seen = Member(world.topic, held)
    worker = world.worker()
    worker.take_up()
    return worker, seen


def put(world: World, partition: int) -> None:
    number = len(world.topic.messages[partition])
    event = {"event_id": f"e{partition}.{number}", "user_id": 1, "at": "2026-01-01T00:00:00Z"}
    world.topic.put(partition, event, START_US)


def is_drained(worker: Worker) -> bool:
    assert worker.poll() is None
    return worker.is_drained()


def test_what_others_hold_is_in_the_log_and_in_all_states(world: World) -> None:
    (other, _), (idle, _) = member(world, [0, 1]), member(world, [])
    assert is_drained(idle)
    for is_logged_first in (False, True, False):
        put(world, 1)
        assert not is_drained(idle)
        batch = other.poll()
        assert batch is not None
        if is_logged_first:
            other.commit_offline()
            assert not is_drained(idle), "the states lack it"
        other.write_online(batch)
        assert not is_drained(idle), "the marker lacks it"
        other.mark(batch)
        if not is_logged_first:
            assert not is_drained(idle), "the log lacks it"
            other.commit_offline()
        assert is_drained(idle)


def test_who_has_read_its_own_waits_for_the_others(world: World) -> None:
    (first, _), (second, _) = member(world, [0]), member(world, [1])
    put(world, 0)
    put(world, 1)
    for worker in (first, second):
        batch = worker.poll()
        assert batch is not None
        worker.write_online(batch)
        worker.mark(batch)
        worker.commit_offline()
        assert is_drained(worker) == (worker is second)
    assert is_drained(first)


def test_what_the_topic_dropped_before_anybody_read_it_is_not_waited_for(world: World) -> None:
    put(world, 1)
    idle, seen = member(world, [])
    assert not is_drained(idle)
    seen.start = 1
    assert is_drained(idle)


def test_a_single_run_reads_no_further_than_its_goal_though_more_comes(world: World) -> None:
    worker, seen = member(world, [0, 1])
    worker.once = True
    put(world, 0)
    put(world, 0)
    seen.fixed = seen.goal()
    for offset in (0, 1):
        batch = worker.poll(rows=1)
        assert batch is not None
        assert batch.spans == {0: (offset, offset + 1)}
        put(world, 0)
        put(world, 1)
    assert is_drained(worker)
    worker.once = False
    assert worker.poll() is not None
