"""Which topics a plan creates and grows, from what is written and what the brokers have."""

from dataclasses import replace

import pytest

from featureflow_cli.compute.compiling import compile_source
from featureflow_cli.compute.views import Source
from featureflow_cli.plan.steps import CreateTopic, GrowTopic
from featureflow_cli.plan.topics import Topic, kafka_of, topic_notes, topic_steps
from featureflow_cli.spec import models

WEEK_US = 7 * 86_400_000_000


def source(name: str = "events", files: bool = False, **kafka: object) -> Source:
    stream = {"kafka": {"topic": "user-events", **kafka}, **({"files": {"path": "*.csv"}} if files else {})}
    written = {"name": name, "schema": {"at": "timestamp"}, "timestamp_field": "at", "stream": stream}
    return compile_source(models.Source.model_validate(written), models.StoreConfig(project="p"))


def topic(name: str = "user-events", partitions: int = 8) -> Topic:
    return Topic(name, "id", partitions, "LogAppendTime", WEEK_US // 1000)


CREATE = {"create": {"partitions": 8, "retention": "7d"}, "dead_letter_topic": "dead"}


def test_topics_that_are_not_there_are_created_with_their_letters_topic():
    changes, steps = topic_steps({"events": source(**CREATE)}, {"events": {}})
    assert steps == [
        CreateTopic("events", "user-events", 8, WEEK_US, False),
        CreateTopic("events", "dead", 1, WEEK_US, True),
    ]
    assert [(change.sign, change.kind, change.name) for change in changes] == [
        ("+", "topic", "user-events"),
        ("+", "topic", "dead"),
    ]


@pytest.mark.parametrize(("has", "steps"), [(4, 1), (8, 0), (12, 0)])
def test_a_topic_grows_and_never_shrinks(has: int, steps: int):
    found = {"user-events": topic(partitions=has), "dead": topic("dead", 3)}
    _, planned = topic_steps({"events": source(**CREATE)}, {"events": found})
    assert planned == [GrowTopic("events", "user-events", has, 8)] * steps


def test_a_topic_of_two_sources_is_created_once():
    sources = {name: source(name, **CREATE) for name in ("a", "b")}
    _, steps = topic_steps(sources, {"a": {}, "b": {}})
    assert [(step.source, step.topic) for step in steps] == [("a", "user-events"), ("a", "dead")]


def test_a_topic_whose_events_are_in_the_log_cannot_come_back_by_being_created():
    written = {"events": source(**CREATE)}
    changes, steps = topic_steps(written, {"events": {}}, read={"events"})
    assert len(steps) == 2
    assert "`stream` refuses a new one under its name" in changes[0].notes[0]
    assert changes[1].notes == (), "letters have no offsets that matter"


def test_nothing_is_planned_for_brokers_that_were_not_asked():
    assert topic_steps({"events": source(**CREATE)}, {}) == ([], [])


def test_without_create_a_missing_topic_is_a_note_and_no_step():
    written = source()
    assert topic_steps({"events": written}, {"events": {}}) == ([], [])
    assert "there is no topic user-events" in topic_notes(written, {})[0]


def test_timestamps_that_producers_set_and_another_retention_are_noted():
    written = source(**CREATE)
    assert topic_notes(written, {"user-events": topic()}) == ()
    own = replace(topic(), timestamp_type="CreateTime", retention_ms=-1)
    notes = topic_notes(written, {"user-events": own})
    assert "the timestamps that producers set" in notes[0]
    assert "keeps events for ever" in notes[1]
    more = replace(topic(), partitions=topic().partitions + 1)
    assert "and keeps them: no topic ever shrinks" in topic_notes(written, {"user-events": more})[0]
    unseen = replace(topic(), timestamp_type=None, retention_ms=None)
    assert topic_notes(written, {"user-events": unseen}) == ()


@pytest.mark.parametrize(
    ("files", "setting", "streams"),
    [(False, "files", True), (True, "files", False), (True, "kafka", True)],
)
def test_the_setting_decides_where_a_source_offers_both(files: bool, setting: str, streams: bool):
    config = models.StoreConfig.model_validate({"project": "p", "stream": {"from": setting}})
    assert (kafka_of(source(files=files), config) is not None) == streams
