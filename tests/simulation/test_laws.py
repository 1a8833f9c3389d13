"""Thousands of interleavings of crash, zombie, rebalance, conflict, lost acknowledgement and store loss: all laws hold.

A seed that fails is printed with its story, shrunk; `python -m tests.simulation --seed N --seeds 1` plays it again.
"""

import random
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest

from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.engines.duckdb import Engine
from tests.simulation.definitions import views
from tests.simulation.engine import BELOW, SimEngine
from tests.simulation.playing import play, shrunk, simulated
from tests.simulation.schedules import LONG, schedule


@pytest.fixture(autouse=True)
def stand_ins() -> Iterator[None]:
    with simulated():
        yield


def test_the_laws_hold_in_every_interleaving() -> None:
    counts: Counter[str] = Counter()
    for seed in range(200):
        failure = play(schedule(seed), counts=counts)
        assert failure is None, str(shrunk(failure))
    happened = {"kill", "move", "lose", "cut", "grow", "trim", "apply", "never arrives", "arrive"}
    assert all(counts[kind] for kind in happened)


@pytest.mark.slow
def test_the_laws_hold_in_long_schedules_too() -> None:
    for seed in range(10_000, 10_400):
        failure = play(schedule(seed, LONG))
        assert failure is None, str(shrunk(failure))


def test_a_seed_tells_the_same_story_again() -> None:
    stories: list[list[str]] = []
    for _ in range(2):
        for seed in (11, 12, 13):
            stories.append([])
            play(schedule(seed), trace=stories[-1])
    assert stories[:3] == stories[3:]
    assert all(len(story) > 20 for story in stories)


def test_the_simulations_engine_projects_as_duckdb_does() -> None:
    chance = random.Random(1)
    count = 50
    rows = pa.table(
        {
            **{
                name: pa.array([chance.randrange(5) for _ in range(count)], pa.int64())
                for name in ("user", "item", "number", "old", "new", "_offset")
            },
            "_partition": pa.array([chance.randrange(3) for _ in range(count)], pa.int32()),
            "at": pa.array([chance.randrange(10**15) for _ in range(count)], pa.timestamp("us", tz="UTC")),
        }
    )
    ours = SimEngine()
    with Engine(threads=1) as theirs:
        for engine in (ours, theirs):
            engine.register(BELOW, rows)
        for view in views():
            sql = projection_sql(view, BELOW)
            assert ours.table(sql).sort_by("ts").to_pylist() == theirs.table(sql).sort_by("ts").to_pylist()
