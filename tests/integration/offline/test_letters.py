"""Dead letters: each position once, however often a replay brings it."""

import multiprocessing

import pyarrow as pa
import pytest

from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.offline.places import Place
from featureflow_cli.times import DAY_US
from tests.integration.offline.places import Stored

MOMENT = pa.timestamp("us", tz="UTC")


def letters(
    positions: list[tuple[str, int, int]], reason: str = "null", lettered_us: int = DAY_US
) -> pa.Table:
    """One letter a position (source, partition, offset)."""
    count = len(positions)
    return pa.table(
        {
            "source": pa.array([source for source, _, _ in positions], pa.string()),
            "partition": pa.array([partition for _, partition, _ in positions], pa.int32()),
            "offset": pa.array([offset for _, _, offset in positions], pa.int64()),
            "reason": pa.array([reason] * count, pa.string()),
            "detail": pa.array(["user_id is null"] * count, pa.string()),
            "payload": pa.array([b'{"user_id": \xff}'] * count, pa.binary()),
            "recorded_at": pa.array([0] * count, pa.int64()).cast(MOMENT),
            "lettered_at": pa.array([lettered_us] * count, pa.int64()).cast(MOMENT),
        }
    )


def append_same(place: Place) -> int:
    """Append the same letters one by one; answers how many were new."""
    held = DeadLetters(place)
    return sum(held.append(letters([("a", 0, offset)])) for offset in range(20))


@pytest.fixture
def held(stored: Stored) -> DeadLetters:
    return DeadLetters(stored.place)


def positions(table: pa.Table) -> list[tuple[str, int, int]]:
    return [tuple(row.values()) for row in table.select(["source", "partition", "offset"]).to_pylist()]


def test_nothing_is_read_before_anything_was_written(held: DeadLetters) -> None:
    """And no table is made by looking, or by a batch without letters."""
    assert held.read().num_rows == 0
    assert held.append(letters([])) == 0
    assert not held.place.holds_table()


def test_a_letter_comes_back_as_it_was(held: DeadLetters) -> None:
    """Payloads are bytes: what came need not be text."""
    given = letters([("a", 0, 7)])
    assert held.append(given) == 1
    assert held.read().equals(given)


def test_a_replay_adds_only_positions_that_are_new(held: DeadLetters) -> None:
    """Offset 5 stands with its first reason; 4 lies below the end but was never written; 9 is new."""
    held.append(letters([("a", 0, 3), ("a", 0, 5), ("b", 0, 4)]))
    again = letters([("a", 0, 3), ("a", 0, 4), ("a", 0, 5), ("a", 0, 9), ("a", 1, 5)], "future")
    assert held.append(again) == 3
    assert held.append(again) == 0
    assert positions(held.read(source="a")) == [("a", 0, o) for o in (3, 4, 5, 9)] + [("a", 1, 5)]
    assert positions(held.read(reason="null")) == [("a", 0, 3), ("a", 0, 5), ("b", 0, 4)]


def test_one_batch_may_hold_a_position_twice(held: DeadLetters) -> None:
    """The first of them stands."""
    assert held.append(pa.concat_tables([letters([("a", 0, 3)]), letters([("a", 0, 3)], "future")])) == 1
    assert held.read().column("reason").to_pylist() == ["null"]


def test_filters_hold_together(held: DeadLetters) -> None:
    """By source, reason, partition and the time they were lettered."""
    held.append(letters([("a", 0, 1), ("a", 1, 1)]))
    held.append(letters([("a", 0, 2)], lettered_us=3 * DAY_US))
    assert positions(held.read(since_us=2 * DAY_US)) == [("a", 0, 2)]
    assert positions(held.read(source="a", partition=0, reason="null")) == [("a", 0, 1), ("a", 0, 2)]
    assert held.read(source="nobody").num_rows == 0


def test_the_newest_are_the_last_of_all_and_counts_are_of_all(held: DeadLetters) -> None:
    """Of those of one moment the last by position."""
    held.append(letters([("a", 0, 1), ("b", 0, 1)], "future"))
    held.append(letters([("a", 0, 4), ("a", 0, 2), ("a", 0, 3)], lettered_us=3 * DAY_US))
    every = positions(held.read())
    for count in range(1, 7):
        assert positions(held.read(newest=count)) == every[-count:]
    assert positions(held.read(source="a", reason="future", newest=2)) == [("a", 0, 1)]
    assert held.positions() == every
    assert held.positions(since_us=2 * DAY_US) == every[2:]
    assert held.counts() == {"a": 4, "b": 1}
    assert held.counts("reason", source="a") == {"future": 1, "null": 3}
    assert held.counts("reason", since_us=2 * DAY_US) == {"null": 3}


def test_two_processes_that_letter_the_same_write_each_once(stored: Stored) -> None:
    """A zombie and its successor reach the same verdicts."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        written = [pool.apply_async(append_same, (stored.place,)) for _ in range(2)]
        assert sum(each.get(60) for each in written) == 20
    assert positions(DeadLetters(stored.place).read()) == [("a", 0, offset) for offset in range(20)]
