"""Dead letters that were asked to be replayed: a partition of its own, in the order in which they were asked.

Each is a new event (at its old offset the headers would drop it, design.md 4): its offset here is its ordinal
in the registry, its time the moment it was asked for. So a replay that is cut off goes on where it stopped.
"""

from collections.abc import Sequence

import numpy as np

from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.plan.registry import Registry
from featureflow_cli.sources.batches import RawBatch

REPLAY = -2
"""The partition's number."""


class Replays:
    """The intake of one source's replayed letters (`stream.outside.Intake`)."""

    def __init__(self, registry: Registry, letters: DeadLetters, source: str) -> None:
        self._registry = registry
        self._letters = letters
        self._source = source

    def partitions(self) -> Sequence[int]:
        """Always there, if empty: letters may be asked for while the stream runs."""
        return (REPLAY,)

    def read(self, partition: int, position: int, rows: int) -> RawBatch | None:
        """The messages of the next letters; one whose letter is gone is an empty message, which is undecodable."""
        assert partition == REPLAY
        asked = [replay for replay in self._registry.replays(self._source) if replay.ordinal >= position][
            :rows
        ]
        if not asked:
            return None
        wanted = {(replay.partition, replay.offset) for replay in asked}
        payloads: dict[tuple[int, int], bytes] = {}
        for own in sorted({letter_partition for letter_partition, _ in wanted}):
            found = self._letters.read(source=self._source, partition=own)
            positions = zip([own] * found.num_rows, found.column("offset").to_pylist(), strict=True)
            payloads |= {
                place: payload
                for place, payload in zip(positions, found.column("payload").to_pylist(), strict=True)
                if place in wanted
            }
        return RawBatch(
            content=[payloads.get((replay.partition, replay.offset), b"") for replay in asked],
            offsets=np.array([replay.ordinal for replay in asked], np.int64),
            end=asked[-1].ordinal + 1,
            recorded_at_us=np.array([replay.listed_us for replay in asked], np.int64),
        )
