"""Dead letters, replayed: refused events that were mended in the definitions become events, once."""

from pathlib import Path
from threading import Event

from typer.testing import CliRunner

from featureflow_cli.cli.main import app
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.evaluate.vector import Reader
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.plan.registry import Registry
from featureflow_cli.stream.replays import REPLAY, WithReplays
from featureflow_cli.stream.run import run
from featureflow_cli.times import parse_timestamp
from tests.integration.stream.world import Topic

NOON_US = parse_timestamp("2026-01-01T12:00:00Z")
FEATURES = """\
entities:
  - {name: user, join_keys: {user_id: int64}}
sources:
  - name: events
    schema: {id: string, user_id: int64 not null, kind: string not null, at: timestamp}
    timestamp_field: at
    event_id: id
    dedupe_within: 1h
    stream: {files: {path: "events/*.ndjson"}}
feature_views:
  - name: activity
    entity: user
    source: events
    features: [{name: events_24h, count: "*", window: 24h}]
feature_services:
  - {name: all, features: ["activity:*"]}
"""
EVENTS = """\
{"id": "a", "user_id": 1, "kind": "view", "at": "2026-01-01T10:00:00Z"}
{"id": "b", "user_id": 1, "at": "2026-01-01T10:01:00Z"}
{"id": "c", "user_id": 1, "kind": "view", "at": "2026-01-01T10:02:00Z"}
{"id": "d", "user_id": "one", "kind": "view", "at": "2026-01-01T10:03:00Z"}
"""


def shop(root: Path) -> Project:
    return open_project(root, None, {}, lambda: NOON_US)


def events_24h(project: Project) -> object:
    reader = Reader(project.online, project.repo.services["all"], project.serving())
    (vector,) = reader.read([{"user_id": 1}], NOON_US)
    return vector.features["activity__events_24h"]


def test_mended_letters_become_events_once_and_the_others_stay_letters(tmp_path: Path):
    (tmp_path / "features").mkdir()
    (tmp_path / "events").mkdir()
    (tmp_path / "feature_store.yaml").write_text("version: 1\nproject: shop\n")
    features = tmp_path / "features" / "all.yaml"
    features.write_text(FEATURES)
    (tmp_path / "events" / "1.ndjson").write_text(EVENTS)

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, ["-c", str(tmp_path), *words])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    call("apply", "-y")
    run(shop(tmp_path), once=True, stop=Event())
    assert events_24h(shop(tmp_path)) == 2

    features.write_text(FEATURES.replace("kind: string not null", "kind: string"))
    call("apply", "-y")
    call("dead-letters", "replay")
    for _ in range(2):  # asking again, and streaming again, changes nothing
        run(shop(tmp_path), once=True, stop=Event())
        project = shop(tmp_path)
        assert events_24h(project) == 3
        assert project.log("events").snapshot().ends[REPLAY] == 2
        letters = DeadLetters(project.letters_place).read().to_pylist()
        assert sorted((letter["partition"], letter["reason"]) for letter in letters) == [
            (REPLAY, "wrong_type"),
            (-1, "null"),
            (-1, "wrong_type"),
        ]
        call("dead-letters", "replay", "--position", "-1:1")


def test_a_goal_has_the_letters_that_were_to_be_replayed_when_it_was_first_asked_for(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.db", "shop", None)
    intake = WithReplays(Topic([0]), registry, DeadLetters(str(tmp_path / "letters")), "events")
    registry.list_replays("events", [(0, 3), (0, 5)], NOON_US)
    for _ in range(2):
        assert intake.goal() == {REPLAY: 2}
        registry.list_replays("events", [(0, 8)], NOON_US)
