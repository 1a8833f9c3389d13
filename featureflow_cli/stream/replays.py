"""Dead letters that were asked to be replayed: a partition of its own, in the order in which they were asked.

Each is a new event (at its old offset the headers would drop it, design.md 4): its offset here is its ordinal
in the registry, its time the moment it was asked for. So a replay that is cut off goes on where it stopped.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from featureflow_cli.compute.views import Source
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.plan.registry import Registry
from featureflow_cli.sources import files
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.registered_messages import Readers, as_json
from featureflow_cli.stream.outside import NEWS_S, Intake

REPLAY = -2
"""The partition's number."""


class WithReplays:
    """The intake of a source (`stream.outside.Intake`) and the letters of it that were asked to be replayed."""

    def __init__(
        self,
        events: Intake,
        registry: Registry,
        letters: DeadLetters,
        source: str,
        readers: Readers | None = None,
    ) -> None:
        """`readers` of the messages of its topic (its intake closes them): what had no schema is read again."""
        self._events = events
        self._registry = registry
        self._letters = letters
        self._source = source
        self._readers = readers
        self._end: int | None = None  # of those that were asked for when the goal was

    @property
    def waits(self) -> bool:
        return self._events.waits

    def partitions(self) -> Sequence[int]:
        """REPLAY is always there, if empty: letters may be asked for while the stream runs.

        It goes with the files, or with the first partition of a topic.
        """
        held = self._events.partitions()
        return [*held, REPLAY] if files.PARTITION in held or 0 in held else held

    def first(self, partition: int) -> int:
        return 0 if partition == REPLAY else self._events.first(partition)

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float = NEWS_S
    ) -> Mapping[int, list[RawBatch]]:
        """The next events; a message whose letter is gone is an empty one, which is undecodable."""
        events = {partition: position for partition, position in positions.items() if partition != REPLAY}
        found = dict(self._events.read(source, events, rows, wait_s))
        if REPLAY in positions:
            found |= self._asked(positions[REPLAY], rows)
        return found

    def goal(self) -> Mapping[int, int] | None:
        goal = self._events.goal()
        if goal is None:
            return None
        if self._end is None:
            self._end = len(self._registry.replays(self._source))
        return {**goal, REPLAY: self._end} if self._end else goal

    def behind(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        return self._events.behind(positions)

    def on_revoke(self, call: Callable[[Sequence[int]], None]) -> None:
        self._events.on_revoke(call)

    def report(self, ends: Mapping[int, int]) -> None:
        self._events.report(ends)

    def close(self) -> None:
        self._events.close()

    def _asked(self, position: int, rows: int) -> Mapping[int, list[RawBatch]]:
        asked = [replay for replay in self._registry.replays(self._source) if replay.ordinal >= position][
            :rows
        ]
        if not asked:
            return {}
        payloads = self._payloads({(replay.partition, replay.offset) for replay in asked})
        batch = RawBatch(
            content=[payloads.get((replay.partition, replay.offset), b"") for replay in asked],
            offsets=np.array([replay.ordinal for replay in asked], np.int64),
            end=asked[-1].ordinal + 1,
            recorded_at_us=np.array([replay.listed_us for replay in asked], np.int64),
        )
        if self._readers is not None:
            batch = as_json(batch, self._readers, is_replay=True)
        return {REPLAY: [batch]}

    def _payloads(self, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        found: dict[tuple[int, int], bytes] = {}
        for partition in sorted({partition for partition, _ in wanted}):
            letters = self._letters.read(source=self._source, partition=partition)
            columns = (letters.column("offset").to_pylist(), letters.column("payload").to_pylist())
            for offset, payload in zip(*columns, strict=True):
                if (partition, offset) in wanted:
                    found[partition, offset] = payload
        return found
