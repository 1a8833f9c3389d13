"""A topic in memory, the group that reads it, and a member's view of both, which may be outdated."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.stream.outside import OffsetGone, SourceAway
from tests.simulation.definitions import PARTITION_NUMBERS
from tests.simulation.processes import How
from tests.simulation.promises import Promises


class Record(NamedTuple):
    """`lacks` names the column that is null in it, if any: under one of the two meanings that is a letter."""

    id: str
    user: int
    item: int
    at_us: int
    recorded_us: int
    lacks: str


class Topic:
    """`records` by partition; those below `first` are gone. `reported` is what the group told of its offsets."""

    def __init__(self, partitions: int, members: int, promises: Promises) -> None:
        self.promises = promises
        self.records: list[list[Record]] = [[] for _ in range(partitions)]
        self.first = [0] * partitions
        self.owners = {partition: partition % members for partition in range(partitions)}
        self.reported: dict[int, int] = {}

    def grow(self) -> None:
        self.records.append([])
        self.first.append(0)

    def content(self, partition: int, start: int, end: int) -> RawBatch:
        chosen = self.records[partition][start:end]
        offsets = np.arange(start, start + len(chosen))
        moment = pa.timestamp("us", tz="UTC")
        table = pa.table(
            {
                "id": pa.array([each.id for each in chosen], pa.string()),
                "user": pa.array(
                    [None if each.lacks == "user" else each.user for each in chosen], pa.int64()
                ),
                "item": pa.array([each.item for each in chosen], pa.int64()),
                "number": pa.array(partition * PARTITION_NUMBERS + offsets),
                "old": pa.array([None if each.lacks == "old" else 1 for each in chosen], pa.int64()),
                "new": pa.array([None if each.lacks == "new" else 1 for each in chosen], pa.int64()),
                "at": pa.array([each.at_us for each in chosen], moment),
            }
        )
        recorded = np.array([each.recorded_us for each in chosen], np.int64)
        return RawBatch(table, offsets, start + len(chosen), recorded)


class Member:
    """A process's `stream.outside.Intake`. What the group says is heard within `read`, when `is_due`.

    Until then it holds what it held, whoever else does: a zombie.
    """

    waits = False

    def __init__(
        self,
        topic: Topic,
        number: int,
        pause: Callable[[str], How],
        chance: Random,
        is_slow: Callable[[], bool],
    ) -> None:
        self.is_due = True
        self.is_member = True
        self._topic = topic
        self._number = number
        self._pause = pause
        self._chance = chance
        self._is_slow = is_slow
        self._held: list[int] = []
        self._revoke: Callable[[Sequence[int]], None] = lambda _: None

    def partitions(self) -> Sequence[int]:
        return self._held

    def first(self, partition: int) -> int:
        return self._topic.first[partition]

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float = 0.0
    ) -> Mapping[int, list[RawBatch]]:
        how = self._pause("read the topic")
        if how in {How.UNSENT, How.UNHEARD}:
            message = "the broker does not answer"
            raise SourceAway(message)
        if self.is_due:
            self._hear()
        found = {}
        for partition, position in positions.items():
            if partition not in self._held or self._is_slow():
                continue
            if position < self._topic.first[partition] and self._topic.promises.reset:
                raise OffsetGone(partition)
            start = max(position, self._topic.first[partition])
            batch = self._topic.content(partition, start, start + self._chance.randrange(1, rows + 1))
            if len(batch.offsets):
                found[partition] = [batch]
        return found

    def _hear(self) -> None:
        self.is_due = False
        mine = sorted(each for each, owner in self._topic.owners.items() if owner == self._number)
        lost = [each for each in self._held if each not in mine]
        if lost:
            self._revoke(lost)
        self._held = mine

    def goal(self) -> Mapping[int, int] | None:
        if self.is_due:
            return None
        return {partition: len(records) for partition, records in enumerate(self._topic.records)}

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        return {}

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        self._revoke = call

    def report(self, ends: Mapping[int, int]) -> None:
        self._topic.reported |= {each: ends[each] for each in self._held if each in ends}

    def close(self) -> None:
        self._held = []
