"""What brokers know of topics and groups, asked through one short-lived client; and how topics come to be.

Every question is answered within ANSWER_S or ends in StoreUnavailable; librdkafka itself would go on for ever.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import wait
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from featureflow_cli.plan.topics import RECEIVED, Topic
from featureflow_cli.sources.kafka import (
    Config,
    Trouble,
    client_config,
    close,
    explained,
    missing_topic,
    opened,
)
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.times import MILLISECOND_US

ANSWER_S, CHANGE_S = 4.0, 15.0
"""How long brokers may take to answer, and to create something."""
LOOK_S = 0.1
_BY_THE_BROKER = -1  # as many replicas as the brokers give a topic by default
_ABSENT = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_UNSEEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


class Admin:
    """The brokers of one source's `kafka`. It connects when first asked."""

    def __init__(self, kafka: KafkaStream, environ: Mapping[str, str], answer_s: float = ANSWER_S) -> None:
        self._time: dict[str, Any] = {"request_timeout": answer_s}
        self._kafka = kafka
        self._config: Config = client_config(kafka, environ)
        self._trouble = Trouble()
        self._client = opened(AdminClient, kafka, self._config, error_cb=self._trouble)

    def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the topics that are there."""
        found = self._found(names)
        settings = self._settings(list(found))
        return {
            name: Topic(
                name,
                topic_id,
                partitions,
                settings[name].get("message.timestamp.type"),
                _number(settings[name].get("retention.ms")),
            )
            for name, (topic_id, partitions) in found.items()
        }

    def identity(self, name: str) -> tuple[str, int]:
        """Id and number of partitions of the topic that has the name now; MissingTopic where none has."""
        found = self._found([name])
        if name not in found:
            raise missing_topic(self._kafka, self._config)
        return found[name]

    def require(self, name: str) -> Topic:
        """The topic; StoreUnavailable, with what to do, where it is not there."""
        found = self.describe([name]).get(name)
        if found is None:
            raise missing_topic(self._kafka, self._config)
        return found

    def create(self, name: str, partitions: int, retention_us: int | None) -> None:
        """A topic whose records get the time at which Kafka received them; nothing happens if it is there."""
        settings = {"message.timestamp.type": RECEIVED}
        if retention_us is not None:
            settings["retention.ms"] = str(retention_us // MILLISECOND_US)
        new = NewTopic(name, partitions, _BY_THE_BROKER, config=settings)
        asked = self._ask(lambda: self._client.create_topics([new], request_timeout=CHANGE_S))
        self._answer(asked[name], {KafkaError.TOPIC_ALREADY_EXISTS})
        self._wait_for(name, 1)

    def grow(self, name: str, partitions: int) -> None:
        """The topic has at least so many partitions afterwards."""
        new = NewPartitions(name, partitions)
        asked = self._ask(lambda: self._client.create_partitions([new], request_timeout=CHANGE_S))
        self._answer(asked[name], {KafkaError.INVALID_PARTITIONS})  # somebody else was as quick
        self._wait_for(name, partitions)

    def offsets(self, name: str, partitions: int) -> dict[int, tuple[int, int]]:
        """Per partition the offset of its first event and one past its last; open transactions do not count."""
        places = [TopicPartition(name, number) for number in range(partitions)]
        first = self._offsets(places, OffsetSpec.earliest())
        end = self._offsets(places, OffsetSpec.latest())
        return {number: (first[number], end[number]) for number in first.keys() & end.keys()}

    def committed(self, group: str, name: str, partitions: int) -> dict[int, int]:
        """What the group reported per partition; empty where it never did, or nobody can or may tell now.

        Asked by a consumer that joins no group: librdkafka 2.16 crashes where an AdminClient asks a broker that
        has just started (`list_consumer_group_offsets`, on COORDINATOR_LOAD_IN_PROGRESS).
        """
        consumer: Any = opened(
            Consumer, self._kafka, {**self._config, "group.id": group}, error_cb=self._trouble
        )
        try:
            places = [TopicPartition(name, number) for number in range(partitions)]
            found = consumer.committed(places, timeout=ANSWER_S)
        except KafkaException:
            return {}
        finally:
            close(consumer)
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def _found(self, names: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Id and number of partitions of the topics that are there."""
        wanted = list(dict.fromkeys(names))
        asked = self._ask(lambda: self._client.describe_topics(TopicCollection(wanted), **self._time))
        described = {name: self._answer(asked[name], _ABSENT) for name in wanted}
        return {
            name: (str(topic.topic_id), len(topic.partitions))
            for name, topic in described.items()
            if topic is not None
        }

    def _wait_for(self, name: str, partitions: int) -> None:
        """Until the brokers tell of so many partitions: a moment after they were made."""
        until_s = time.monotonic() + CHANGE_S
        while self._found([name]).get(name, ("", 0))[1] < partitions and time.monotonic() < until_s:
            time.sleep(LOOK_S)

    def _offsets(self, places: Sequence[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        question = dict.fromkeys(places, spec)
        level = IsolationLevel.READ_COMMITTED
        asked = self._ask(lambda: self._client.list_offsets(question, isolation_level=level, **self._time))
        return {place.partition: self._answer(future).offset for place, future in asked.items()}

    def _settings(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The topics' settings; none where the account may not see them."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        asked = self._ask(lambda: self._client.describe_configs(resources, **self._time))
        answers = {resource.name: self._answer(future, _UNSEEN) or {} for resource, future in asked.items()}
        return {
            name: {key: entry.value for key, entry in answers[name].items() if entry.value is not None}
            for name in names
        }

    def _ask(self, question: Callable[[], Mapping[Any, Any]]) -> Mapping[Any, Any]:
        """The futures of the answers, all of them done: nothing is left under way when the client goes."""
        self._client.poll(0)  # what was heard before is over
        self._trouble.clear()
        try:
            asked = question()
        except KafkaException as err:
            raise explained(err, self._kafka, self._config) from None
        wait(asked.values())
        return asked

    def _answer(self, future: Any, expected: frozenset[int] | set[int] = frozenset()) -> Any:
        """The future's result; None where it ended in one of the expected codes."""
        try:
            return future.result()
        except KafkaException as err:
            code = err.args[0].code()
            if code in expected:
                return None
            self._client.poll(0)  # what its connections said: a wrong password is only seen to take time
            is_late = code == KafkaError._TIMED_OUT and self._trouble.error is not None
            raise explained(self._trouble.error if is_late else err, self._kafka, self._config) from None


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
