"""One worker on one source: its hold on the partitions, and the steps of design.md 4, one at a time.

    take_up        markers and log are read; what has no marker is bootstrapped; reading starts from there
    follow         partitions that came are taken up, those that went to others are let go
    replay         a batch from the log, of a partition that is below the log's end
    poll           a batch of new events, taken in and decided
    write_online   its states, by compare-and-set, until the store has acknowledged all of them
    mark           the marker: up to here all states are complete
    commit_offline letters, then the rows of all batches since the last commit

Whatever fails in between, `lose` and `take_up` are the way back: start, a new view and the loss of a store are
one code path. Production runs the steps in a loop (stream/run.py), a simulation in any order it likes.
"""

from collections.abc import Generator, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import FeatureflowError
from featureflow_cli.evaluate.keeping import Kept, low_end, markers
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.stream.builds import build_up, founded, is_below_a_floor, is_built
from featureflow_cli.stream.commits import Commits, CutBack
from featureflow_cli.stream.deciding import Batch, decided, replayed
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.gaps import pass_over
from featureflow_cli.stream.merging import Written
from featureflow_cli.stream.outside import NEWS_S, OffsetGone, Outside
from featureflow_cli.stream.parts import Part, applied_by_others, own, take, unfinished
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.writing import Writing

BATCH_ROWS = 200_000
"""No more at once: some 0.7 s of the shop's events. Who is behind writes a state for several of its events then."""


class Worker:
    """The stream of one source into the states of `members` and, where it has one, into its log.

    `has_news`: whether the last `poll` found any; None where it did not come to that. `is_behind`: whether it found
    so many that more are likely to be there. `awaits_others`: whether all of its own is applied, and the rest was to
    be by others, when it was last asked (`is_drained`). With `once` it reads not much further than the intake's goal:
    who asks for an end gets there, however fast more comes.
    """

    def __init__(self, source: Source, members: Sequence[Kept], outside: Outside, progress: Progress) -> None:
        self.source = source
        self.members = list(members)
        self.progress = progress
        self.once = self.skip_lost = False
        self.has_news: bool | None = None
        self.is_behind = True
        self.awaits_others = False
        self.parts: dict[int, Part] = {}
        self.commits = Commits(outside, progress)
        self._outside = outside
        self._writing = Writing((), outside, progress)
        self._lost = True

    @property
    def needs_take_up(self) -> bool:
        return self._lost

    @property
    def has_come_or_gone(self) -> bool:
        """Whether the partitions are no longer those that are held: then `follow`."""
        return self.parts.keys() != set(self._partitions())

    @property
    def waits(self) -> bool:
        return self._outside.intake.waits

    def lose(self) -> None:
        """Forget all that rests on a connection or a snapshot: states, batches, positions [cache, fate].

        What was decided and is not in the log is decided again, so it is not counted yet.
        """
        for batch in reversed(self.commits.forget()):
            self.progress.uncount(batch)
        self._lost = True
        self.parts = {}
        self._writing = Writing((), self._outside, self.progress)

    # ---- taking up

    def take_up(self) -> None:
        """Read the markers and one snapshot of the log, and start from what they say [sinks, rewind].

        Bootstraps every view that has no marker, before anything else of it is written [bootstrap].
        """
        self.lose()
        outside = self._outside
        outside.intake.on_revoke(self.let_go)
        self.commits.base = self._snapshot()
        self.members = [founded(kept, outside, self.commits.base) for kept in self.members]
        if is_below_a_floor(self.commits.base, self.members):
            self.commits.base = self._snapshot()
        for kept in self.members:
            if not is_built(kept, outside.online) and build_up(kept, outside, self.commits.base):
                self.progress.bootstrapped.append(kept.view.name)
        self._writing = Writing(self.members, outside, self.progress)
        self._take(self._partitions())
        reached("taken_up")
        self.progress.taken_up += 1
        self._lost = False

    def follow(self) -> None:
        """Take up the partitions that came since; each from one snapshot of the log [start, memory]."""
        held = self._partitions()
        self.let_go([partition for partition in self.parts if partition not in held])
        came = [partition for partition in held if partition not in self.parts]
        if not came or self._lost:
            return
        self.commits.land()
        self.commits.base = self._snapshot()
        if all(is_built(kept, self._outside.online) for kept in self.members):
            self._take(came)
        else:
            self.lose()

    def _take(self, partitions: Sequence[int]) -> None:
        marked = {kept.field: markers(self._outside.online, kept) for kept in self.members}
        for partition in partitions:
            low = low_end(self.members, marked, partition)
            self._writing.complete[partition] = low
            self.parts[partition] = take(
                partition, low, self.source, self._outside, self.commits.base, bool(self.members)
            )
        if self.commits.base is not None:  # who held them before may not have come to report it
            self._outside.intake.report(self.commits.base.ends)

    def let_go(self, partitions: Sequence[int]) -> None:
        """Commit what was decided, and leave the partitions to others.

        What cannot be committed is forgotten: who holds them next decides it again.
        """
        if not any(partition in self.parts for partition in partitions):
            return
        try:
            self.commit_offline()
        except FeatureflowError:  # met again by the step that comes to it; here it would end a rebalance
            self.lose()
        for partition in partitions:
            self.parts.pop(partition, None)

    def _snapshot(self) -> Snapshot | None:
        """The log as it is now, at the meaning of these definitions or a later one."""
        log = self._outside.log
        return None if log is None else log.raise_meaning(log.snapshot(), self._outside.order)

    def _partitions(self) -> list[int]:
        base = self.commits.base
        return sorted(own(self._outside.intake.partitions(), () if base is None else base.ends))

    # ---- one batch

    def replay(self) -> Batch | None:
        """What was decided long ago is not decided again: its rows come from the log [log].

        None: every partition has come to the log's end.
        """
        for partition, part in self.parts.items():
            if part.is_behind:
                rows = None if part.replay is None else next(part.replay, None)
                if rows is None:
                    part.replay = None
                    assert self._outside.log is not None
                    rows, end = self._outside.log.schema.empty_table(), part.decided
                else:
                    end = int(rows.column("_offset")[-1].as_py()) + 1
                return self._took(replayed(rows, {partition: (part.position, end)}, self.source))
        return None

    def poll(self, rows: int = BATCH_ROWS, wait_s: float = NEWS_S) -> Batch | None:
        """The next batch of new events; None: there is nothing there yet, for up to `wait_s` seconds.

        SourceAway where the source does not answer: nothing is to be forgotten, it may be asked again. An offset
        that is gone takes the partition up anew [reset]; FeatureflowError where events are lost.
        """
        self.has_news = None
        intake, asked = self._outside.intake, self._positions()
        try:
            asked = unfinished(asked, intake) if self.once else asked
            raw = intake.read(self.source, asked, rows, wait_s)
        except OffsetGone as gone:
            self._again(gone.partition)
            return None
        raw = {
            partition: batches for partition, batches in raw.items() if partition in self.parts and batches
        }
        self.has_news = bool(raw)
        self.is_behind = 4 * sum(len(each.offsets) for batches in raw.values() for each in batches) >= rows
        if not raw or self._lost:
            return None
        spans = {partition: (asked[partition], batches[-1].end) for partition, batches in raw.items()}
        memories = {partition: self.parts[partition].memory for partition in raw}
        batch = decided(raw, spans, self.source, memories, self._outside.clock(), self.progress.newest_us)
        if self.commits.base is not None:
            self.commits.add(batch)
        return self._took(batch)

    def _again(self, partition: int) -> None:
        """Let the partition go; `follow` takes it up again from the log's end, if that is still to be had."""
        self.let_go([partition])
        if not self._lost:
            self.progress.lost += pass_over(partition, self.source, self._outside, self.skip_lost)

    def _positions(self) -> dict[int, int]:
        """Where each partition of the intake goes on, of those that have come to the log's end."""
        held = self._outside.intake.partitions()
        return {
            partition: self.parts[partition].position
            for partition in held
            if partition in self.parts and not self.parts[partition].is_behind
        }

    def is_drained(self) -> bool:
        """Whether all that was there when this was first asked is applied, by whomever; asked when there was no batch.

        Who holds which partition is no matter: that may change at any moment, and what was applied does not.
        """
        self.awaits_others = False
        if self.has_news is not False or self._lost or any(part.is_behind for part in self.parts.values()):
            return False
        if self.has_come_or_gone:  # with a partition come its report and the letters that are to be replayed
            return False
        goal, mine = self._outside.intake.goal(), self._positions()
        if goal is None:
            return False
        left = [partition for partition, end in goal.items() if mine.get(partition, 0) < end]
        if not left or mine.keys() & left:
            return not left
        self.awaits_others = True
        applied = applied_by_others(left, self.members, self._outside)
        return all(applied.get(partition, 0) >= goal[partition] for partition in left)

    def look_behind(self) -> None:
        """Note how far the source has run ahead."""
        self.progress.behind = dict(self._outside.intake.behind(self._positions()))

    def _took(self, batch: Batch) -> Batch:
        for partition, (_, end) in batch.spans.items():
            self.parts[partition].position = end
        self.progress.count(batch)
        return batch

    # ---- the online store

    def writer(self, batch: Batch) -> Generator[None, None, bool]:
        """`write_online` and `mark` for another thread, in steps (`Writing.apply`); False: `lose` is to follow.

        The worker may take in and decide its next batch, let partitions go and commit meanwhile, and no more: a
        second batch is not written, and markers are not read, before this one is.
        """
        return self._writing.apply(batch)

    def write_online(self, batch: Batch) -> Written:
        """Merge the batch into the states of all views, until the store has acknowledged each of them."""
        return self._writing.write(batch)

    def mark(self, batch: Batch) -> bool:
        """Say that all states are complete up to the batch's ends; its writes are acknowledged [acks, prior].

        False: the store has lost what was marked before. Then nothing is marked, and all is taken up again.
        """
        return self._or_lost(self._writing.mark(batch))

    def look(self) -> bool:
        """Whether the online store still has what was marked: an idle worker looks every few seconds [idle]."""
        self._outside.online.ping()
        return self._or_lost(self._writing.stands(self.parts))

    def _or_lost(self, stands: bool) -> bool:
        if not stands:
            self.lose()
        return stands

    # ---- the log

    def serves(self, kept: Kept) -> None:
        """Note that the view's build serves from now on."""
        self.members = [
            Kept(member.view, replace(member.build, status="serving")) if member is kept else member
            for member in self.members
        ]

    def commit_offline(self) -> int:
        """Write the letters, then commit what was decided since the last commit; the number of rows.

        Raises MeaningMoved where the log takes commits of newer definitions only.
        """
        before = self.progress.committed
        try:
            self.commits.commit()
        except CutBack:  # it is to be filled anew
            self.lose()
        return self.progress.committed - before

    def start_commit(self, executor: Executor) -> None:
        """Begin to do the same in the background, unless the last one is still under way."""
        try:
            if self.commits.is_ready():
                self.commits.start(executor)
        except CutBack:
            self.lose()
