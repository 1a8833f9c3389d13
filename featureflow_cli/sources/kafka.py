"""How clients of Kafka are set up, and what their errors mean. Only here are secrets in the clear.

`client_config` is for any client, `opened(AdminClient, kafka, config)` makes one that writes nothing to stderr
by itself. Every KafkaException goes through `explained`, which leaves no secret in a text.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, libversion

from featureflow_cli.errors import DefinitionError, FeatureflowError, Problem, StoreUnavailable
from featureflow_cli.spec.check_kafka import OURS, is_secret
from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.spec.variables import VARIABLE, resolve

Config = dict[str, str | int | float | bool]
C = TypeVar("C")

LOGGER = logging.getLogger("featureflow.kafka")
"""What librdkafka has to say: silent, unless the application sets up logging."""
LOGGER.addHandler(logging.NullHandler())
LOG = logging.getLogger("featureflow.sources")
CLOSE_S = 10.0
"""How long a consumer may take to leave."""

METADATA_REFRESH_MS = 5_000
"""How soon who is in no group notices new partitions and leaders; a `GroupMember` looks by itself."""
_COMMON: Config = {
    "client.id": "featureflow",
    "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
    "reconnect.backoff.max.ms": 2_000,
}
_FETCHING: Config = {
    "fetch.queue.backoff.ms": 5,  # the default of 1000 stalls a fast consumer
    "queued.min.messages": 100_000,  # of all partitions, as the next: a batch is read ahead, and that is enough
    "queued.max.messages.kbytes": 32 * 1024,  # reading ahead is memory of this process
    "fetch.min.bytes": 64 * 1024,  # a fetch for every few messages costs the broker more than they do
    "fetch.wait.max.ms": 50,  # ... so long; and a partition that is taken up waits for the fetch before it
    "max.poll.interval.ms": 15 * 60_000,  # a bootstrap may take long, and is no reason to be thrown out
    "session.timeout.ms": 20_000,  # others take over what a killed worker held after so long (45 s by default)
    "metadata.max.age.ms": 24 * 3_600_000,  # a member that rejoins must know its topic (`GroupMember`)
    "heartbeat.interval.ms": 1_000,  # how soon a member hears of a rebalance; a thread of librdkafka's sends them
}


def library_version() -> str:
    """That of librdkafka."""
    return str(libversion()[0])


class MissingTopic(StoreUnavailable):
    """Nothing has the topic's name; what will have it may be another topic."""


class Trouble:
    """A client's `error_cb`: what its connections complained of since a broker last answered."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        if self.error is None or error.code() != KafkaError._ALL_BROKERS_DOWN:  # that one tells no reason
            self.error = error

    def clear(self) -> None:
        self.error = None


def group_id(project: str, target: str | None, source: str) -> str:
    """The consumer group of all workers of a source."""
    return ".".join(("featureflow", project, *([target] if target else []), source))


def client_config(kafka: KafkaStream, environ: Mapping[str, str]) -> Config:
    """What any client of that topic's brokers is made with, environment variables put in.

    DefinitionError where one of them is not set. The user's `config` wins over our defaults.
    """
    servers = resolve(kafka.bootstrap_servers, environ, _place(kafka, "bootstrap_servers"))
    theirs = {
        name: resolve(value, environ, _place(kafka, f"config, {name}")) if isinstance(value, str) else value
        for name, value in kafka.config.items()
    }
    return {**_COMMON, "bootstrap.servers": servers, **theirs}


def consumer_config(kafka: KafkaStream, environ: Mapping[str, str], group: str) -> Config:
    """What a consumer of the topic is made with; what exactly-once rests on is not the user's to set."""
    fixed = {name: ours.value for name, ours in OURS.items() if ours.value is not None}
    return {**_FETCHING, **client_config(kafka, environ), **fixed, "group.id": group}


def opened(kind: Callable[..., C], kafka: KafkaStream, config: Config, **callbacks: Any) -> C:
    """A client (`kind` is its class); DefinitionError where it refuses the settings. It has not connected yet."""
    try:
        return kind({**config, **callbacks}, logger=LOGGER)
    except KafkaException as err:
        raise explained(err, kafka, config) from None
    except (TypeError, ValueError) as err:  # a property that only a program can set, such as `stats_cb`
        text = without_secrets(str(err), kafka, config)
        raise DefinitionError([Problem(_place(kafka, "config"), f"Kafka's client: {text}")]) from None


def close(consumer: Any) -> None:
    """Leave the group; who has not left after CLOSE_S is left behind, and goes with the process.

    A member without partitions is heard to leave only if it unsubscribes first. librdkafka waits for as long as a
    broker that took a commit does not answer it, and hears no signal meanwhile.
    """

    def leave() -> None:
        with suppress(KafkaException):
            consumer.unsubscribe()
        with suppress(KafkaException):
            consumer.close()

    leaving = threading.Thread(target=leave, name="kafka-close", daemon=True)
    leaving.start()
    leaving.join(CLOSE_S)
    if leaving.is_alive():
        LOG.warning("Kafka did not let a consumer leave within %g s: it is left behind", CLOSE_S)


def explained(error: KafkaError | KafkaException, kafka: KafkaStream, config: Config) -> FeatureflowError:
    """The error for people: a broker that does not answer is a StoreUnavailable, without any secret."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    text = without_secrets(error.str(), kafka, config).strip()
    code = error.code()
    if code in _WRONG_SETTINGS:
        what = f"Kafka's client refuses the settings: {text}"
        return DefinitionError([Problem(_place(kafka, "config"), what, "see librdkafka's CONFIGURATION.md")])
    where = f"Kafka at {config['bootstrap.servers']}"
    if code in _UNKNOWN_TOPIC:
        return missing_topic(kafka, config)
    if code in _DENIED:
        hint = "grant it the right to read and describe the topic, and to read its group"
        return StoreUnavailable(f"{where} does not let this account in: {text}", hint=hint)
    if code not in _AWAY:
        return StoreUnavailable(f"{where} answers with an error: {text}")
    hint = "is the broker running, and are `bootstrap_servers` and `config` of the source right?"
    return StoreUnavailable(f"{where} does not answer: {text}", hint=hint)


def missing_topic(kafka: KafkaStream, config: Config) -> MissingTopic:
    """The topic is not there (any more)."""
    what = f"there is no topic '{kafka.topic}' on Kafka at {config['bootstrap.servers']}"
    if kafka.create is not None:
        return MissingTopic(what, hint="run: featureflow apply (it creates the topic)")
    hint = "create it there, or have `featureflow apply` create it: kafka: {…, create: {partitions: 8}}"
    return MissingTopic(what, hint=hint)


def without_secrets(text: str, kafka: KafkaStream, config: Config) -> str:
    """The text with the value of every property that came from the environment or is a secret masked."""
    for name, value in kafka.config.items():
        from_environ = isinstance(value, str) and VARIABLE.search(value) is not None
        shown = str(config.get(name, ""))
        if (from_environ or is_secret(name)) and shown:
            text = text.replace(shown, "***")
    return text


def _place(kafka: KafkaStream, what: str) -> str:
    return f"topic '{kafka.topic}', stream.kafka.{what}"


_WRONG_SETTINGS = {KafkaError._INVALID_ARG, KafkaError._CONFLICT, KafkaError._NOT_IMPLEMENTED}
_UNKNOWN_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MSG_TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
}
_DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
