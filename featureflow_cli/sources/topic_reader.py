"""Events of one topic, decoded, for one member of its group; while nobody asks, the next ones are read."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from featureflow_cli.compute.views import Source
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.decode import decode_all
from featureflow_cli.sources.json_messages import BLOCK_MESSAGES
from featureflow_cli.sources.kafka_consumer import GroupConsumer
from featureflow_cli.sources.registered_messages import Readers, as_json
from featureflow_cli.sources.schemas import HEADER, Reader

PIECE = BLOCK_MESSAGES
"""Messages are asked for by so many: these stay in a core's cache until they are rows (of 25,000, 0.6 us each more)."""
PIECE_S = 0.01
"""How long a piece is waited for while nobody asks, and so whoever asks meanwhile."""
DECODED_AT_ONCE = 2_048
"""No fewer while nobody asks, for each time has its price; whoever asks waits for no more than these."""
AHEAD_BYTES = 64 * 2**20
"""No more messages are read ahead than these: events of a megabyte each are taken in a few at a time."""
AHEAD_S = 5.0
"""Nor for longer: the group is to notice (`max.poll.interval.ms`) whose owner never asks again."""

SCHEMAS_S = 10.0
"""A registry is asked for no more schemas so long after a question: who waits for the answer takes us for hanging."""


@dataclass
class _Ahead:
    """What is held of one partition, from that offset on; how many messages it came from, and of what size."""

    position: int
    batches: list[RawBatch] = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0

    @property
    def end(self) -> int:
        return self.batches[-1].end if self.batches else self.position


class TopicReader:
    """What a member of the group reads, ahead of whoever asks; where that goes on is said with every question.

    `readers` are of the topic's messages, where a registry keeps their schemas.
    """

    def __init__(self, consumer: GroupConsumer, readers: Readers | None) -> None:
        self._consumer = consumer
        self._readers = readers
        self._answered: dict[bytes, Reader] = {}  # by the registry, of messages that are still to be read
        self._source: Source | None = None
        self._ahead: dict[int, _Ahead] = {}  # of each partition that was asked for
        self._rows = 0  # how many events are wanted at once
        self._raw = 0  # how many of what is held are not decoded yet
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
            if self.read_ahead(max(0.0, left_s)) < PIECE // 2 and left_s <= 0:
                break
        if self._error is not None and not any(ahead.batches for ahead in self._ahead.values()):
            error, self._error, self._rows = self._error, None, 0
            raise error
        return self._take()

    @property
    def wants_more(self) -> bool:
        """Whether there is room for more than what is held; not before the next question where one failed."""
        has_room = self._room > 0 and sum(ahead.size_bytes for ahead in self._ahead.values()) < AHEAD_BYTES
        return has_room and self._error is None and time.monotonic() < self._asked_s + AHEAD_S

    @property
    def _room(self) -> int:
        """How many more messages are wanted."""
        return self._rows - sum(ahead.count for ahead in self._ahead.values())

    def read_ahead(self, wait_s: float = PIECE_S) -> int:
        """Read another piece, for at most so many seconds; how many messages it had."""
        places = {partition: ahead.end for partition, ahead in self._ahead.items()}
        readers, until_s, answered = self._readers, self._asked_s + SCHEMAS_S, dict(self._answered)
        try:
            found = self._consumer.read(places, min(PIECE, self._room), wait_s)
            fresh = [
                (
                    partition,
                    batch,
                    batch if readers is None else as_json(batch, readers, until_s=until_s, found=answered),
                )
                for partition, batches in found.items()
                for batch in batches
            ]
        except Exception as err:  # for whoever asks
            self._error, self._answered = err, answered
            return 0
        if self._answered:
            passed = {message[:HEADER] for _, came, _ in fresh for message in came.content}
            self._answered = {each: read for each, read in self._answered.items() if each not in passed}
        for partition, came, batch in fresh:
            ahead = self._ahead[partition]
            ahead.batches.append(batch)
            ahead.count += len(came.content)
            ahead.size_bytes += sum(map(len, came.content))
        count = sum(len(came.content) for _, came, _ in fresh)
        self._raw += count
        if self._raw >= DECODED_AT_ONCE:
            self._decode()
        return count

    def _keep(self, source: Source, positions: Mapping[int, int]) -> None:
        """Of what is held, what was asked for."""
        if source != self._source:
            self._source, self._ahead, self._error = source, {}, None
        places = {partition: ahead.position for partition, ahead in self._ahead.items()}
        if places != positions:
            self._error, self._answered = None, {}  # it is met again where it still stands
        self._ahead = {
            partition: self._ahead[partition] if places.get(partition) == at else _Ahead(at)
            for partition, at in positions.items()
        }

    def _decode(self) -> None:
        assert self._source is not None
        held = [batch for ahead in self._ahead.values() for batch in ahead.batches]
        decoded = iter(decode_all(held, self._source))
        for ahead in self._ahead.values():
            ahead.batches = [replace(batch, content=next(decoded)) for batch in ahead.batches]
        self._raw = 0

    def _take(self) -> dict[int, list[RawBatch]]:
        """All that is held, of partitions that did not go to others meanwhile."""
        self._decode()
        found = {
            partition: ahead.batches
            for partition, ahead in self._ahead.items()
            if ahead.batches and partition in self._consumer.held
        }
        self._ahead = {partition: _Ahead(ahead.end) for partition, ahead in self._ahead.items()}
        self._answered_s = time.monotonic()
        return found
