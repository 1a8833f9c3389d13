"""Writing to Kafka: events as they are generated, and dead letters to a topic of their own.

The producer is idempotent: what librdkafka repeats arrives once, in order. Nothing counts as written before
`flush` has returned; where Kafka does not take it in time, that is a StoreUnavailable.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.sources.kafka import Config, MissingTopic, client_config, explained, opened
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.times import format_timestamp

if TYPE_CHECKING:
    import pyarrow as pa

SENDING_MS, TELLING_MS = 5 * 60_000, 30_000
"""How long Kafka has to take an event that is generated, and a letter, however often it is sent."""
LOOK_S = 4.0
"""How long a broker has to say whether there is a topic for letters."""
STOPPED_S = 10.0
"""How long Kafka has to take what was sent once somebody said stop."""
QUEUED_MESSAGES = 400_000
"""How many wait in memory at most: then `send` waits."""
_PRODUCING: Config = {
    "enable.idempotence": True,
    "linger.ms": 5,
    "batch.size": 1_000_000,
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # a key goes where the producers of the JVM would send it
    "queue.buffering.max.messages": 2 * QUEUED_MESSAGES,
    "queue.buffering.max.kbytes": 2_147_483_647,  # they are counted, not weighed
    "delivery.report.only.error": True,
    "topic.metadata.propagation.max.ms": 10_000,  # then a topic is taken to be missing, before messages time out
}


class Sender:
    """Sends messages to the topic of `kafka`, those of a key in order.

    A broker that pauses is waited for (SENDING_MS); once `stopped` says so, not for long.
    """

    def __init__(
        self, kafka: KafkaStream, environ: Mapping[str, str], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._sent = 0
        self._lost = 0
        self._kafka = kafka
        self._stopped = stopped
        delivery: Config = {"delivery.timeout.ms": SENDING_MS}
        self._config: Config = {**_PRODUCING, **delivery, **client_config(kafka, environ)}
        self._producer = opened(Producer, kafka, self._config)
        self._failed: KafkaError | None = None

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        """Queues them; waits where too many are on their way. At most QUEUED_MESSAGES at once."""
        assert len(values) <= QUEUED_MESSAGES
        self._wait(QUEUED_MESSAGES)
        messages: list[dict[str, Any]]
        if keys is None:
            messages = [{"value": value} for value in values]
        else:
            messages = [{"value": value, "key": key} for value, key in zip(values, keys, strict=True)]
        try:
            queued = self._producer.produce_batch(self._kafka.topic, messages, on_delivery=self._note)
        except KafkaException as err:
            raise explained(err, self._kafka, self._config) from None
        self._sent += queued
        if queued < len(messages):
            error = next(message["_error"] for message in messages if "_error" in message)
            raise explained(error, self._kafka, self._config)
        self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Returns once Kafka has taken all that was sent; StoreUnavailable says how much, where it has not."""
        self._wait(0)

    def discard(self) -> None:
        """Drops what waits: nobody waits for it any more."""
        self._producer.purge()
        self._producer.flush(1.0)

    def _wait(self, left: int) -> None:
        """Until no more than `left` are on their way."""
        until_s: float | None = None
        while len(self._producer) > left:
            self._producer.poll(0.01)
            if until_s is None and self._stopped():
                until_s = time.monotonic() + STOPPED_S
            if until_s is not None and time.monotonic() > until_s:
                self._failed = self._failed or KafkaError(KafkaError._TIMED_OUT)
            self._check()
        self._check()

    def _note(self, error: KafkaError | None, _: Message) -> None:
        self._failed = self._failed or error
        self._lost += 1

    def _check(self) -> None:
        if self._failed is None:
            return
        error, self._failed = explained(self._failed, self._kafka, self._config), None
        self.discard()
        self._failed = None  # what was discarded is lost by our own hand
        what = f"{error.what} ({self._sent - self._lost:,} of {self._sent:,} messages were acknowledged)"
        raise StoreUnavailable(what, hint=error.hint)


class LetterTopic:
    """The topic to which the dead letters of a source are told, beside the table that keeps them.

    At least once: a replay of the stream tells them again, under the same key (source/partition/offset).
    The value is what came; headers say where from and why. What is too large for the topic comes without its
    value, and with the header `payload: too large`; the table has it.
    """

    def __init__(self, kafka: KafkaStream, environ: Mapping[str, str]) -> None:
        assert kafka.dead_letter_topic is not None
        self._kafka = kafka.model_copy(update={"topic": kafka.dead_letter_topic})
        settings: Config = {
            "delivery.timeout.ms": TELLING_MS,
            "batch.size": 65_536,
        }  # a refused batch is refused whole
        self._config: Config = {**_PRODUCING, **settings, **client_config(kafka, environ)}
        self._producer: Producer | None = None
        self._failed: dict[int, KafkaError] = {}

    def append(self, letters: "pa.Table") -> int:
        """Tells them all (sources.letters.SCHEMA) and answers how many, once Kafka has taken them."""
        if letters.num_rows == 0:
            return 0
        if self._producer is None:
            self._producer = opened(Producer, self._kafka, self._config)
        self._look_for_topic(self._producer)
        at = letters.schema.get_field_index("recorded_at")
        rows = letters.set_column(at, "recorded_at", letters.column(at).cast("int64")).to_pylist()
        for number, row in enumerate(rows):
            self._tell(self._producer, number, row)
        failed = self._flushed(self._producer)
        too_large = [number for number, error in failed.items() if error.code() == _TOO_LARGE]
        if len(too_large) < len(failed):
            error = next(error for error in failed.values() if error.code() != _TOO_LARGE)
            raise explained(error, self._kafka, self._config)
        for number in too_large:
            self._tell(self._producer, number, rows[number], without_payload=True)
        for error in self._flushed(self._producer).values():
            raise explained(error, self._kafka, self._config)
        return len(rows)

    def _look_for_topic(self, producer: Producer) -> None:
        """StoreUnavailable where there is none: the producer would wait for it, and its user not know for what."""
        with suppress(KafkaException):  # whether brokers answer is told by the letters, which have longer
            error = producer.list_topics(self._kafka.topic, timeout=LOOK_S).topics[self._kafka.topic].error
            found = None if error is None else explained(error, self._kafka, self._config)
            if isinstance(found, MissingTopic):
                raise found

    def _tell(
        self, producer: Producer, number: int, row: Mapping[str, object], without_payload: bool = False
    ) -> None:
        place = f"{row['source']}/{row['partition']}/{row['offset']}"
        headers = letter_headers(row)
        if without_payload:
            headers.append(("payload", b"too large"))
        while True:
            try:
                producer.produce(
                    self._kafka.topic,
                    value=None if without_payload else row["payload"],
                    key=place.encode(),
                    headers=headers,
                    on_delivery=partial(self._note, number),
                )
            except BufferError:  # as many as may wait are on their way
                producer.poll(0.1)
            except KafkaException as err:
                if without_payload or err.args[0].code() != _TOO_LARGE:
                    raise explained(err, self._kafka, self._config) from None
                self._failed[number] = err.args[0]
                return
            else:
                producer.poll(0)
                return

    def _flushed(self, producer: Producer) -> dict[int, KafkaError]:
        while producer.flush(1.0) > 0:
            pass  # each message is delivered or given up within TELLING_MS
        failed, self._failed = self._failed, {}
        return failed

    def _note(self, number: int, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed[number] = error


def letter_headers(row: Mapping[str, object]) -> list[tuple[str, bytes]]:
    """Where a letter came from, why it is one, and when its source recorded it (RFC 3339), as text."""
    texts = [(name, str(row[name])) for name in ("source", "partition", "offset", "reason", "detail")]
    texts.append(("recorded_at", format_timestamp(int(str(row["recorded_at"])))))
    return [(name, text.encode()) for name, text in texts]


_TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
