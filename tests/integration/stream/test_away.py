"""The loop while one source is away: whoever does not need it goes on."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from featureflow_cli.compute.views import Source
from featureflow_cli.errors import StillAnswering, StoreUnavailable
from featureflow_cli.stream.absences import ATTEMPTS
from featureflow_cli.stream.intake import FileIntake
from featureflow_cli.stream.outside import SourceAway, asking
from featureflow_cli.stream.progress import Progress
from featureflow_cli.stream.run import run
from featureflow_cli.times import SECOND_US, system_clock
from tests.integration.stream.repo import assert_online_is_the_log, opened, positions, put, write_repo
from tests.integration.stream.test_run import events
from tests.integration.stream.world import CLICKING_YAML, FEATURES_YAML


@dataclass
class Clicks:
    """A second source, whose files do not answer while `is_away`; how often it was asked."""

    folder: Path
    is_away: bool = False
    asked: int = 0
    passed_us: int = 0
    told: list[StoreUnavailable] = field(default_factory=list)

    def run(self, once: bool, turn: Callable[[], bool], **options: Any) -> dict[str, Progress]:
        """Stream; each wait of the loop is a turn, which says whether to stop, and ten seconds go by in it."""
        project, progress, test = opened(self.folder), {}, self

        class Turns(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                test.passed_us += 10 * SECOND_US
                if turn():
                    self.set()
                return self.is_set()

        project.clock = lambda: system_clock() + self.passed_us
        run(project, once=once, stop=Turns(), away=self.told.append, progress=progress, **options)
        return progress

    def counts(self) -> tuple[int, int]:
        project = opened(self.folder)
        assert_online_is_the_log(project)
        return len(positions(project, "events")), len(positions(project, "clicks"))


@pytest.fixture
def clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clicks]:
    """`clicks` come first, so that whoever is stopped by them is stopped in every round."""
    sources, views = FEATURES_YAML.split("feature_views:")
    entities, source = sources.split("sources:\n")
    second = source.replace("name: events", "name: clicks").replace("events/", "clicks/")
    write_repo(tmp_path, f"{entities}sources:\n{second}{source}feature_views:{CLICKING_YAML}{views}")
    (tmp_path / "clicks").mkdir()
    put(tmp_path, "0", events(99, 10)).rename(tmp_path / "clicks" / "0.ndjson")
    made, read = Clicks(tmp_path), FileIntake.read

    def maybe(self: FileIntake, source: Source, *others: Any) -> Any:
        if source.name == "clicks":
            made.asked += 1
            if made.is_away:
                what = "it does not answer"
                raise SourceAway(what)
        return read(self, source, *others)

    monkeypatch.setattr(FileIntake, "read", maybe)
    yield made


def test_others_go_on_and_commit_while_a_source_is_away(clicks: Clicks) -> None:
    seen: list[tuple[int, int, int]] = []

    def turn() -> bool:
        seen.append((*clicks.counts(), len(clicks.told)))
        number = len(seen)
        put(clicks.folder, str(number), events(number, 10, first=10 * number))
        clicks.is_away = number in {1, 2, 4}
        return number == 6

    clicks.is_away = True
    clicks.run(False, turn)
    assert seen == [(0, 0, 1), (10, 0, 1), (20, 0, 1), (30, 10, 1), (40, 10, 2), (50, 10, 2)]


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_single_run_gives_in_once_all_else_is_committed(clicks: Clicks, is_slow: bool) -> None:
    """Also where a batch of the others takes longer than a source is waited for before it is asked again."""
    for number in range(8):
        put(clicks.folder, str(number), events(number, 10, first=10 * number))
    clicks.is_away = True

    def show(_: list[Progress]) -> None:
        clicks.passed_us += is_slow * 10 * SECOND_US

    with pytest.raises(StoreUnavailable, match="does not answer"):
        clicks.run(True, lambda: False, batch_rows=10, show=show)
    assert clicks.asked == (9 if is_slow else ATTEMPTS)  # in each round; the ninth is the first without news
    assert clicks.counts() == (80, 0)
    assert not clicks.told


def test_a_single_run_waits_for_a_source_that_comes_back(clicks: Clicks) -> None:
    put(clicks.folder, "0", events(0, 10))
    clicks.is_away = True

    def turn() -> bool:
        clicks.is_away = clicks.asked < ATTEMPTS - 1
        return False

    clicks.run(True, turn)
    assert clicks.counts() == (10, 10)


def test_a_single_run_waits_for_a_source_that_answers_little_by_little(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that takes long for each of many schemas: a run that gave it up would begin with the first again."""
    put(clicks.folder, "0", events(0, 10))
    read = FileIntake.read

    @asking()
    def slow(self: FileIntake, source: Source, *others: Any) -> Any:
        found = read(self, source, *others)
        if source.name == "clicks" and clicks.asked <= 3 * ATTEMPTS:
            what = "it takes long"
            raise StillAnswering(what)
        return found

    monkeypatch.setattr(FileIntake, "read", slow)  # files are never slow; it goes on to the real one
    clicks.run(True, lambda: False)
    assert clicks.counts() == (10, 10)


def test_what_is_decided_stays_decided_while_its_source_is_away(clicks: Clicks) -> None:
    """It is read once, and committed though nobody answers any more."""
    turns = iter([False, False, True])

    def turn() -> bool:
        clicks.is_away = True
        return next(turns)

    progress = clicks.run(False, turn)
    assert clicks.counts() == (0, 10)
    assert (progress["clicks"].taken_up, progress["clicks"].accepted) == (1, 10)


def test_a_source_may_go_as_a_single_run_asks_whether_it_is_drained(
    clicks: Clicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, False])

    def goal(_: FileIntake) -> Mapping[int, int]:
        if not next(answers, True):
            what = "it does not answer"
            raise SourceAway(what)
        return {}

    monkeypatch.setattr(FileIntake, "goal", goal)
    clicks.run(True, lambda: False)
    assert clicks.counts() == (0, 10)
