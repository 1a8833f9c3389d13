"""One worker on one source: its hold on the partitions, and the steps of design.md 4, one at a time.

    take_up        markers and log are read; what has no marker is bootstrapped; reading starts from there
    poll           a batch: replayed from the log below its end, taken in and decided from there on
    write_online   its states, by compare-and-set, until the store has acknowledged all of them
    mark           the marker: up to here all states are complete
    commit_offline letters, then the rows of all batches since the last commit

Whatever fails in between, `lose` and `take_up` are the way back: start, a new view and the loss of a store are
one code path. Production runs the steps in a loop (stream/run.py), a simulation in any order it likes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.evaluate.bootstrap import bootstrap
from featureflow_cli.evaluate.keeping import Kept, low_end, markers
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.sources.verdicts import Memory
from featureflow_cli.stream.commits import addressed, commit
from featureflow_cli.stream.deciding import Batch, decided, memory_of, replayed
from featureflow_cli.stream.merging import Span, Written, write_states
from featureflow_cli.stream.outside import Outside
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.resident import Resident
from featureflow_cli.stream.seeing import see

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 100_000
RESIDENT_BYTES = 256 * 2**20


@dataclass
class Part:
    """A worker's hold on one partition.

    Below `decided` it replays the log, from there on it takes in new events and judges them. `complete` is the
    markers' end when it was taken up: batches below it need not be written online again.
    """

    position: int
    decided: int
    complete: int
    memory: Memory
    replay: "Iterator[pa.RecordBatch] | None"


class Worker:
    """The stream of one source into the states of `members` and, where it has one, into its log."""

    def __init__(self, source: Source, members: Sequence[Kept], outside: Outside, progress: Progress) -> None:
        self.source = source
        self.members = list(members)
        self.progress = progress
        self.parts: dict[int, Part] = {}
        self.pending: list[Batch] = []  # decided, and not in the log yet
        self.base: Snapshot | None = None
        self._outside = outside
        self._residents: dict[str, Resident] = {}
        self._marked: dict[tuple[str, int], int] = {}
        self.lose()

    @property
    def needs_take_up(self) -> bool:
        return self._lost

    def lose(self) -> None:
        """Forget all that rests on a connection or a snapshot: states, batches, positions [cache, fate].

        What was decided and is not in the log is decided again, so it is not counted yet.
        """
        for batch in self.pending:
            self._count(batch, -1)
        self._lost = True
        self.parts, self.pending, self.base = {}, [], None
        self._residents, self._marked = {}, {}

    # ---- taking up

    def take_up(self) -> None:
        """Read the markers and one snapshot of the log, and start from what they say [sinks, rewind].

        Bootstraps every view that has no marker, before anything else of it is written [bootstrap].
        """
        self.lose()
        outside = self._outside
        if outside.log is not None:
            self.base = outside.log.raise_meaning(outside.log.snapshot(), outside.order)
        self.members = [self._with_floor(kept) for kept in self.members]
        for kept in self.members:
            if None in markers(outside.online, kept):
                self._bootstrap(kept)
        entities = dict.fromkeys(kept.view.entity for kept in self.members)
        for entity in entities:
            fields = tuple(kept.field for kept in self.members if kept.view.entity == entity)
            self._residents[entity] = Resident(entity, fields, RESIDENT_BYTES // len(entities))
        for partition in self._partitions():
            self.parts[partition] = self._part(partition)
        self.progress.taken_up += 1
        self._lost = False

    def _with_floor(self, kept: Kept) -> Kept:
        """The kept view with its floor: the log's ends as they are now, unless one was recorded before."""
        if kept.build.floor is not None:
            return kept
        ends = {} if self.base is None else self.base.ends
        floor = self._outside.set_floor(kept.build.number, ends)
        return Kept(kept.view, replace(kept.build, floor=floor))

    def _bootstrap(self, kept: Kept) -> None:
        outside = self._outside
        relation = outside.below(self.base, kept.build.floor or {})
        done = bootstrap(outside.engine, relation, kept, outside.online, outside.clock)
        if done.events:
            self.progress.bootstrapped.append(kept.view.name)

    def _partitions(self) -> list[int]:
        logged = () if self.base is None else self.base.ends
        return sorted({*self._outside.intake.partitions(), *logged})

    def _part(self, partition: int) -> Part:
        low = low_end(self._outside.online, self.members, partition)
        if self.base is None:  # a table decides afresh what it is asked again: its files are its log
            start = 0 if self.source.event_id is not None else low
            return Part(start, 0, low, memory_of(self.source, None, None, partition), None)
        end = self.base.ends.get(partition, 0)
        start = min(low, end) if self.members else end
        memory = memory_of(self.source, self._outside.log, self.base, partition)
        replay = self._outside.replayed(self.base, partition, start, end) if start < end else None
        return Part(start, end, low, memory, replay)

    # ---- one batch

    def poll(self, partition: int, rows: int = BATCH_ROWS) -> Batch | None:
        """The next batch of a partition; None: there is nothing there yet."""
        part = self.parts[partition]
        if part.position < part.decided:
            batch = self._replay(part, partition)
        else:
            raw = self._outside.intake.read(partition, part.position, rows)
            if not raw:
                return None
            span = Span(partition, part.position, raw[-1].end)
            batch = decided(raw, span, self.source, part.memory)
            if self.base is not None:
                self.pending.append(batch)
        part.position = batch.span.end
        self._count(batch)
        return batch

    def _replay(self, part: Part, partition: int) -> Batch:
        """What was decided long ago is not decided again: its rows come from the log [log]."""
        rows = None if part.replay is None else next(part.replay, None)
        if rows is None:
            part.replay = None
            assert self._outside.log is not None
            rest = self._outside.log.schema.empty_table()
            return replayed(rest, Span(partition, part.position, part.decided), self.source)
        end = int(rows.column("_offset")[-1].as_py()) + 1
        return replayed(rows, Span(partition, part.position, end), self.source)

    def _count(self, batch: Batch, sign: int = 1) -> None:
        progress = self.progress
        if batch.is_replay:
            progress.replayed += sign * batch.rows.num_rows
        else:
            progress.accepted += sign * batch.rows.num_rows
            progress.duplicates += sign * batch.duplicates
            for reason, count in batch.reasons.items():
                progress.letters[reason] += sign * count
        if batch.newest_us is not None:
            progress.newest_us = max(batch.newest_us, progress.newest_us or batch.newest_us)

    def write_online(self, batch: Batch) -> Written:
        """Merge the batch into the states of all views, until the store has acknowledged each of them."""
        part, outside = self.parts[batch.span.partition], self._outside
        if batch.span.end <= part.complete or not self.members or not batch.rows.num_rows:
            return Written()
        sight = see(outside.engine, batch.rows, self.members)
        written = Written()
        for entity, resident in self._residents.items():
            mine = [seen for seen in sight.seen if seen.kept.view.entity == entity]
            written += write_states(outside.online, resident, mine, batch.span, outside.clock)
        for kept, oldest_us in sight.ranked:
            outside.online.withdraw(kept.field, oldest_us)
        self.progress.writes += written.writes
        self.progress.conflicts += written.conflicts
        self.progress.before_until += 0 if batch.is_replay else sight.before_until
        return written

    def mark(self, batch: Batch) -> bool:
        """Say that all states are complete up to the batch's end; its writes are acknowledged [acks, prior].

        False: the store has lost what was marked before. Then nothing is marked, and all is taken up again.
        """
        partition, online = batch.span.partition, self._outside.online
        for kept in self.members:
            if not self._stands(kept, partition):
                self.lose()
                return False
        if self._outside.log is None and batch.letters.num_rows:  # no offline commit will pass them [letters]
            self._outside.letters.append(addressed(self.source, [batch], self._outside.clock()))
        for kept in self.members:
            for shard in range(online.shards):
                online.mark(shard, kept.field, {partition: batch.span.end})
            self._marked[kept.field, partition] = batch.span.end
        return True

    def look(self) -> bool:
        """Whether the online store still has what was marked: an idle worker looks every few seconds [idle]."""
        self._outside.online.ping()
        stands = all(self._stands(kept, partition) for kept in self.members for partition in self.parts)
        if not stands:
            self.lose()
        return stands

    def _stands(self, kept: Kept, partition: int) -> bool:
        marked = self._marked.get((kept.field, partition), 0)
        return all(
            marker is not None and marker.get(partition, kept.floor(partition)) >= marked
            for marker in markers(self._outside.online, kept)
        )

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
        if not self.pending or self._outside.log is None or self.base is None:
            return 0
        done = commit(self._outside, self.source, self.pending, self.base)
        if done is None:  # the log ends before what we hold: it was cut back, and is to be filled anew
            self.lose()
            return 0
        (self.base, rows), self.pending = done, []
        self.progress.committed += rows
        self.progress.commits += rows > 0
        return rows
