"""A topic's messages, for what reads them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from featureflow_cli.sources.batches import RawBatch

PIECE = 4


class Topic:
    """Stands for `GroupConsumer`: at most `most` messages a read, and what is `coming` happens inside of one.

    Offsets may be missing, also at the end: what was compacted, or is a transaction's marker.
    """

    def __init__(self, partitions: int = 3) -> None:
        self.held: set[int] = set()
        self.messages: dict[int, list[tuple[int, bytes]]] = {number: [] for number in range(partitions)}
        self.ends = dict.fromkeys(range(partitions), 0)
        self.most = PIECE
        self.coming: list[tuple[int, Callable[[], None]]] = []  # inside of which read
        self.reads = 0
        self.asked: Mapping[int, int] = {}

    def put(self, partition: int, message: bytes, gap: int = 0) -> None:
        offset = self.ends[partition]
        self.messages[partition].append((offset, message))
        self.ends[partition] = offset + 1 + gap

    def comes(self, happens: Callable[[], None], after: int = 0) -> None:
        self.coming.append((self.reads + after, happens))

    def read(self, positions: Mapping[int, int], rows: int, wait_s: float) -> dict[int, list[RawBatch]]:
        self.asked, number = dict(positions), self.reads
        self.reads += 1
        for each in [each for each in self.coming if each[0] <= number]:
            self.coming.remove(each)
            each[1]()
        found: dict[int, list[RawBatch]] = {}
        room = min(rows, self.most)
        for partition in sorted(self.held & positions.keys()):
            at, end = positions[partition], self.ends[partition]
            there = [message for message in self.messages[partition] if message[0] >= at]
            batches = [batch_of(there[:room])] if there[:room] else []
            if len(there) <= room and (batches[-1].end if batches else at) < end:
                batches.append(replace(batch_of([]), end=end))
            if batches:
                found[partition] = batches
            room -= min(room, len(there))
        return found


def batch_of(messages: Sequence[tuple[int, bytes]]) -> RawBatch:
    offsets = np.array([offset for offset, _ in messages], np.int64)
    end = messages[-1][0] + 1 if messages else 0
    return RawBatch([message for _, message in messages], offsets, end, offsets * 1000)
