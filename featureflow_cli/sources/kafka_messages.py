"""What librdkafka's messages hold, column by column: a few calls a message, and no more of Python's."""

from itertools import chain, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from confluent_kafka import Message

from featureflow_cli.sources.arrays import Ints
from featureflow_cli.sources.batches import RawBatch


def recorded_ms(messages: list[Message]) -> Ints:
    """When Kafka says each was recorded (epoch milliseconds); negative for an error."""
    return np.fromiter(map(itemgetter(1), map(Message.timestamp, messages)), np.int64, len(messages))


def by_partition(messages: list[Message], at_ms: Ints) -> dict[int, RawBatch]:
    """Messages without errors, in order within each partition. Three calls a message at most (0.2 us)."""
    if not messages:
        return {}
    count = len(messages)
    partitions = np.fromiter(map(Message.partition, messages), np.int32, count)
    content: list[bytes | None] = list(map(Message.value, messages))
    if None in content:  # a tombstone is no event: an empty message, which nobody can decode
        content = [value or b"" for value in content]
    cuts = np.flatnonzero(np.diff(partitions)) + 1
    runs: dict[int, list[tuple[int, int]]] = {}
    for start, stop in pairwise([0, *cuts.tolist(), count]):
        runs.setdefault(int(partitions[start]), []).append((start, stop))
    return {partition: _batch(messages, content, at_ms, mine) for partition, mine in runs.items()}


def _batch(messages: list[Message], content: list[Any], at_ms: Ints, runs: list[tuple[int, int]]) -> RawBatch:
    offsets = np.concatenate([_offsets(messages, start, stop) for start, stop in runs])
    return RawBatch(
        content=list(chain.from_iterable(content[start:stop] for start, stop in runs)),
        offsets=offsets,
        end=int(offsets[-1]) + 1,
        recorded_at_us=np.concatenate([at_ms[start:stop] for start, stop in runs]) * 1000,
    )


def _offsets(messages: list[Message], start: int, stop: int) -> Ints:
    """The offsets of a run of one partition; they rise, so two tell all of them where none is missing."""
    first, last = messages[start].offset(), messages[stop - 1].offset()
    if last - first == stop - 1 - start:
        return np.arange(first, last + 1, dtype=np.int64)
    return np.fromiter((message.offset() for message in messages[start:stop]), np.int64, stop - start)


def nothing(end: int) -> RawBatch:
    """No message up to `end`."""
    return RawBatch([], np.empty(0, np.int64), end, np.empty(0, np.int64))
