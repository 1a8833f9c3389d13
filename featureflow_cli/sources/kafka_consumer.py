"""Messages of one topic, for one member of a consumer group; where to read is asked for with every read.

Only those of the member's partitions that a read names are assigned to librdkafka's fetchers, at the very offset that
was asked for: nothing ever starts from an offset that Kafka keeps (design.md 4 [sinks]).
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from featureflow_cli.errors import FeatureflowError
from featureflow_cli.sources.batches import RawBatch
from featureflow_cli.sources.kafka import METADATA_REFRESH_MS, Config, Trouble, close, explained, opened
from featureflow_cli.sources.kafka_member import AGAIN_S, ANSWER_S, GroupMember
from featureflow_cli.sources.kafka_messages import by_partition, nothing, recorded_ms
from featureflow_cli.spec.models import KafkaStream


class Gone(Exception):
    """The broker has no message at the offset that was asked for; `partition` says where."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition)
        self.partition = partition


class GroupConsumer:
    """What a `GroupMember` holds is read by another client; `held` and `joined` are the member's.

    `ends`: per partition the offset at which its end was met, as long as nothing was read since. `on_revoke`
    is called with partitions before they go to others.
    """

    def __init__(
        self, kafka: KafkaStream, config: Config, on_revoke: Callable[[Sequence[int]], None]
    ) -> None:
        self.ends: dict[int, int] = {}
        self._kafka = kafka
        self._config: Config = {
            **config,
            "enable.partition.eof": True,
            "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,  # it is in no group, and may look
        }
        self._on_revoke = on_revoke
        self._at: dict[int, int] = {}  # of the partitions that are fetched: what comes next
        self._trouble = Trouble()
        self._answer_s = ANSWER_S
        self._member = GroupMember(kafka, config, self._trouble, self._let_go)
        self._fetcher: Any = opened(Consumer, kafka, self._config, error_cb=self._trouble)

    @property
    def held(self) -> set[int]:
        return self._member.held

    @property
    def joined(self) -> bool:
        return self._member.joined

    def read(self, positions: Mapping[int, int], rows: int, wait_s: float) -> dict[int, list[RawBatch]]:
        """About `rows` messages of the partitions named, from those offsets on, after at most `wait_s` seconds.

        A partition without news is left out; offsets that no reader is meant to see (compacted, aborted,
        transaction markers) are passed over. Raises Gone, StoreUnavailable and DefinitionError.
        """
        try:
            errors = self._member.hear()
            self._place(positions)
            with _uncollected():
                found = self._received(errors + self._fetcher.consume(rows, wait_s))
        except KafkaException as err:
            self._leave(list(self._at))
            raise explained(err, self._kafka, self._config) from None
        except Exception:
            self._leave(list(self._at))  # what was received and is not answered comes again
            raise
        if self._trouble.error is not None and not found:
            self._member.ask_whether_it_answers(self._trouble.error)
        return found

    def watermarks(self, partition: int) -> tuple[int, int]:
        """The first offset that the broker has, and one past the last that there is."""
        try:
            try:
                found = self._watermarks(partition)
            except KafkaException as err:
                if err.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                    raise
                self._fetcher.list_topics(self._kafka.topic, timeout=self._answer_s)  # it may be a new one
                found = self._watermarks(partition)
        except KafkaException as err:
            self._answer_s = AGAIN_S
            raise explained(err, self._kafka, self._config) from None
        self._answer_s = ANSWER_S
        return found

    def high(self, partition: int) -> int | None:
        """One past the last offset that there was as the partition was last fetched; None if it was not."""
        if self.ends.get(partition) is not None:
            return self.ends[partition]
        place = TopicPartition(self._kafka.topic, partition)
        known = self._fetcher.get_watermark_offsets(place, cached=True)
        return known[1] if known is not None and known[1] >= 0 else None

    def report(self, ends: Mapping[int, int]) -> None:
        self._member.report(ends)

    def close(self) -> None:
        """Leave the group, soon (`kafka.close`); nobody is told of partitions any more."""
        self._member.close()
        close(self._fetcher)

    def _watermarks(self, partition: int) -> tuple[int, int]:
        place = TopicPartition(self._kafka.topic, partition)
        low, high = self._fetcher.get_watermark_offsets(place, timeout=self._answer_s)
        return low, high

    # ---- where it reads

    def _place(self, positions: Mapping[int, int]) -> None:
        wanted = {partition: positions[partition] for partition in self.held & positions.keys()}
        self._leave([each for each, at in self._at.items() if wanted.get(each) != at])
        fresh = {each: at for each, at in wanted.items() if each not in self._at}
        if fresh:
            topic = self._kafka.topic
            self._fetcher.incremental_assign([TopicPartition(topic, each, at) for each, at in fresh.items()])
            self._at |= fresh

    def _leave(self, partitions: Iterable[int]) -> None:
        """Stop fetching those of the partitions that are fetched."""
        fetched = [each for each in partitions if each in self._at]
        if not fetched:
            return
        for each in fetched:
            del self._at[each]
            self.ends.pop(each, None)
        with suppress(KafkaException):  # after a fatal error there is nothing left to be stopped
            self._fetcher.incremental_unassign([TopicPartition(self._kafka.topic, each) for each in fetched])

    def _let_go(self, partitions: Sequence[int]) -> None:
        self._on_revoke(partitions)
        self._leave(partitions)

    # ---- what it gets

    def _received(self, messages: list[Message]) -> dict[int, list[RawBatch]]:
        errors, at_ms = [], recorded_ms(messages)
        if (at_ms < 0).any():  # an error has no time
            errors = [message for message in messages if message.error() is not None]
            messages = [message for message in messages if message.error() is None]
            at_ms = recorded_ms(messages)
        found = {}
        for partition, batch in by_partition(messages, at_ms).items():
            at = self._at.get(partition)
            if at is None:  # it went to another member meanwhile
                continue
            if (
                batch.offsets[0] < at
            ):  # of a fetch before this one: whatever it is, it is not what was asked for
                self._leave([partition])
                continue
            self._at[partition] = batch.end
            self.ends.pop(partition, None)
            found[partition] = [batch]
        for message in errors:
            self._take_error(message, found)
        return found

    def _take_error(self, message: Message, found: dict[int, list[RawBatch]]) -> None:
        error, partition = message.error(), message.partition()
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._trouble.clear()
            at = self._at.get(partition)
            if at is not None and message.offset() >= at:
                self.ends[partition] = message.offset()
            if (
                at is not None and message.offset() > at
            ):  # nothing but markers and aborted messages up to there
                self._at[partition] = message.offset()
                found.setdefault(partition, []).append(nothing(message.offset()))
        elif code == KafkaError._AUTO_OFFSET_RESET:
            if partition in self._at:
                raise Gone(partition)
        elif error.fatal():
            what = f"Kafka's client gave up: {explained(error, self._kafka, self._config).what}"
            raise FeatureflowError(what, hint="start the stream again")
        elif code != KafkaError._MAX_POLL_EXCEEDED:  # after that one it joins the group again
            self._trouble(error)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: it would go through 100,000 new messages again and again (0.65 us a message)."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
