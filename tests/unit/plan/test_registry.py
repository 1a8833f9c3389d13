"""The registry: one applied state, guarded; builds side by side; files listed once."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featureflow_cli.errors import Conflict, NotFound, StoreUnavailable
from featureflow_cli.plan.applied import Applied, ViewState
from featureflow_cli.plan.manifest import SeenFile
from featureflow_cli.plan.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "data" / "registry.db", "shop", None)


def record(registry: Registry, expected: int, by: str = "ann", **fingerprints: str) -> Applied:
    return registry.record(
        definitions='{"entities": []}',
        allowed_future_us=60_000_000,
        views=[ViewState(view, "user", fingerprint) for view, fingerprint in fingerprints.items()],
        expected_version=expected,
        applied_by=by,
        at_us=1_000_000 * (expected + 1),
        summary="1 added",
    )


def states(registry: Registry) -> list[tuple[str, str, str]]:
    return [(build.view, build.fingerprint, build.status) for build in registry.builds()]


def test_a_registry_that_is_not_there_reads_as_empty_and_is_not_created(registry: Registry):
    assert registry.applied() is None
    assert registry.history() == []
    assert registry.builds() == []
    assert registry.manifest("events") == []
    assert not registry.path.exists()


def test_what_was_recorded_is_applied_and_in_the_history(registry: Registry):
    first = record(registry, 0, by="ann", a="f1")
    second = record(registry, 1, by="bob", a="f1")
    assert registry.applied() == second
    assert registry.at(1) == first
    assert [(line.version, line.applied_by) for line in registry.history()] == [(2, "bob"), (1, "ann")]
    with pytest.raises(NotFound, match="no version 7"):
        registry.at(7)


def test_targets_and_projects_do_not_see_each_other(registry: Registry):
    record(registry, 0, a="f1")
    for other in (Registry(registry.path, "shop", "prod"), Registry(registry.path, "bank", None)):
        assert other.applied() is None
        assert other.builds() == []
        assert record(other, 0, b="f2").version == 1


def test_the_loser_of_two_applies_is_told_who_was_first_and_changes_nothing(registry: Registry):
    record(registry, 0, by="ann", a="f1")
    with pytest.raises(Conflict, match=r"ann applied version 1 at 1970-01-01T00:00:01.000000Z"):
        record(registry, 0, by="bob", a="f2")
    assert states(registry) == [("a", "f1", "building")]


def test_of_many_applies_at_once_one_wins(registry: Registry):
    def attempt(who: int) -> bool:
        try:
            record(registry, 0, by=str(who), a=str(who))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert len(registry.history()) == len(registry.builds()) == 1


def test_a_changed_view_is_built_beside_the_one_that_serves(registry: Registry):
    """
    apply f1 | serve f1 | apply f2        | serve f2
    building | serving  | serving+building | retired+serving
    """
    record(registry, 0, a="f1")
    assert registry.serve(1)
    assert states(registry) == [("a", "f1", "serving")]
    record(registry, 1, a="f2")
    assert states(registry) == [("a", "f1", "serving"), ("a", "f2", "building")]
    assert registry.serve(2)
    assert states(registry) == [("a", "f1", "retired"), ("a", "f2", "serving")]
    registry.drop(1)
    assert states(registry) == [("a", "f2", "serving")]


def test_applying_again_keeps_builds_in_every_status(registry: Registry):
    record(registry, 0, a="f1", b="g1")
    registry.serve(1)
    record(registry, 1, a="f2", b="g1")
    before = registry.builds()
    record(registry, 2, a="f2", b="g1")
    assert registry.builds() == before


def test_going_back_before_the_new_state_served_keeps_the_old_one(registry: Registry):
    record(registry, 0, a="f1")
    registry.serve(1)
    record(registry, 1, a="f2")
    record(registry, 2, a="f1")
    assert states(registry) == [("a", "f1", "serving"), ("a", "f2", "retired")]
    assert not registry.serve(2), "a worker that still builds the other one is told so"


def test_a_renewed_build_takes_the_place_of_the_old_one_once_it_serves(registry: Registry):
    record(registry, 0, a="f1")
    registry.serve(1)
    record(registry, 1, a="f2")
    record(registry, 2, a="f1")
    renewed = registry.renew(1, at_us=5)
    assert (renewed.number, renewed.version, renewed.status) == (3, 3, "building")
    assert registry.renew(1, at_us=6) == renewed, "another worker is told of the same one"
    assert ("a", "f1", "serving") in states(registry)
    registry.serve(renewed.number)
    assert states(registry) == [("a", "f1", "retired"), ("a", "f2", "retired"), ("a", "f1", "serving")]


def test_a_build_that_was_retired_before_it_served_is_renewed_by_another(registry: Registry):
    """Else workers would write it, while all that look at the registry look for another one."""
    record(registry, 0, a="f1")
    registry.serve(1)
    registry.renew(1, at_us=5)
    record(registry, 1, a="f2")
    record(registry, 2, a="f1")
    renewed = registry.renew(1, at_us=6)
    assert (renewed.number, renewed.status) == (4, "building")


@pytest.mark.parametrize("later", [{"a": "f2"}, {}], ids=["changed", "removed"])
def test_a_build_that_is_no_longer_wanted_is_not_renewed(registry: Registry, later: dict[str, str]):
    """Who asks has not learned of the apply; its build would take the place of the one that is wanted."""
    record(registry, 0, a="f1")
    registry.serve(1)
    record(registry, 1, **later)
    with pytest.raises(Conflict, match="applied version 2, which wants another a"):
        registry.renew(1, at_us=5)
    assert [state for state in states(registry) if state[1] == "f1"] == [
        ("a", "f1", "serving" if later else "retired")
    ]


def test_a_removed_view_is_retired_and_its_number_never_comes_back(registry: Registry):
    record(registry, 0, a="f1")
    registry.serve(1)
    record(registry, 1)
    assert states(registry) == [("a", "f1", "retired")]
    registry.drop(1)
    record(registry, 2, a="f1")
    assert [build.field for build in registry.builds()] == ["f1.2.2dc6c0"]
    with pytest.raises(Conflict, match="dropped"):
        registry.serve(1)


def test_a_registry_that_is_made_anew_builds_no_state_in_an_old_ones_field(registry: Registry):
    """Its numbers start again; what the lost one built may still be in the online store."""
    record(registry, 0, a="f1")
    (before,) = registry.builds()
    registry.path.unlink()
    registry.record(
        definitions="{}",
        allowed_future_us=0,
        views=[ViewState("a", "user", "f1")],
        expected_version=0,
        applied_by="ann",
        at_us=before.created_us + 1,
        summary="1 added",
    )
    (after,) = registry.builds()
    assert after.number == before.number
    assert after.field != before.field


def test_the_first_floor_stands(registry: Registry):
    record(registry, 0, a="f1")
    assert registry.set_floor(1, {0: 7, -1: 1 << 40}) == {0: 7, -1: 1 << 40}
    assert registry.set_floor(1, {0: 9}) == {0: 7, -1: 1 << 40}
    assert registry.builds()[0].floor == {0: 7, -1: 1 << 40}


def seen(name: str, size: int = 1) -> SeenFile:
    return SeenFile(name, size, 0, f"digest of {name} {size}")


def test_files_are_listed_once_without_gaps(registry: Registry):
    registry.list_files("events", [seen("a"), seen("b")], 1)
    listed = registry.list_files("events", [seen("b", size=2), seen("c"), seen("c")], 2)
    assert [(file.ordinal, file.path, file.size, file.listed_us) for file in listed] == [
        (0, "a", 1, 1),
        (1, "b", 1, 1),
        (2, "c", 1, 2),
    ]
    assert registry.manifest("events") == listed
    assert registry.manifest("other") == []
    assert (listed[1].base_offset, listed[1].end_offset) == (1 << 40, 2 << 40)


def test_many_processes_listing_at_once_agree(registry: Registry):
    def attempt(who: int) -> None:
        registry.list_files("events", [seen(str(name)) for name in range(who, who + 10)], who)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))
    listed = registry.manifest("events")
    assert [file.ordinal for file in listed] == list(range(17))
    assert {file.path for file in listed} == {str(name) for name in range(17)}


def test_a_postgres_registry_is_refused_clearly():
    with pytest.raises(StoreUnavailable, match="postgresql:// is not in this version"):
        Registry("postgresql://db/registry", "shop", None)


def test_a_damaged_file_is_explained(registry: Registry):
    registry.path.parent.mkdir()
    registry.path.write_bytes(b"this is no database" * 100)
    for attempt in (registry.applied, lambda: record(registry, 0)):
        with pytest.raises(StoreUnavailable, match=r"registry\.db is damaged or is no registry") as error:
            attempt()
        assert "restore it" in error.value.hint


def test_a_registry_of_a_newer_version_is_left_alone(registry: Registry):
    record(registry, 0)
    connection = sqlite3.connect(registry.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for attempt in (registry.applied, lambda: record(registry, 1)):
        with pytest.raises(StoreUnavailable, match="newer featureflow"):
            attempt()


def test_a_registry_of_an_older_version_is_brought_up_to_date_when_read(registry: Registry):
    record(registry, 0, a="f1")
    connection = sqlite3.connect(registry.path)
    connection.executescript("DROP TABLE replays; DROP TABLE topics; PRAGMA user_version = 1")
    connection.close()
    assert registry.replays("events") == []
    assert registry.applied() is not None


def test_a_letter_is_listed_for_replay_once(registry: Registry):
    assert [replay.ordinal for replay in registry.list_replays("events", [(0, 7), (-1, 3)], 1)] == [0, 1]
    again = registry.list_replays("events", [(-1, 3), (0, 8), (0, 8)], 2)
    assert [(replay.ordinal, replay.partition, replay.offset, replay.listed_us) for replay in again] == [
        (2, 0, 8, 2)
    ]
    assert [replay.ordinal for replay in registry.replays("events")] == [0, 1, 2]
    assert registry.replays("other") == []


def test_the_first_topic_of_a_source_stands(registry: Registry, tmp_path: Path):
    assert registry.topics() == {}
    with ThreadPoolExecutor(8) as pool:
        told = set(pool.map(lambda number: registry.note_topic("events", f"id-{number}"), range(8)))
    assert len(told) == 1, "workers that start at once agree on one"
    assert registry.note_topic("events", "another") in told
    assert registry.note_topic("other", "another") == "another"
    assert registry.topics() == {"events": told.pop(), "other": "another"}
    assert Registry(registry.path, "shop", "prod").topics() == {}


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path):
    (tmp_path / "data").write_text("a file where the folder should be")
    registry = Registry(tmp_path / "data" / "registry.db", "shop", None)
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        record(registry, 0)
