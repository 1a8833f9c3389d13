"""`featureflow stream` over a repo on disk: what it leaves in the stores, whatever happens to the files."""

import itertools
import json
import random
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from featureflow_cli.compute.selecting import select
from featureflow_cli.errors import FeatureflowError, StoreUnavailable
from featureflow_cli.evaluate.project import Project
from featureflow_cli.evaluate.tables import listed
from featureflow_cli.evaluate.upkeep import Upkeep
from featureflow_cli.evaluate.vector import Reader, Serving
from featureflow_cli.offline.letters import DeadLetters
from featureflow_cli.stream import run as stream
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.run import run
from featureflow_cli.times import format_timestamp, system_clock
from tests.integration.stream.repo import (
    assert_online_is_the_log,
    drained,
    kept_views,
    opened,
    positions,
    put,
    reapplied,
    states,
    write_repo,
)
from tests.integration.stream.world import FEATURES_YAML, START_US, STORE_YAML


def events(seed: int, count: int, first: int = 0) -> list[dict]:
    chance = random.Random(seed)
    return [
        {
            "event_id": f"e{first + place}",
            "user_id": chance.randrange(20),
            "item_id": chance.choice(["a", "b,c", "ü", None]),
            "kind": chance.choice(["view", "purchase"]),
            "amount": f"{chance.randrange(-500, 5_000)}.25",
            "at": format_timestamp(START_US + (first + place) * 30_000_000),
        }
        for place in range(count)
    ]


def test_files_are_applied_once_and_new_ones_follow(tmp_path: Path) -> None:
    project = write_repo(tmp_path)
    put(tmp_path, "1", events(1, 300))
    put(tmp_path, "2", events(2, 100, first=300))
    first = drained(tmp_path, batch_rows=90)
    assert (first.read, first.sources[0].accepted) == (400, 400)
    put(tmp_path, "3", events(3, 50, first=400))
    second = drained(tmp_path)
    assert (second.read, second.sources[0].bootstrapped) == (50, ())
    assert len(positions(project, "events")) == 450
    assert {build.status for build in project.registry.builds()} == {"serving"}
    assert_online_is_the_log(project)


def test_bad_input_becomes_letters_and_duplicates_are_counted(tmp_path: Path) -> None:
    project = write_repo(tmp_path)
    some = events(4, 20)
    future = {**some[0], "event_id": "future", "at": "2999-01-01T00:00:00Z"}
    put(tmp_path, "1", [*some, some[3], b"{not json", future, {**some[1], "event_id": "n", "user_id": None}])
    report = drained(tmp_path).sources[0]
    assert (report.accepted, report.duplicates) == (20, 1)
    assert report.letters == {"future": 1, "null": 1, "undecodable": 1}
    letters = DeadLetters(project.letters_place).read()
    assert letters.column("offset").to_pylist() == [21, 22, 23]
    assert letters.column("payload").to_pylist()[0] == b"{not json\n"
    assert_online_is_the_log(project)


def test_a_deleted_online_store_is_rebuilt_from_the_log_alone(tmp_path: Path) -> None:
    project = write_repo(tmp_path)
    path = put(tmp_path, "1", events(5, 200))
    drained(tmp_path)
    before = states(project)
    project.online.close()
    for left in tmp_path.glob("online.db*"):
        left.unlink()
    path.unlink()  # its events are in the log: the file may go
    report = drained(tmp_path)
    assert (report.sources[0].read, set(report.sources[0].bootstrapped)) == (0, set(project.repo.views))
    assert states(opened(tmp_path)) == before


def test_no_reader_meets_states_that_are_built_again_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied before there were events, so that the builds' floor is empty: all of it would be replayed."""
    monkeypatch.setattr("featureflow_cli.stream.ground.REPLAYED_ROWS", 20)
    write_repo(tmp_path)
    drained(tmp_path)
    put(tmp_path, "1", events(17, 300))
    drained(tmp_path)
    cached = opened(tmp_path)
    serving = cached.serving()  # as a server knows them that has not looked since
    right = newest_seen(cached, serving)
    cached.online.close()
    for left in tmp_path.glob("online.db*"):
        left.unlink()
    answers = []

    def read(_: list[Progress]) -> None:
        for known in (serving, None):
            reader = opened(tmp_path)
            answers.append(newest_seen(reader, known or reader.serving()))
            reader.online.close()

    project = opened(tmp_path)
    read([])
    run(project, once=True, stop=threading.Event(), show=read)
    project.online.close()
    assert set(answers) == {None, right}
    assert (answers[0], answers[-1]) == (None, right)


def newest_seen(project: Project, serving: Serving) -> int | None:
    """When a user's newest event was, by the answer to a reader; None where it is told that the state is not there."""
    try:
        reader = Reader(project.online, select(project.repo, ["history:items"]), serving)
        (vector,) = reader.read([{"user_id": 3}], project.clock())
    except StoreUnavailable:
        return None
    return vector.as_of_us - vector.age_us["history"]


def test_a_new_and_a_changed_view_are_bootstrapped_and_flip(tmp_path: Path) -> None:
    write_repo(tmp_path)
    put(tmp_path, "1", events(6, 200))
    drained(tmp_path)
    changed = FEATURES_YAML.replace(
        "spent_24h, sum: amount, where: kind = 'purchase'", "spent_24h, sum: amount"
    )
    (tmp_path / "features" / "all.yaml").write_text(
        changed
        + """
  - name: added
    entity: item
    source: events
    features:
      - {name: total, sum: amount, window: forever}
"""
    )
    project = reapplied(tmp_path)
    put(tmp_path, "2", events(7, 50, first=200))
    report = drained(tmp_path).sources[0]
    assert report.bootstrapped == ("spending", "added")
    by_status = {status: {b.view for b in project.registry.builds() if b.status == status} for status in
                 ("building", "serving", "retired")}  # fmt: skip
    assert by_status == {
        "building": set(),
        "serving": {"spending", "history", "popularity", "added"},
        "retired": {"spending"},
    }
    assert_online_is_the_log(project)
    drained(tmp_path)
    assert {build.status for build in project.registry.builds()} == {"serving"}


def test_a_changed_meaning_rebuilds_every_view_and_decides_only_what_is_new(tmp_path: Path) -> None:
    write_repo(tmp_path)
    put(tmp_path, "1", events(8, 100))
    drained(tmp_path)
    (tmp_path / "features" / "all.yaml").write_text(
        FEATURES_YAML.replace("dedupe_within: 1h", "dedupe_within: 2h")
    )
    project = reapplied(tmp_path)
    put(tmp_path, "2", events(9, 40, first=100))
    report = drained(tmp_path).sources[0]
    assert (report.read, set(report.bootstrapped)) == (40, {"spending", "history", "popularity"})
    assert_online_is_the_log(project)


def test_a_listed_file_that_changes_ends_the_stream_and_loses_nothing(tmp_path: Path) -> None:
    project = write_repo(tmp_path)
    path = put(tmp_path, "1", events(10, 30))
    drained(tmp_path)
    path.write_bytes(path.read_bytes() + b"{}\n")
    put(tmp_path, "2", events(11, 30, first=30))
    with pytest.raises(FeatureflowError, match="has changed since it was listed"):
        drained(tmp_path)
    path.write_bytes(path.read_bytes().removesuffix(b"{}\n"))
    drained(tmp_path)
    assert len(positions(project, "events")) == 60
    assert_online_is_the_log(project)


def test_a_table_that_others_keep_is_loaded_by_the_same_path_and_not_copied(tmp_path: Path) -> None:
    profiles = FEATURES_YAML.replace(
        "feature_views:",
        """  - name: profiles
    schema: {user_id: int64 not null, country: string, at: timestamp, loaded: timestamp}
    timestamp_field: at
    created_timestamp: loaded
    batch: {path: "profiles/*.csv"}
feature_views:
  - {name: profile, entity: user, source: profiles, latest: [country]}""",
    )
    project = write_repo(tmp_path, profiles)
    (tmp_path / "profiles").mkdir()
    header = "user_id,country,at,loaded\n"
    (tmp_path / "profiles" / "1.csv").write_text(
        header + "1,de,2026-01-01,2026-01-02\n2,fr,2026-01-01,2026-01-02\n3,x,yesterday,2026-01-02\n"
    )
    first = {source.source: source for source in drained(tmp_path).sources}["profiles"]
    assert (first.accepted, first.letters) == (2, {"wrong_type": 1})
    (tmp_path / "profiles" / "2.csv").write_text(header + "1,at,2026-01-01,2026-01-03\n")
    second = {source.source: source for source in drained(tmp_path).sources}["profiles"]
    assert (second.read, second.writes) == (1, 1)
    kept = kept_views(project)["profile"]
    assert project.online.count("user", kept.field) == 2
    assert not (tmp_path / "offline" / "profiles").exists()
    held = DeadLetters(project.letters_place).read(source="profiles")
    assert held.column("reason").to_pylist() == ["wrong_type"]


def test_history_counts_until_the_stream_begins(tmp_path: Path) -> None:
    """`batch` with `until`: before it the table counts, from it on the log; log events before it are skipped."""
    until = START_US + 100 * 30_000_000
    features = FEATURES_YAML.replace(
        'stream: {files: {path: "events/*.ndjson"}}',
        'stream: {files: {path: "events/*.ndjson"}}\n'
        f'    batch: {{path: "past/*.ndjson", until: {format_timestamp(until)}}}',
    )
    project = write_repo(tmp_path, features)
    every = events(12, 200)
    (tmp_path / "past").mkdir()
    put(tmp_path, "past", every[:120]).rename(tmp_path / "past" / "1.ndjson")
    put(tmp_path, "1", every[80:95])
    put(tmp_path, "2", every[95:])
    report = drained(tmp_path, batch_rows=10).sources[0]  # of the first batch no view sees anything
    assert (report.accepted, report.before_until) == (120, 20)
    kept = kept_views(project)["history"]
    assert project.online.count("user", kept.field) == 20
    reference = tmp_path / "all"
    write_repo(reference)
    put(reference, "1", every)
    drained(reference)
    assert states(opened(tmp_path)) == states(opened(reference))

    put(tmp_path, "more", every[:20]).rename(tmp_path / "past" / "2.ndjson")
    with pytest.raises(FeatureflowError, match=r"past/2\.ndjson has come to the history of source"):
        listed(opened(tmp_path), opened(tmp_path).repo.sources["events"])


def test_a_stream_follows_new_files_until_it_is_stopped(tmp_path: Path) -> None:
    """The test's own clockwork: each wait of the stream is a turn in which something happens."""
    project = write_repo(tmp_path)
    turns = iter([lambda: put(tmp_path, "1", events(13, 10)), lambda: put(tmp_path, "2", events(14, 10, 10))])

    class Turns(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            turn = next(turns, self.set)
            turn()
            return self.is_set()

    report = run(opened(tmp_path), once=False, stop=Turns())
    assert (report.read, report.stopped) == (20, True)
    assert len(positions(project, "events")) == 20
    assert_online_is_the_log(project)


def test_new_definitions_are_learned_while_streaming(tmp_path: Path) -> None:
    write_repo(tmp_path)
    put(tmp_path, "1", events(15, 30))
    passed_us = 0

    def apply_and_wait() -> None:
        nonlocal passed_us
        (tmp_path / "features" / "all.yaml").write_text(FEATURES_YAML.replace("window: 24h}", "window: 12h}"))
        reapplied(tmp_path)
        put(tmp_path, "2", events(16, 30, first=30))
        passed_us += 10_000_000

    turns = iter([apply_and_wait, lambda: None])

    class Turns(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            next(turns, self.set)()
            return self.is_set()

    project = opened(tmp_path)
    project.clock = lambda: system_clock() + passed_us
    run(project, once=False, stop=Turns())
    fresh = opened(tmp_path)
    assert {build.status for build in fresh.registry.builds()} == {"serving", "retired"}
    assert_online_is_the_log(fresh)


def test_a_store_that_stays_away_ends_a_single_run_with_its_message(tmp_path: Path) -> None:
    write_repo(tmp_path, store=STORE_YAML.replace("path: online.db", "path: file/online.db"))
    (tmp_path / "file").write_text("in the way")
    put(tmp_path, "1", events(17, 10))

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    with pytest.raises(StoreUnavailable, match="folder of the online store"):
        run(opened(tmp_path), once=True, stop=Impatient())


def test_what_was_decided_is_committed_at_the_end_though_the_online_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repo(tmp_path)
    put(tmp_path, "0", events(0, 10))
    run(opened(tmp_path), once=True, stop=threading.Event())
    put(tmp_path, "1", events(1, 10, first=10))
    project, stop = opened(tmp_path), threading.Event()

    def away(*_: object) -> list[bool]:
        assert stop.wait(30)
        message = "it is away"
        raise StoreUnavailable(message)

    def show(sources: list[Progress]) -> None:
        if sources[0].accepted:
            stop.set()

    monkeypatch.setattr(project.online, "write", away)
    ended = run(project, once=False, stop=stop, show=show)
    assert ended.stopped
    assert [(source.accepted, source.committed, source.writes) for source in ended.sources] == [(10, 10, 0)]
    again = run(opened(tmp_path), once=True, stop=threading.Event())
    assert [(source.accepted, source.replayed) for source in again.sources] == [(0, 10)]


def test_progress_is_shown_after_every_round(tmp_path: Path) -> None:
    write_repo(tmp_path)
    for number in range(3):
        put(tmp_path, str(number), events(number, 10, first=10 * number))
    seen: list[int] = []

    def show(sources: list[Progress]) -> None:
        seen.append(sum(source.read for source in sources))

    run(opened(tmp_path), once=True, stop=threading.Event(), show=show, batch_rows=10)
    assert seen == [10, 20, 30, 30]


def test_huge_events_are_taken_in_few_at_a_time(tmp_path: Path) -> None:
    """Fourteen events of 10 MB each: never more than a handful in memory, and all of them in the log."""
    project = write_repo(tmp_path)
    (tmp_path / "events").mkdir()
    with (tmp_path / "events" / "1.ndjson").open("w") as file:
        for event in events(18, 14):
            file.write(json.dumps({**event, "kind": "x" * 10_000_000}) + "\n")
    held: list[int] = []

    def show(sources: list[Progress]) -> None:
        held.append(sum(source.read for source in sources))

    run(project, once=True, stop=threading.Event(), show=show)
    assert max(after - before for before, after in itertools.pairwise([0, *held])) < 10
    assert len(positions(project, "events")) == 14
    assert_online_is_the_log(project)


def test_many_small_files_are_joined_beside_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that leaps at every look makes a commit of every batch; fewer files than in earnest are many here."""
    many, count = 12, 30
    monkeypatch.setattr(stream, "Upkeep", partial(Upkeep, many=many))
    project = write_repo(tmp_path)
    for number, event in enumerate(events(16, count)):
        put(tmp_path, f"{number:03}", [event])
    leaps = itertools.count(START_US + 3 * 3_600_000_000, 7_000_000)
    project.clock = lambda: next(leaps)
    stop, most = threading.Event(), 0
    deadline = time.monotonic() + 60

    def joined(_: list[Progress]) -> None:
        nonlocal most
        files = len(project.log("events").snapshot().files)
        most = max(most, files)
        if (most >= many and files < many) or time.monotonic() > deadline:
            stop.set()

    run(project, once=False, stop=stop, show=joined, batch_rows=1)
    assert len(project.log("events").snapshot().files) < many <= most
    drained(tmp_path)
    assert len(positions(project, "events")) == count
    assert_online_is_the_log(project)
