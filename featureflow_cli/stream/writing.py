"""A worker's way into the online store, on one connection: states, then the marker that says that they are there.

What is known here (the states that were written, the markers that were set) rests on that connection: with it all
of it is forgotten, and whoever goes on makes a new one of these [cache, fate]. It reads nothing that the worker
changes while it takes in the next batch: the two go on at once.
"""

from collections.abc import Generator, Iterable, Sequence
from typing import TypeVar

from featureflow_cli.evaluate.keeping import Kept, markers
from featureflow_cli.stream.deciding import Batch
from featureflow_cli.stream.faults import reached
from featureflow_cli.stream.merging import Written, write_states
from featureflow_cli.stream.outside import Outside
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.resident import Resident
from featureflow_cli.stream.seeing import Sight, see

T = TypeVar("T")

RESIDENT_BYTES = 256 * 2**20


class Writing:
    """States and markers of `members`, one batch at a time, in the order in which they were decided.

    `complete` is up to where the markers said that all states of a partition are there, when it was taken up.
    """

    def __init__(self, members: Sequence[Kept], outside: Outside, progress: Progress) -> None:
        self.complete: dict[int, int] = {}
        self._members = tuple(members)
        self._outside = outside
        self._progress = progress
        self._marked: dict[tuple[str, int], int] = {}
        by_entity: dict[str, list[Kept]] = {}
        for kept in members:
            by_entity.setdefault(kept.view.entity, []).append(kept)
        limit_bytes = RESIDENT_BYTES // max(1, len(by_entity))
        self._residents = [Resident(several, limit_bytes) for several in by_entity.values()]

    def apply(self, batch: Batch) -> Generator[None, None, bool]:
        """All that the store is to learn of a batch; whether the marker was set (see `mark`).

        It stops at least once: when states are sent, so that there is little left but to hear what the store says.
        """
        with self._progress.timing("write"):
            yield from self._written(batch)
        reached("written")
        with self._progress.timing("mark"):
            stands = self.mark(batch)
        reached("marked")
        if stands and not batch.is_replay:
            self._progress.readable(batch.event_us, self._outside.clock())
        return stands

    def write(self, batch: Batch) -> Written:
        """Merge the batch into the states of all views, until the store has acknowledged each of them."""
        return ended(self._written(batch))

    def _written(self, batch: Batch) -> Generator[None, None, Written]:
        outside = self._outside
        is_nothing = not self._members or not batch.rows.num_rows or self._is_complete(batch)
        sight = Sight((), ()) if is_nothing else see(outside.engine, batch.rows, self._members)
        entities = [
            (resident, [seen for seen in sight.seen if seen.kept.view.entity == resident.entity])
            for resident in self._residents
        ]
        written = yield from write_states(outside.online, entities, batch.spans, outside.clock)
        for kept, oldest_us in sight.ranked:
            outside.online.withdraw(kept.field, oldest_us)
        self._progress.writes += written.writes
        self._progress.conflicts += written.conflicts
        return written

    def _is_complete(self, batch: Batch) -> bool:
        """Whether nothing of it need be written."""
        return all(end <= self.complete.get(partition, 0) for partition, (_, end) in batch.spans.items())

    def mark(self, batch: Batch) -> bool:
        """Say that all states are complete up to the batch's ends; its writes are acknowledged [acks, prior].

        False: the store has lost what was marked before. Then nothing is marked: all is to be taken up again.
        """
        online = self._outside.online
        ends = {partition: end for partition, (_, end) in batch.spans.items()}
        if not self.stands(ends):
            return False
        if self._outside.log is None and batch.letters.num_rows:  # no offline commit will pass them [letters]
            self._outside.letters.append(batch.letters)
        for kept in self._members:
            for shard in range(online.shards):
                online.mark(shard, kept.field, ends)
            reached("half_marked")
            self._marked.update({(kept.field, partition): end for partition, end in ends.items()})
        return True

    def stands(self, partitions: Iterable[int]) -> bool:
        """Whether the store still has what was marked of the partitions."""
        return all(
            marker is not None
            and all(
                marker.get(partition, kept.floor(partition)) >= self._marked.get((kept.field, partition), 0)
                for partition in partitions
            )
            for kept in self._members
            for marker in markers(self._outside.online, kept)
        )


def ended(steps: Generator[None, None, T]) -> T:
    """What it returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
