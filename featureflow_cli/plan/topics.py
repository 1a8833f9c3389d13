"""What becomes of Kafka topics by a plan: those that a source's `create` asks for, against what its brokers have."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from featureflow_cli.compute.views import Source
from featureflow_cli.plan.steps import Change, CreateTopic, GrowTopic
from featureflow_cli.spec.models import KafkaStream, StoreConfig
from featureflow_cli.times import MILLISECOND_US, format_duration

RECEIVED = "LogAppendTime"
"""The broker stamps a record as it appends it: a time that no producer can have set wrongly."""
LETTER_PARTITIONS = 1


@dataclass(frozen=True)
class Topic:
    """A topic as its brokers describe it; settings are None where the account may not see them."""

    name: str
    topic_id: str
    partitions: int
    timestamp_type: str | None
    retention_ms: int | None


Topics = Mapping[str, Mapping[str, Topic]]
"""Per source that streams from Kafka, the topics of it that are there, by name."""


def kafka_of(source: Source, config: StoreConfig) -> KafkaStream | None:
    """The topic that a source streams from, where it does: `stream.from` decides if it offers files too."""
    if source.kafka is None or (source.files is not None and config.stream.from_ == "files"):
        return None
    return source.kafka


def topics_of(kafka: KafkaStream) -> tuple[str, ...]:
    """Its topic, and that of its dead letters if there is one."""
    return (kafka.topic, *([kafka.dead_letter_topic] if kafka.dead_letter_topic else []))


def topic_steps(
    sources: Mapping[str, Source], topics: Topics, read: Collection[str] = ()
) -> tuple[list[Change], list[CreateTopic | GrowTopic]]:
    """How each source's topics come to be as `create` wants them; no topic ever shrinks or goes.

    A topic that two sources name on the same brokers is created once. `read`: sources whose logs hold events of a
    topic that was there.
    """
    changes: list[Change] = []
    steps: list[CreateTopic | GrowTopic] = []
    seen: dict[tuple[str, str], int] = {}  # (brokers, topic) -> the most partitions that were asked for
    for name, found in topics.items():
        kafka = sources[name].kafka
        if kafka is None or kafka.create is None:
            continue
        for topic in topics_of(kafka):
            is_letters = topic != kafka.topic
            wanted = LETTER_PARTITIONS if is_letters else kafka.create.partitions
            place = (kafka.bootstrap_servers, topic)
            has = max(seen.get(place, 0), found[topic].partitions if topic in found else 0)
            seen[place] = max(has, wanted)
            if not has:
                step = CreateTopic(name, topic, wanted, kafka.create.retention, is_letters)
                notes = (_GONE.format(source=name),) if name in read and not is_letters else ()
                changes.append(Change("+", "topic", topic, consequence=created_text(step), notes=notes))
                steps.append(step)
            elif has < wanted:
                steps.append(GrowTopic(name, topic, has, wanted))
                changes.append(_growth(topic, has, wanted))
    return changes, steps


def topic_notes(source: Source, found: Mapping[str, Topic]) -> tuple[str, ...]:
    """What a source's topic, as it is, means for its events."""
    kafka = source.kafka
    if kafka is None:
        return ()
    notes = [
        f"there is no topic {topic} on its brokers; `create: {{partitions: 8}}` has apply create it"
        for topic in topics_of(kafka)
        if topic not in found and kafka.create is None
    ]
    topic = found.get(kafka.topic)
    if topic is None:
        return tuple(notes)
    if topic.timestamp_type is not None and topic.timestamp_type != RECEIVED:
        notes.append(
            f"topic {topic.name} has {topic.timestamp_type}: `allowed_future` is judged by the timestamps"
            " that producers set"
        )
    if kafka.create is not None and topic.partitions > kafka.create.partitions:
        notes.append(
            f"topic {topic.name} has {partitions_text(topic.partitions)}, and keeps them: no topic ever shrinks"
        )
    wanted_us = kafka.create.retention if kafka.create is not None else None
    if wanted_us is not None and topic.retention_ms not in {None, wanted_us // MILLISECOND_US}:
        notes.append(
            f"topic {topic.name} keeps events for {retention_text(topic.retention_ms)}, and goes on so:"
            " `create` is for topics that are not there yet"
        )
    return tuple(notes)


def created_text(step: CreateTopic) -> str:
    """`8 partitions, retention 7d, LogAppendTime`."""
    kept = "" if step.retention_us is None else f", retention {format_duration(step.retention_us)}"
    return f"{partitions_text(step.partitions)}{kept}, {RECEIVED}"


def partitions_text(count: int) -> str:
    return f"{count} partition{'s' * (count != 1)}"


def retention_text(retention_ms: int | None) -> str:
    """`7d`; -1 is Kafka's word for ever."""
    if retention_ms is None:
        return "unknown"
    return "ever" if retention_ms < 0 else format_duration(retention_ms * MILLISECOND_US)


_GONE = (
    "the topic that source {source} was read from is gone, and `stream` refuses a new one under its name: its offsets"
    " mean other events. Give the source another name, so that it starts afresh"
)


def _growth(topic: str, before: int, after: int) -> Change:
    return Change(
        "~",
        "topic",
        topic,
        (f"~ partitions {before} -> {after}",),
        "no value changes",
        ("keys that move to another partition go on counting exactly; a topic can never shrink again",),
    )
