"""Checks of a source's Kafka topic: what its client may be told, and that no secret is written down."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from featureflow_cli.spec.models import KafkaStream
from featureflow_cli.spec.places import Path
from featureflow_cli.spec.scope import Scope
from featureflow_cli.spec.variables import VARIABLE


class Ours(NamedTuple):
    """A property's value where it is the same for all (None: it depends), and why it is not the user's to set."""

    value: str | bool | int | None
    why: str


_LOG_DECIDES = "the offline log decides where reading goes on, never an offset that Kafka keeps"
OURS: Mapping[str, Ours] = {
    "bootstrap.servers": Ours(None, "it is called `bootstrap_servers`"),
    "metadata.broker.list": Ours(None, "it is called `bootstrap_servers`"),
    "group.id": Ours(None, "the group is named after the project, its target and the source"),
    "enable.auto.commit": Ours(False, _LOG_DECIDES),
    "enable.auto.offset.store": Ours(False, _LOG_DECIDES),
    "auto.offset.reset": Ours("error", "another value would skip or repeat events without a word"),
    "partition.assignment.strategy": Ours(
        "cooperative-sticky", "a worker finishes its batch before a partition goes to another one"
    ),
    "isolation.level": Ours("read_committed", "what a transaction has taken back is no event"),
    "topic.metadata.refresh.interval.ms": Ours(
        -1, "a member whose client sees a topic grow amid a rebalance would be lost to its group"
    ),
}
"""Properties of librdkafka that the law rests on (design.md 4)."""

_TOPIC = re.compile(r"(?!\.\.?$)[a-zA-Z0-9._-]{1,249}")
_LOGIN = re.compile(r"//[^/]*@")
_SECRET = re.compile(r"password|passphrase|secret|key\.pem$|sasl\.jaas|token$")


def is_secret(name: str) -> bool:
    """Whether a property of librdkafka holds what nobody else may read."""
    return _SECRET.search(name) is not None


def check_kafka(scope: Scope, path: Path, kafka: KafkaStream) -> None:
    """`path` leads to the `kafka` block."""
    _format(scope, path, kafka)
    for key, topic in (("topic", kafka.topic), ("dead_letter_topic", kafka.dead_letter_topic)):
        if topic is not None and not _TOPIC.fullmatch(topic):
            scope.report(
                (*path, key),
                f"'{topic}' cannot be a topic",
                "use letters, digits, `.`, `_` and `-`, 249 at most",
            )
    if kafka.dead_letter_topic == kafka.topic:
        scope.report((*path, "dead_letter_topic"), "letters would come back as events", "name another topic")
    if not kafka.bootstrap_servers.strip():
        scope.report((*path, "bootstrap_servers"), "no broker is named", "write host:9092")
    for name, value in kafka.config.items():
        at = (*path, "config", name)
        if name in OURS:
            scope.report(at, f"`{name}` is not to be set: {OURS[name].why}", "remove it", key=True)
        elif is_secret(name) and not _is_variable(value):
            _refuse_secret(scope, at, name, _variable(name))


def _format(scope: Scope, path: Path, kafka: KafkaStream) -> None:
    at, registry = (*path, "schema_registry"), kafka.schema_registry
    if kafka.format != "json" and registry is None:
        what = (
            f"{kafka.format.title()} messages name their schemas by number only: it needs a `schema_registry`"
        )
        scope.report((*path, "format"), what, "write schema_registry: {url: http://localhost:8081}")
    elif kafka.format == "json" and registry is not None:
        scope.report(
            at,
            "`schema_registry` means nothing to JSON",
            "remove it, or write format: avro or protobuf",
            key=True,
        )
    if registry is None:
        return
    if _LOGIN.search(registry.url):
        _refuse_secret(scope, (*at, "url"), "password", "SCHEMA_REGISTRY_PASSWORD")
    elif not registry.url.startswith(("http://", "https://", "${env:")):
        scope.report((*at, "url"), "this is no address of a Schema Registry", "write url: http://host:8081")
    if registry.password is not None and not _is_variable(registry.password):
        _refuse_secret(scope, (*at, "password"), "password", "SCHEMA_REGISTRY_PASSWORD")
    if (registry.username is None) != (registry.password is None):
        scope.report(at, "a login is a `username` and a `password`", "give both, or none", key=True)


def _refuse_secret(scope: Scope, at: Path, name: str, variable: str) -> None:
    """Without the line that it stands in: that would show it."""
    what = f"`{name}` is a secret, and would stand in the registry as it stands here"
    hint = f'write {name}: "${{env:{variable}}}"'
    scope.problems.append(replace(scope.positions.problem(at, what, hint, key=True), excerpt=""))


def _is_variable(value: str | int | float | bool) -> bool:
    """Whether it is nothing but a variable, without a default that would be the secret itself."""
    match = VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return match is not None and not match[2]


def _variable(name: str) -> str:
    return f"KAFKA_{name.removeprefix('sasl.').replace('.', '_').upper()}"
