"""A worker's hold on partitions: which are its own, and where each is taken up (design.md 4, "The log decides")."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featureflow_cli.compute.views import Source
from featureflow_cli.evaluate.keeping import Kept, low_end, markers
from featureflow_cli.offline.snapshots import Snapshot
from featureflow_cli.sources import files
from featureflow_cli.sources.verdicts import Memory
from featureflow_cli.stream.deciding import memory_of
from featureflow_cli.stream.outside import Intake, Outside

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Part:
    """A worker's hold on one partition.

    Below `decided` it replays the log, from there on it takes in new events and judges them.
    """

    position: int
    decided: int
    memory: Memory
    replay: "Iterator[pa.RecordBatch] | None"

    @property
    def is_behind(self) -> bool:
        """Whether the log has events of it that are to be replayed."""
        return self.position < self.decided


def own(held: Iterable[int], logged: Iterable[int]) -> set[int]:
    """Those that the intake holds; beside its files, or the first of a topic, those that only the log knows.

    The log of a topic that other workers share is theirs as well: only what no topic has is taken up here.
    """
    held = set(held)
    if files.PARTITION in held:
        return held | set(logged)
    if 0 in held:
        return held | {partition for partition in logged if partition < 0}
    return held


def take(
    partition: int, low: int, source: Source, outside: Outside, base: Snapshot | None, is_kept: bool
) -> Part:
    """The hold on a partition whose states are complete up to `low`, by one snapshot of the log [start, memory].

    `is_kept`: there are states to be written at all; otherwise nothing is replayed.
    """
    if base is None:  # a table decides afresh what it is asked again: its files are its log
        start = 0 if source.event_id is not None else low
        return Part(start, 0, memory_of(source, None, None, partition), None)
    memory = memory_of(source, outside.log, base, partition)
    end = base.ends.get(partition)
    if end is None:
        first = outside.intake.first(partition)
        assert outside.log is not None
        now = outside.log.snapshot() if first else base
        if partition in now.ends:  # meanwhile others logged its first events, and the source let go of them
            return take(partition, low, source, outside, now, is_kept)
        return Part(first, first, memory, None)
    start = min(low, end) if is_kept else end
    replay = outside.replayed(base, partition, start, end) if start < end else None
    return Part(start, end, memory, replay)


def unfinished(positions: Mapping[int, int], intake: Intake) -> dict[int, int]:
    """Without those that are found at the intake's goal or behind it: what is not found is read, to hear why."""
    goal, found = intake.goal(), intake.behind(positions)
    if goal is None:
        return dict(positions)
    return {each: at for each, at in positions.items() if each not in found or at < goal.get(each, 0)}


def applied_by_others(partitions: Sequence[int], members: Sequence[Kept], outside: Outside) -> dict[int, int]:
    """Up to where partitions are in the log and in all states: where each would be taken up now."""
    assert outside.log is not None
    ends = outside.log.snapshot().ends
    first = {each: outside.intake.first(each) for each in partitions if each not in ends}
    if first:  # what went since may have been logged before
        ends = outside.log.snapshot().ends
    marked = {kept.field: markers(outside.online, kept) for kept in members}
    logged = [each for each in partitions if each in ends]
    lows = {each: low_end(members, marked, each) if members else ends[each] for each in logged}
    return {**first, **{each: min(lows[each], ends[each]) for each in logged}}
