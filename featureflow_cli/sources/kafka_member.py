"""One member of a consumer group: which partitions of the topic are its own. It reads nothing.

Whoever is told what to fetch while a rebalance waits for its answer takes that for the answer, and lets partitions go
that nobody was told of (`rd_kafka_cgrp_incremental_unassign`, librdkafka 2.16): so those who fetch are other clients.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from featureflow_cli.sources.kafka import Config, Trouble, close, explained, opened
from featureflow_cli.spec.models import KafkaStream

ANSWER_S, AGAIN_S = 5.0, 1.0
"""How long a broker may take to answer a question; and the next one, where it left one unanswered."""
LOOK_S = 5.0
"""How soon it is noticed that the topic has grown."""
_HEARD = 100
"""Errors at once: more are heard the next time."""


class GroupMember:
    """`held`: the partitions that the group has given to it; it changes inside of `hear` only.

    `joined`: the group has given them out, and has not thrown this member out since (one that held none is not told
    of that). `on_revoke` is called with partitions before they go to others.
    """

    def __init__(
        self, kafka: KafkaStream, config: Config, trouble: Trouble, on_revoke: Callable[[Sequence[int]], None]
    ) -> None:
        """`trouble` is told what its connections complain of. Nothing is asked yet."""
        self.held: set[int] = set()
        self.joined = False
        self._kafka = kafka
        self._config = config
        self._trouble = trouble
        self._on_revoke: Callable[[Sequence[int]], None] = on_revoke
        self._partitions = 0  # of the topic, as the group was last joined for
        self._look_s = 0.0  # when the topic is to be looked at again
        self._answer_s = ANSWER_S
        self._client: Any = opened(Consumer, kafka, config, error_cb=trouble, on_commit=lambda *_: None)

    def hear(self) -> list[Message]:
        """Take part in what the group does; what went wrong. StoreUnavailable as long as it cannot be joined."""
        if not self._partitions:
            self.ask_whether_it_answers(None)
        elif time.monotonic() > self._look_s:
            with suppress(KafkaException):  # whoever fetches notices as well
                self._look(AGAIN_S)
        errors: list[Message] = self._client.consume(_HEARD, 0)
        return errors

    def ask_whether_it_answers(self, trouble: KafkaError | None) -> None:
        """StoreUnavailable where no broker answers, or has no such topic (any more); `trouble` says why."""
        try:
            error = self._look(self._answer_s)
        except KafkaException as err:
            self._answer_s = AGAIN_S
            if trouble is None:
                self._client.poll(0)  # what its connections said: a wrong password is only seen to take time
            raise explained(trouble or self._trouble.error or err, self._kafka, self._config) from None
        self._answer_s = ANSWER_S
        if error is not None:
            raise explained(error, self._kafka, self._config)
        self._trouble.clear()

    def report(self, ends: Mapping[int, int]) -> None:
        """Commit offsets for those who watch the group's lag; nobody waits for it, or misses it."""
        offsets = [TopicPartition(self._kafka.topic, each, ends[each]) for each in self.held & ends.keys()]
        if offsets:
            with suppress(KafkaException):
                self._client.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Leave the group, soon (`kafka.close`); nobody is told of partitions any more."""
        self._on_revoke = lambda _: None
        close(self._client)

    def _look(self, answer_s: float) -> KafkaError | None:
        """Join the group once the topic is known, and anew when it has grown; why it is not known.

        librdkafka is kept from looking by itself (2.16). Where it found a topic grown, it would join anew in whatever
        state it is: amid a revocation it would take that for a rebalance that never ends, and stay away from all that
        follow (`rd_kafka_cgrp_metadata_update_check`); a subscription waits for the rebalance. And where it did not
        know the topic as it joins, it would ask, and wait for ever for an answer that went down with its connection
        (`rd_kafka_cgrp_handle_Metadata_op`).
        """
        name, self._look_s = self._kafka.topic, time.monotonic() + LOOK_S
        topic = self._client.list_topics(name, timeout=answer_s).topics[name]
        error: KafkaError | None = topic.error
        if error is None and len(topic.partitions) > self._partitions:
            self._client.subscribe(
                [name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._thrown_out
            )
            self._partitions = len(topic.partitions)
        return error

    def _assigned(self, client: Any, partitions: Sequence[TopicPartition]) -> None:
        self.joined = True
        self.held |= {each.partition for each in partitions}
        client.incremental_assign([])

    def _revoked(self, client: Any, partitions: Sequence[TopicPartition]) -> None:
        going = [each.partition for each in partitions]
        self._on_revoke(going)
        self.held -= set(going)
        client.incremental_unassign([])

    def _thrown_out(self, client: Any, partitions: Sequence[TopicPartition]) -> None:
        self.joined = False
        self._revoked(client, partitions)
