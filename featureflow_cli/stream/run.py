"""The verb: the steps of all sources' workers in a loop, until there is nothing left or somebody says stop.

A batch is taken in and decided while the one before it is written: the online store is talked to by one thread, the
writer, one thing after another; the loop does the rest, and waits for the writer before it hands over more.
"""

import random
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from featureflow_cli.errors import Conflict, FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.upkeep import Upkeep
from featureflow_cli.stream.crew import Crew
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.progress import Progress, StreamReport, report
from featureflow_cli.stream.worker import BATCH_ROWS, Worker
from featureflow_cli.times import MINUTE_US, SECOND_US, Clock

POLL_S = 1.0
LEARN_US = 2 * SECOND_US
LOOK_US = 5 * SECOND_US
TEND_US = MINUTE_US
COMMIT_ROWS = 500_000
COMMIT_BYTES = 256 * 2**20
"""More than this is committed before the interval is over: it is held in memory until then."""
ATTEMPTS = 5
"""How often everything is taken up again before the loop gives in: with `--once` to a store that is away, with no
commit in between; always to others who are faster, or whose definitions the log wants, with no round in between."""
LONGEST_WAIT_S = 5.0


class Stop(Protocol):
    """A `threading.Event`: set by SIGTERM and SIGINT; its `wait` is the only sleep."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


def nobody(progress: list[Progress]) -> None:
    """Who watches a stream that nobody watches."""


def untold(_: StoreUnavailable) -> None:
    """Who hears of a store that is away where nobody listens."""


def run(
    project: Project,
    *,
    once: bool,
    stop: Stop,
    show: Callable[[list[Progress]], None] = nobody,
    away: Callable[[StoreUnavailable], None] = untold,
    batch_rows: int = BATCH_ROWS,
    skip_lost: bool = False,
    progress: dict[str, Progress] | None = None,
) -> StreamReport:
    """Stream until `stop` is set or, with `once`, until all that is there is applied and committed.

    `show` is handed the counts after every round. A store that is away is waited for (with `once`: for a few
    seconds; else `away` is told why, once until the next commit), any other error ends the stream; what was
    decided before it is committed first. `skip_lost` goes on where the source no longer has events that the log
    has not either; otherwise that is such an error. The counts of each source are kept in `progress`.
    """
    started_us = project.clock()
    crew = Crew(project, {} if progress is None else progress, skip_lost)
    interval_us = project.config.stream.commit_interval
    with (
        closing(crew),
        closing(Upkeep(project)) as upkeep,
        ThreadPoolExecutor(1, "commits") as committer,
        ThreadPoolExecutor(1, "online") as writer,
    ):
        loop = _Loop(
            crew, once, stop, show, away, batch_rows, project.clock, interval_us, committer, writer, upkeep
        )
        loop.run()
    reports = tuple(report(progress) for progress in crew.progress.values())
    return StreamReport(reports, project.clock() - started_us, stop.is_set())


@dataclass
class _Loop:
    """The loop's settings, and when which of the slow things was done last (microseconds of the clock).

    `failures` counts those since the last commit: where one store works and the other is full, rounds succeed
    until they come to it. `under_way` is the batch that is being written, and whose it is.
    """

    crew: Crew
    once: bool
    stop: Stop
    show: Callable[[list[Progress]], None]
    away: Callable[[StoreUnavailable], None]
    batch_rows: int
    clock: Clock
    interval_us: int
    committer: Executor
    writer: Executor
    upkeep: Upkeep
    under_way: tuple[Worker, "Future[bool]"] | None = None
    done_us: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    overtaken: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                moved = self._round()
            except Conflict:  # others were faster, or have applied, and the log takes theirs only [meaning]
                self.overtaken += 1
                if self.overtaken == ATTEMPTS:
                    raise
                self._lose()
                self.done_us["learn"] = 0
                continue
            except StoreUnavailable as err:
                self._wait(err)
                continue
            except FeatureflowError:
                self._commit()
                raise
            self.overtaken = 0
            if not moved:
                if self.once and all(worker.is_drained for worker in self.crew.workers):
                    return
                if not any(worker.waits for worker in self.crew.workers):
                    self.stop.wait(POLL_S)
        try:
            self._land()
        except StoreUnavailable:  # whoever comes next finds in the log what that store has not
            self._commit_logs()
        else:
            self._commit()

    def _wait(self, err: StoreUnavailable) -> None:
        """Forget what rests on the store that is away, and give it time; with `once` it gets a few chances."""
        self.failures += 1
        if self.once and self.failures >= ATTEMPTS:
            raise err
        if not self.once and self.failures == 1:
            self.away(err)
        self._lose()
        longest_s = min(0.1 * 2**self.failures, LONGEST_WAIT_S)
        self.stop.wait(longest_s * random.uniform(0.5, 1))  # noqa: S311  (so that workers do not come back as one)

    def _lose(self) -> None:
        """Forget all; what is being written may still arrive."""
        if self.under_way is not None:
            self.under_way[1].exception()
            self.under_way = None
        self.crew.lose()

    def _round(self) -> bool:
        """A batch of every source; whether there was any. All is committed if not."""
        if self._is_due("learn", LEARN_US):
            self._alone(self.crew.learn)
        moved = False
        for worker in self.crew.workers:
            if self.stop.is_set():
                break
            if worker.needs_take_up:
                self._alone(worker.take_up)
                self._settle()
            elif worker.has_come_or_gone:
                self._alone(worker.follow)
            moved = self._batches(worker) or moved
        rows, size = self.crew.held
        if rows >= COMMIT_ROWS or size >= COMMIT_BYTES or (not moved and self._may_be_the_end):
            self._commit()
        elif self._is_due("commit", self.interval_us):
            self._start_commit()
        else:
            for worker in self.crew.workers:
                worker.commits.draft(self.committer)
        if self._is_due("tend", TEND_US):
            self._tend()
        if not moved and self._is_due("look", LOOK_US):
            for worker in self.crew.workers:
                self._alone(worker.look)
        self.show(list(self.crew.progress.values()))
        return moved

    def _batches(self, worker: Worker) -> bool:
        """Take in a batch from the log and one of new events, and have them written; whether there was any."""
        moved = False
        for step, take in (("replay", worker.replay), ("poll", partial(worker.poll, self.batch_rows))):
            if worker.needs_take_up:  # the store lost what was marked before
                return True
            with worker.progress.timing(step):
                batch = take()
            if batch is None:
                continue
            moved = True
            reached("polled")
            with worker.progress.timing("wait"):
                self._land()
            if not worker.needs_take_up:
                self.under_way = worker, self.writer.submit(worker.writer(batch))
        if not moved:
            self._land()
        return moved or worker.needs_take_up

    def _land(self) -> None:
        """Wait for the batch that is being written; raises what stopped it."""
        if self.under_way is None:
            return
        (worker, writing), self.under_way = self.under_way, None
        if not writing.result():
            worker.lose()

    def _alone(self, step: Callable[[], object]) -> None:
        """Have the writer take a step that reads or moves what batches rest on, while nothing else is done."""
        self._land()
        self.writer.submit(step).result()

    def _settle(self) -> None:
        if self.crew.is_building:
            self._alone(self.crew.settle)

    @property
    def _may_be_the_end(self) -> bool:
        """Whether no more may come for long; a topic is asked again at once."""
        return self.once or not any(worker.waits for worker in self.crew.workers)

    def _start_commit(self) -> None:
        """Commit in the background; with more than may be held, the loop waits for the one that is under way."""
        for worker in self.crew.workers:
            landed = worker.progress.commits
            with worker.progress.timing("commit"):
                worker.start_commit(self.committer)
            if worker.progress.commits > landed:
                self.failures = 0
            worker.look_behind()
        self._settle()

    def _tend(self) -> None:
        """Have small files of the logs joined, where there are many."""
        for worker in self.crew.workers:
            if worker.commits.base is not None and worker.commits.is_ready():
                self.upkeep.tend(worker.source.name, worker.commits.base, worker.parts.keys())

    def _commit(self) -> None:
        self._commit_logs()
        self._settle()

    def _commit_logs(self) -> None:
        for worker in self.crew.workers:
            with worker.progress.timing("commit"):
                worker.commit_offline()
            worker.look_behind()
        self.done_us["commit"] = self.clock()
        self.failures = 0

    def _is_due(self, what: str, every_us: int) -> bool:
        """Whether it was done last so long ago (at the start: now); it is taken to be done now."""
        now_us = self.clock()
        if now_us - self.done_us.setdefault(what, now_us) < every_us:
            return False
        self.done_us[what] = now_us
        return True
