"""Plays schedules, and shrinks those that break a law to the few tokens that it takes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch

import pyarrow as pa

from featureflow_cli.stream import absences, commits, crew, heap, run
from tests.simulation import tables
from tests.simulation.grounds import SimGround
from tests.simulation.laws import Broken, at_rest
from tests.simulation.processes import Executor
from tests.simulation.promises import Promises
from tests.simulation.schedules import Schedule
from tests.simulation.world import World

DRAFT_ROWS = 3
"""So few that commits are drafted in most schedules."""


@dataclass(frozen=True)
class Failure:
    """`law` is what the message begins with: of a law that is broken its name, else the exception's."""

    schedule: Schedule
    law: str
    message: str
    promises: Promises = Promises()  # noqa: RUF009  (it is frozen)

    def __str__(self) -> str:
        lines = [f"seed {self.schedule.seed}, {len(self.schedule.tokens)} tokens: {self.message}"]
        return "\n".join([*lines, f"  {self.schedule.settings}", *(f"  {line}" for line in self.story())])

    def story(self) -> list[str]:
        """What happened, step by step."""
        trace: list[str] = []
        play(self.schedule, self.promises, trace=trace)
        return trace


@contextmanager
def simulated() -> Iterator[None]:
    """While this lasts, streams of the simulation's processes find its stand-ins."""
    threads = pa.cpu_count()
    pa.set_cpu_count(1)  # handing a few rows to threads takes longer than the rows
    with (
        tables.in_memory(),
        patch.object(crew, "Ground", SimGround),
        patch.object(run, "ThreadPoolExecutor", Executor),
        patch.object(commits, "DRAFT_ROWS", DRAFT_ROWS),
        patch.object(absences.random, "uniform", lambda _, longest: longest),
        patch.object(
            heap, "give_back", lambda: None
        ),  # of the test's own process it takes longer than a schedule
    ):
        try:
            yield
        finally:
            pa.set_cpu_count(threads)


def play(
    schedule: Schedule,
    promises: Promises = Promises(),  # noqa: B008  (it is frozen)
    counts: Counter[str] | None = None,
    trace: list[str] | None = None,
) -> Failure | None:
    """What a schedule breaks, or None."""
    world = World(schedule, promises, tells=trace is not None)
    try:
        for token in schedule.tokens:
            world.play(token)
        world.come_to_rest(anew=False)
        at_rest(world)
        if schedule.settings.restarts:
            world.come_to_rest(anew=True)
            at_rest(world)
    except Broken as broken:
        return Failure(schedule, str(broken).partition(":")[0], str(broken), promises)
    except Exception as error:  # a worker that falls over: no law allows that
        return Failure(schedule, type(error).__name__, f"{type(error).__name__}: {error}", promises)
    finally:
        world.close()
        if counts is not None:
            counts.update(world.counts)
        if trace is not None:
            trace += world.trace or []
    return None


def shrunk(failure: Failure) -> Failure:
    """Leave out tokens, as long as the same law is broken, until nothing more can go."""
    size = len(failure.schedule.tokens) // 2
    while size:
        place, before = 0, len(failure.schedule.tokens)
        while place < len(failure.schedule.tokens):
            tokens = failure.schedule.tokens
            fewer = replace(failure.schedule, tokens=tokens[:place] + tokens[place + size :])
            found = play(fewer, failure.promises)
            if found is not None and found.law == failure.law:
                failure = found
            else:
                place += size
        size = size if size == 1 and len(failure.schedule.tokens) < before else size // 2
    return failure
