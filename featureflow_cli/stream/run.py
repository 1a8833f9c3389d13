"""The verb: the steps of all sources' workers in a loop, until there is nothing left or somebody says stop.

The online store is talked to by one thread, the writer, one thing after another; the loop does the rest, and waits for
the writer before it hands over more. Whoever is behind takes in and decides a batch while the one before it is written;
others when that is all sent, for what they took in before would only wait.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from featureflow_cli.errors import Conflict, FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.upkeep import Upkeep
from featureflow_cli.stream.absences import ATTEMPTS, STORES, Absences
from featureflow_cli.stream.crew import Crew
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.outside import NEWS_S, SourceAway
from featureflow_cli.stream.progress import Progress, StreamReport, report
from featureflow_cli.stream.rhythm import Rhythm
from featureflow_cli.stream.worker import BATCH_ROWS, Worker
from featureflow_cli.stream.writing import ended
from featureflow_cli.times import MINUTE_US, SECOND_US

T = TypeVar("T")

POLL_S = 1.0
OTHERS_S = 0.5
"""How long, with `once`, whoever has applied all of its own waits before it asks again how far others are: markers, and
the log."""
LEARN_US = 2 * SECOND_US
LOOK_US = 5 * SECOND_US
TEND_US = MINUTE_US
COMMIT_ROWS = 500_000
COMMIT_BYTES = 256 * 2**20
"""More than this is committed before the interval is over: it is held in memory until then."""


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

    `show` is handed the counts after every round. A store that is away is waited for (with `once`: for a few seconds;
    else `away` is told why, once until the next commit), and so is a source, while the others go on (with `once`: at
    least until they have no news); any other error ends the stream. What was decided before is committed first.
    `skip_lost` goes on where the source no longer has events that the log has not either; otherwise that is such an
    error. The counts of each source are kept in `progress`.
    """
    started_us = project.clock()
    crew = Crew(project, {} if progress is None else progress, once, skip_lost)
    interval_us = project.config.stream.commit_interval
    with (
        closing(crew),
        closing(Upkeep(project)) as upkeep,
        ThreadPoolExecutor(1, "commits") as committer,
        ThreadPoolExecutor(1, "online") as writer,
    ):
        absences, rhythm = Absences(once, away, project.clock), Rhythm(project.clock)
        _Loop(
            crew, once, stop, show, absences, batch_rows, rhythm, interval_us, committer, writer, upkeep
        ).run()
    reports = tuple(report(progress) for progress in crew.progress.values())
    return StreamReport(reports, project.clock() - started_us, stop.is_set())


@dataclass(frozen=True)
class _UnderWay:
    """The batch that is being written, and whose it is: when it is sent, there is little left but to hear of it."""

    worker: Worker
    sending: "Future[None]"
    hearing: "Future[bool]"


@dataclass
class _Loop:
    """The loop's settings, and how it stands.

    The stores' absence lasts until the next commit: where one works and the other is full, rounds succeed until they
    come to it. A source's lasts until it answers. `under_way` is the batch that is being written, and whose it is.
    `overtaken` counts how often others were faster, or the log wanted their definitions, with no round in between.
    """

    crew: Crew
    once: bool
    stop: Stop
    show: Callable[[list[Progress]], None]
    absences: Absences
    batch_rows: int
    rhythm: Rhythm
    interval_us: int
    committer: Executor
    writer: Executor
    upkeep: Upkeep
    under_way: _UnderWay | None = None
    overtaken: int = 0

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                moved = self._round()
                if not moved:
                    self.absences.give_up(worker.source.name for worker in self.crew.workers)
                if not moved and self.once and self._is_at_the_end():
                    return
            except Conflict:  # others were faster, or have applied, and the log takes theirs only [meaning]
                self.overtaken += 1
                if self.overtaken == ATTEMPTS:
                    raise
                self._lose()
                self.rhythm.hasten("learn")
                continue
            except SourceAway:  # for too long
                self._commit()
                raise
            except StoreUnavailable as err:
                self._wait(err)
                continue
            except FeatureflowError:
                self._commit()
                raise
            self.overtaken = 0
            if not moved and not self._has_waited:
                self.stop.wait(POLL_S)
        try:
            self._land()
        except StoreUnavailable:  # whoever comes next finds in the log what that store has not
            self._commit_logs()
        else:
            self._commit()

    def _wait(self, err: StoreUnavailable) -> None:
        """Forget what rests on the store that is away, and give it time."""
        pause_s = self.absences.note(STORES, err)
        self.absences.give_up([STORES])
        self._lose()
        self.stop.wait(pause_s)

    def _lose(self) -> None:
        """Forget all; what is being written may still arrive."""
        if self.under_way is not None:
            self.under_way.hearing.exception()
            self.under_way = None
        self.crew.lose()

    def _round(self) -> bool:
        """A batch of every source; whether there was any. All is committed if not."""
        if self.rhythm.is_due("learn", LEARN_US) and self.crew.is_outdated():
            self._alone(self.crew.learn)
        moved = False
        for worker in self.crew.workers:
            if self.stop.is_set():
                break
            moved = self._turn(worker) or moved
        rows, size = self.crew.held
        if rows >= COMMIT_ROWS or size >= COMMIT_BYTES or (not moved and (self.once or not self._has_waited)):
            self._commit()
        elif self.rhythm.is_due("commit", self.interval_us):
            self._start_commit()
        else:
            for worker in self.crew.workers:
                worker.commits.draft(self.committer)
        if self.rhythm.is_due("tend", TEND_US):
            self._tend()
        if not moved and self.rhythm.is_due("look", LOOK_US):
            for worker in self.crew.workers:
                self._alone(worker.look)
        self.show(list(self.crew.progress.values()))
        return moved

    def _turn(self, worker: Worker) -> bool:
        """Take in a batch from the log and, unless the source is away, one of new events; whether there was any."""
        is_asked, moved = worker in self._asked, False
        try:
            if is_asked:
                self._hold(worker)
            moved = self._batch(worker, "replay", worker.replay)
            if is_asked:
                if self.under_way is not None and not worker.is_behind:
                    with worker.progress.timing("send"):
                        self.under_way.sending.exception()
                poll = partial(worker.poll, self.batch_rows, self._patience_s(worker))
                moved = self._batch(worker, "poll", poll) or moved
                if worker.has_news or not self.once:  # it may answer, and not all that it is asked
                    self.absences.over(worker.source.name)
        except SourceAway as err:
            self.absences.note(worker.source.name, err)
        if not moved:
            self._land()
        return moved or (worker.needs_take_up and worker in self._asked)

    def _hold(self, worker: Worker) -> None:
        """Take up what the worker is to hold, and does not."""
        if worker.needs_take_up:
            self._alone(worker.take_up)
            self._settle()
        elif worker.has_come_or_gone:
            self._alone(worker.follow)

    def _batch(self, worker: Worker, step: str, take: Callable[[], Batch | None]) -> bool:
        """Take in a batch and have it written; whether there was one."""
        if worker.needs_take_up:  # the store lost what was marked before
            return False
        with worker.progress.timing(step):
            batch = take()
        if batch is None:
            return False
        reached("polled")
        with worker.progress.timing("wait"):
            self._land()
        if not worker.needs_take_up:
            steps = worker.writer(batch)
            self.under_way = _UnderWay(
                worker, self.writer.submit(next, steps), self.writer.submit(ended, steps)
            )
        return True

    @property
    def _asked(self) -> list[Worker]:
        return [worker for worker in self.crew.workers if self.absences.is_asked(worker.source.name)]

    def _patience_s(self, worker: Worker) -> float:
        """How long to wait for its source: who has none holds up nobody who has news, several together no longer."""
        asked = self._asked
        if any(each.has_news for each in asked):
            return NEWS_S if worker.has_news else 0.0
        together_s = OTHERS_S if any(each.awaits_others for each in asked) else NEWS_S
        return together_s / max(sum(each.waits for each in asked), 1)

    def _land(self) -> None:
        """Wait for the batch that is being written; raises what stopped it."""
        if self.under_way is None:
            return
        landing, self.under_way = self.under_way, None
        landing.sending.result()
        if not landing.hearing.result():
            landing.worker.lose()

    def _alone(self, step: Callable[[], T]) -> T:
        """Have the writer take a step that reads or moves what batches rest on, while nothing else is done."""
        self._land()
        return self.writer.submit(step).result()

    def _settle(self) -> None:
        if self.crew.is_building:
            self._alone(self.crew.settle)

    @property
    def _has_waited(self) -> bool:
        """Whether a source was waited for; a topic is asked again at once."""
        return any(worker.waits for worker in self._asked)

    def _is_at_the_end(self) -> bool:
        """Whether every source is there, and drained; asked when none has moved."""
        asked = self._asked
        for worker in asked:
            try:
                if not self._alone(worker.is_drained):
                    return False
            except SourceAway as err:
                self.absences.note(worker.source.name, err)
                return False
        return len(asked) == len(self.crew.workers)

    def _start_commit(self) -> None:
        """Commit in the background; with more than may be held, the loop waits for the one that is under way."""
        for worker in self.crew.workers:
            landed = worker.progress.commits
            with worker.progress.timing("commit"):
                worker.start_commit(self.committer)
            if worker.progress.commits > landed:
                self.absences.over(STORES)
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
            landed = worker.progress.commits
            with worker.progress.timing("commit"):
                worker.commit_offline()
            if worker.progress.commits > landed or not self.once:  # one of nothing says nothing of the stores
                self.absences.over(STORES)
            worker.look_behind()
        self.rhythm.done("commit")
