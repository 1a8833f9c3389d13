"""Events of one topic, decoded, for one member of its group; while nobody asks, the next ones are read."""

import time
from collections.abc import Mapping
from dataclasses import replace

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode_all
from featureflow_cli.sources.json_messages import BLOCK_MESSAGES
from featureflow_cli.sources.kafka_consumer import GroupConsumer
from featureflow_cli.sources.registered_messages import Readers, as_json

PIECE = BLOCK_MESSAGES
"""Messages are asked for by so many: these stay in a core's cache until they are rows (of 25,000, 0.6 us each more)."""
PIECE_S = 0.01
"""How long a piece is waited for, and so whoever asks meanwhile."""
AHEAD_BYTES = 64 * 2**20
"""No more messages are read ahead than these: events of a megabyte each are taken in a few at a time."""
AHEAD_S = 5.0
"""Nor for longer: the group is to notice (`max.poll.interval.ms`) whose owner never asks again."""


class TopicReader:
    """What a member of the group reads, ahead of whoever asks; where that goes on is said with every question.

    `readers` are of the topic's messages, where a registry keeps their schemas.
    """

    def __init__(self, consumer: GroupConsumer, readers: Readers | None) -> None:
        self._consumer = consumer
        self._readers = readers
        self._source: Source | None = None
        self._positions: dict[int, int] = {}  # where what is held begins
        self._rows = 0  # how many events are wanted at once
        self._held: list[tuple[int, RawBatch]] = []
        self._count = self._raw = 0  # its events; those not yet decoded
        self._size_bytes = 0  # of its messages
        self._error: Exception | None = None  # what came after what is held
        self._asked_s = self._answered_s = 0.0

    def read(
        self, source: Source, positions: Mapping[int, int], rows: int, wait_s: float
    ) -> dict[int, list[RawBatch]]:
        """About `rows` events of the partitions named, from those offsets on; `content` of each batch is Decoded.

        They are gathered for `wait_s` seconds since the last answer, unless there are enough before: a batch for every
        few events would cost more than they do. Raises what `GroupConsumer.read` does, after all that came before it.
        """
        self._keep(source, positions)
        self._rows, self._asked_s = rows, time.monotonic()
        due_s = self._answered_s + wait_s
        while self.wants_more:
            left_s = due_s - time.monotonic()
            if self.read_ahead(max(0.0, min(left_s, PIECE_S))) < PIECE // 2 and left_s <= PIECE_S:
                break
        if self._error is not None and not self._held:
            error, self._error, self._rows = self._error, None, 0
            raise error
        return self._take()

    @property
    def wants_more(self) -> bool:
        """Whether there is room for more than what is held; not before the next question where one failed."""
        has_room = self._count < self._rows and self._size_bytes < AHEAD_BYTES
        return has_room and self._error is None and time.monotonic() < self._asked_s + AHEAD_S

    def read_ahead(self, wait_s: float = PIECE_S) -> int:
        """Read another piece, for at most so many seconds; how many messages it had."""
        ends = {partition: batch.end for partition, batch in self._held}
        try:
            rows = min(PIECE, self._rows - self._count)
            found = self._consumer.read({**self._positions, **ends}, rows, wait_s)
            if self._readers is not None:
                found = {each: [as_json(one, self._readers) for one in some] for each, some in found.items()}
        except Exception as err:  # for whoever asks
            self._error = err
            return 0
        fresh = [(partition, batch) for partition, batches in found.items() for batch in batches]
        came = sum(len(batch.offsets) for _, batch in fresh)
        self._held += fresh
        self._count += came
        self._size_bytes += sum(sum(map(len, batch.content)) for _, batch in fresh)
        self._raw += came
        if self._raw >= BLOCK_MESSAGES:
            self._decode()
        return came

    def _keep(self, source: Source, positions: Mapping[int, int]) -> None:
        """Of what is held, what was asked for."""
        asked = positions if source == self._source else {}
        kept = {partition for partition, at in self._positions.items() if asked.get(partition) == at}
        if kept != positions.keys():
            self._error = None  # it is met again where it still stands
        if len(kept) < len(self._positions):
            self._held = [(partition, batch) for partition, batch in self._held if partition in kept]
            self._count = sum(len(batch.offsets) for _, batch in self._held)
        self._source, self._positions = source, dict(positions)

    def _decode(self) -> None:
        assert self._source is not None
        decoded = decode_all([batch for _, batch in self._held], self._source)
        self._held = [
            (partition, replace(batch, content=content))
            for (partition, batch), content in zip(self._held, decoded, strict=True)
        ]
        self._raw = 0

    def _take(self) -> dict[int, list[RawBatch]]:
        """All that is held, of partitions that did not go to others meanwhile."""
        self._decode()
        found: dict[int, list[RawBatch]] = {}
        for partition, batch in self._held:
            if partition in self._consumer.held:
                found.setdefault(partition, []).append(batch)
        self._positions |= {partition: batches[-1].end for partition, batches in found.items()}
        self._held, self._count, self._size_bytes = [], 0, 0
        self._answered_s = time.monotonic()
        return found
