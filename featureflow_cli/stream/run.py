"""The verb: the steps of all sources' workers in a loop, until there is nothing left or somebody says stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.offline.snapshots import MeaningMoved
from featureflow_cli.stream.crew import Crew
from featureflow_cli.stream.progress import Progress, StreamReport, report
from featureflow_cli.stream.worker import Worker
from featureflow_cli.times import SECOND_US

POLL_S = 1.0
LEARN_US = 2 * SECOND_US
LOOK_US = 5 * SECOND_US
COMMIT_ROWS = 500_000
"""More rows than this are committed before the interval is over: they are held in memory until then."""
ATTEMPTS = 5
"""How often in a row `--once` takes everything up again before it gives in to a store that is away."""


class Stop(Protocol):
    """A `threading.Event`: set by SIGTERM and SIGINT; its `wait` is the only sleep."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


@dataclass
class _Rhythm:
    """When which of the slow things was done last, in microseconds of the clock."""

    learned_us: int
    looked_us: int
    committed_us: int


def run(
    project: Project,
    *,
    once: bool,
    stop: Stop,
    show: Callable[[list[Progress]], None] = lambda progress: None,
) -> StreamReport:
    """Stream until `stop` is set or, with `once`, until all that is there is applied and committed.

    `show` is handed the counts after every batch. Raises the first error that is not a store's absence; that
    one is waited out (with `once`: for a few seconds).
    """
    crew, started_us = Crew(project), project.clock()
    loop = _Loop(project, crew, once, stop, show)
    try:
        loop.run()
    finally:
        crew.close()
    reports = tuple(report(progress) for progress in crew.progress.values())
    return StreamReport(reports, project.clock() - started_us, stop.is_set())


class _Loop:
    def __init__(
        self, project: Project, crew: Crew, once: bool, stop: Stop, show: Callable[[list[Progress]], None]
    ) -> None:
        self._clock = project.clock
        self._interval_us = project.config.stream.commit_interval
        self._crew = crew
        self._once = once
        self._stop = stop
        self._show = show
        now_us = self._clock()
        self._rhythm = _Rhythm(now_us, now_us, now_us)

    def run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                moved = self._round()
                failures = 0
            except StoreUnavailable:
                failures += 1
                if self._once and failures >= ATTEMPTS:
                    raise
                self._crew.lose()
                self._stop.wait(min(0.1 * 2**failures, 5.0))
                continue
            if moved:
                continue
            if self._once:
                break
            self._stop.wait(POLL_S)
        self._commit(always=True)

    def _round(self) -> bool:
        """One batch of every partition of every source; whether there was any."""
        self._learn()
        moved = False
        for worker in self._crew.workers:
            if worker.needs_take_up:
                worker.take_up()
                self._crew.settle()
            for partition in list(worker.parts):
                if self._stop.is_set():
                    break
                moved = self._batch(worker, partition) or moved
        self._commit(always=not moved)
        if not moved:
            self._look()
        self._show(list(self._crew.progress.values()))
        return moved

    def _batch(self, worker: Worker, partition: int) -> bool:
        """A batch from its intake to its marker."""
        if partition not in worker.parts:  # lost with an earlier partition
            return True
        batch = worker.poll(partition)
        if batch is None:
            return False
        worker.write_online(batch)
        if worker.mark(batch):
            self._commit(always=False)
        return True

    def _commit(self, *, always: bool) -> None:
        now_us = self._clock()
        held = sum(batch.rows.num_rows for worker in self._crew.workers for batch in worker.pending)
        if not always and held < COMMIT_ROWS and now_us - self._rhythm.committed_us < self._interval_us:
            return
        for worker in self._crew.workers:
            try:
                worker.commit_offline()
            except MeaningMoved:
                if not self._crew.learn():
                    raise
        self._crew.settle()
        self._rhythm.committed_us = now_us

    def _learn(self) -> None:
        now_us = self._clock()
        if now_us - self._rhythm.learned_us >= LEARN_US:
            self._rhythm.learned_us = now_us
            self._crew.learn()

    def _look(self) -> None:
        now_us = self._clock()
        if now_us - self._rhythm.looked_us >= LOOK_US:
            self._rhythm.looked_us = now_us
            for worker in self._crew.workers:
                worker.look()
