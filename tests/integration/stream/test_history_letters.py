"""Bad input in the history of a streamed source: dead letters with positions of their own, and none is lost."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from featureflow_cli.cli.main import app
from featureflow_cli.compute.selecting import select
from featureflow_cli.evaluate.tables import HISTORY
from featureflow_cli.evaluate.vector import Reader
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.sources.files import PARTITION
from featureflow_cli.times import format_timestamp
from tests.integration.stream.repo import drained, opened, put, write_repo
from tests.integration.stream.world import FEATURES_YAML, START_US

UNTIL_US = START_US + 3_600_000_000


def event(number: int, kind: str | None, at_us: int) -> dict:
    return {"event_id": f"e{number}", "user_id": 1, "kind": kind, "at": format_timestamp(at_us)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two events of history and one of the stream; row 1 of both files is bad, and row 2 of the history."""
    batch = f'batch: {{path: "past/*.ndjson", until: {format_timestamp(UNTIL_US)}}}'
    stream = 'stream: {files: {path: "events/*.ndjson"}}'
    strict = FEATURES_YAML.replace("kind: string\n", "kind: string not null\n")
    write_repo(tmp_path, strict.replace(stream, f"{stream}\n    {batch}"))
    (tmp_path / "past").mkdir()
    past = [
        event(0, "view", START_US),
        event(1, None, START_US),
        b"{not json",
        event(2, "view", START_US + 1),
    ]
    put(tmp_path, "past", past).rename(tmp_path / "past" / "1.ndjson")
    put(tmp_path, "1", [event(3, "view", UNTIL_US), event(4, None, UNTIL_US)])
    return tmp_path


def call(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["-c", str(folder), *words])
    assert done.exit_code == 0, done.stderr
    return done.stderr


def positions(folder: Path) -> list[tuple[int, int, str]]:
    letters = DeadLetters(opened(folder).letters_place).read().select(["partition", "offset", "reason"])
    return sorted(tuple(row.values()) for row in letters.to_pylist())


LETTERS = [(HISTORY, 1, "null"), (HISTORY, 2, "undecodable"), (PARTITION, 1, "null")]


def test_the_stream_keeps_them_once_however_often_the_history_is_read(folder: Path) -> None:
    """Also where the online store is lost, and every view is bootstrapped again."""
    for new in (2, 0):
        (report,) = drained(folder).sources
        assert report.history_letters == new
        assert positions(folder) == LETTERS
        for left in folder.glob("online.db*"):
            left.unlink()


def test_readers_count_them_and_write_nothing(folder: Path) -> None:
    (folder / "labels.csv").write_text(f"user_id,timestamp\n1,{format_timestamp(UNTIL_US)}\n")
    words = ["--labels", "labels.csv", "--output", "train.csv", "--features", "history:*"]
    said = call(folder, "build-dataset", *words)
    assert "batch files of 'events' were refused: 1 null, 1 undecodable" in said
    assert not opened(folder).letters_place.holds_table()


def test_a_replayed_one_is_an_event_of_the_stream_and_skipped_before_until(folder: Path) -> None:
    """It counts all the same once the definitions are mended: then the history is read anew."""
    drained(folder)
    features = folder / "features" / "all.yaml"
    features.write_text(features.read_text().replace("kind: string not null\n", "kind: string\n"))
    call(folder, "apply", "-y")
    said = call(
        folder, "dead-letters", "replay", "--position", f"{HISTORY}:1", "--position", f"{PARTITION}:1"
    )
    assert "1 of them are from the history (batch) of 'events'" in said
    assert format_timestamp(UNTIL_US) in said
    report = drained(folder).sources[0]
    assert (report.accepted, report.before_until) == (2, 1)
    project = opened(folder)
    reader = Reader(project.online, select(project.repo, ["spending:count_24h"]), project.serving())
    (vector,) = reader.read([{"user_id": 1}], UNTIL_US + 1)
    assert vector.features["spending__count_24h"] == 5
