"""check-skew finds what it is for: damaged values, another definition, lag; and nothing where there is nothing."""

import shutil
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureflow_cli.compute import codec
from featureflow_cli.compute.cells import Cells
from featureflow_cli.compute.packed import packed
from featureflow_cli.compute.views import Key, Merge
from featureflow_cli.evaluate.keeping import new_versions
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.online.store import FOREVER_US, Writes, version_words
from featureflow_cli.skew.check import check
from featureflow_cli.skew.comparing import Thresholds, distance
from featureflow_cli.skew.report import ConsistencyReport, FeatureSkew
from featureflow_cli.stream.run import run
from featureflow_cli.times import DAY_US
from tests.integration.serve.shop import ROOT
from tests.repos import deliveries
from tests.repos.deliveries import START_US

EVENTS = 1_200


class Clock:
    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of seven days, streamed as the clock stood at their end; tests copy it."""
    root = tmp_path_factory.mktemp("skew") / "shop"
    shutil.copytree(ROOT / "example_repo", root, ignore=shutil.ignore_patterns("data"))
    apply(root)
    deliveries.put(root, "000", deliveries.shop(EVENTS, 7 * DAY_US))
    stream(root)
    return root


@pytest.fixture
def root(streamed: Path, tmp_path: Path) -> Path:
    shutil.copytree(streamed, tmp_path / "shop")
    return tmp_path / "shop"


def opened(root: Path) -> Project:
    return open_project(root, None, {}, Clock(START_US + 7 * DAY_US + 1))


def apply(root: Path) -> None:
    from featureflow_cli.apply.execute import execute

    project = opened(root)
    execute(project, project.plan(), applied_by="test", report=lambda line: None)


def stream(root: Path) -> None:
    project = opened(root)
    run(project, once=True, stop=threading.Event())
    project.online.close()


def checked(root: Path, entity: str, **options: Any) -> ConsistencyReport:
    """The report of one entity; nothing here ever has to wait for the log."""
    (report,) = check(opened(root), entities=[entity], pause=no_pause, **options)
    return report


def no_pause(seconds: float) -> None:
    message = "waited for the log"
    raise AssertionError(message)


def of(report: ConsistencyReport, feature: str) -> FeatureSkew:
    return next(each for each in report.features if each.feature == feature)


@pytest.mark.parametrize("entity", ["user", "item"])
def test_what_was_streamed_agrees_with_the_log(root: Path, entity: str):
    """Ranks included; the events are fresh, so that windows hold some."""
    report = checked(root, entity)
    assert report.passed
    assert report.checked > 0
    assert sum(each.different for each in report.features) == 0
    assert (
        report.summary()
        == f"ConsistencyReport [PASSED] entity={entity} checked={report.checked} flagged_features=[]"
    )


def test_a_sample_is_no_larger_than_asked_and_the_same_again(root: Path):
    report = checked(root, "user", sample=5)
    assert report.checked == 5
    assert report == checked(root, "user", sample=5)


def test_counts_that_were_damaged_are_definition_skew(root: Path):
    """Every count in every item's state is doubled: the same events, another answer."""
    double_counts(root, "item_activity")
    report = checked(root, "item")
    views = of(report, "item_activity__view_count_24h")
    assert views.flagged
    assert views.definition == views.different > 0
    assert views.largest == pytest.approx(0.5)
    assert (views.online, views.offline) != (None, None)
    assert not of(report, "item_history__avg_rating").flagged
    assert report.summary().startswith("ConsistencyReport [FAILED] entity=item")


def test_another_definition_is_definition_skew(root: Path):
    """The registry says that ratings are counted, but the state that serves counted carts: laid out alike."""
    features = root / "features" / "items.yaml"
    as_it_was = "{name: cart_add_count_1h, count: \"*\", where: event_type = 'add_to_cart', window: 1h}"
    text = features.read_text()
    assert as_it_was in text
    features.write_text(text.replace(as_it_was, as_it_was.replace("add_to_cart", "rating")))
    before = opened(root)
    (live,) = [build for build in before.registry.builds() if build.view == "item_activity"]
    apply(root)
    project = opened(root)
    (fresh,) = [build for build in project.registry.builds() if build.version == 2]
    # The old state under the new build's name: what a bug in a rebuild would leave behind.
    with sqlite3.connect(root / "data/online.db") as connection:
        for ending in ("", "@"):
            old, new = f"{live.field}{ending}", f"{fresh.field}{ending}"
            connection.execute(f"ALTER TABLE `shop/item` RENAME COLUMN `{old}` TO `{new}`")
        connection.execute("UPDATE markers SET field = ? WHERE field = ?", (fresh.field, live.field))
    connection.close()
    project.registry.set_floor(fresh.number, live.floor or {})
    project.registry.serve(fresh.number)
    report = checked(root, "item")
    skew = of(report, "item_activity__cart_add_count_1h")
    assert skew.flagged
    assert skew.definition > 0


def test_events_that_were_not_applied_yet_are_staleness(root: Path):
    """The states of an earlier moment are put back: the log knows more than they do."""
    shutil.copytree(root / "data", root / "before")
    late = [
        replace(each, event={**each.event}, ts_us=each.ts_us)
        for each in deliveries.shop(2 * EVENTS, 7 * DAY_US)
    ]
    deliveries.put(root, "001", late)
    stream(root)
    for ending in ("", "-wal", "-shm"):
        (root / f"data/online.db{ending}").unlink(missing_ok=True)
        if (root / f"before/online.db{ending}").exists():
            shutil.copy(root / f"before/online.db{ending}", root / f"data/online.db{ending}")
    report = checked(root, "user")
    assert not report.passed
    assert set(report.lagging) == {"user_activity", "user_history"}
    differing = [each for each in report.features if each.different]
    assert differing
    assert all(each.stale == each.different and each.definition == 0 for each in differing)


def test_states_ahead_of_the_log_are_waited_for_and_then_left_out(root: Path):
    project = opened(root)
    shutil.rmtree(root / "data/offline/user_events")
    waits: list[float] = []
    (report,) = check(project, entities=["user"], pause=waits.append)
    assert (report.checked, report.passed) == (0, False)
    assert report.unlogged > 0
    assert sum(waits) == pytest.approx(15.0)


def test_thresholds_say_what_is_flagged(root: Path):
    double_counts(root, "item_activity")
    assert checked(root, "item", thresholds=Thresholds(share=1.0)).passed
    assert checked(root, "item", thresholds=Thresholds(relative=0.5)).passed


def test_only_the_features_asked_for_are_compared(root: Path):
    project = opened(root)
    (report, _) = check(project, service=project.repo.services["ranking_v1"], pause=no_pause)
    assert {each.feature.split("__")[0] for each in report.features} == {"user_activity", "user_history"}


def test_a_check_that_compared_nothing_has_not_passed(tmp_path: Path):
    shutil.copytree(ROOT / "example_repo", tmp_path / "shop", ignore=shutil.ignore_patterns("data"))
    apply(tmp_path / "shop")
    stream(tmp_path / "shop")
    report = checked(tmp_path / "shop", "user")
    assert (report.checked, report.passed) == (0, False)


@pytest.mark.parametrize(
    ("online", "offline", "expected"),
    [
        (None, None, 0.0),
        (None, 1, 1.0),
        (100, 95, 0.05),
        (95, 100, 0.05),
        (0, 5, 1.0),
        (-5, 5, 1.0),
        (2.0, 2.0, 0.0),
        ("a", "a", 0.0),
        ("a", "b", 1.0),
        (("a", "b"), ("a", "b"), 0.0),
        (("a", "b"), ("b", "a"), 1.0),
        (True, 1, 1.0),
        (False, True, 1.0),
    ],
)
def test_numbers_differ_by_size_and_all_else_wholly(online: Any, offline: Any, expected: float):
    assert distance(online, offline) == pytest.approx(expected)


def double_counts(root: Path, name: str) -> None:
    """Write every state of a view anew with its plain counts doubled, headers as they were."""
    project = opened(root)
    view, build = project.serving()[name]
    store = project.online
    for chunk in list(store.scan(build.entity, build.field, -(2**63))):
        states, ends = codec.decode(view, packed([blob for _, blob in chunk]))
        columns = tuple(
            Cells(cells.state, cells.tile, cells.key, cells.value * 2)
            if column.merge is Merge.SUM and column.key is Key.NONE
            else cells
            for column, cells in zip(view.columns, states.columns, strict=True)
        )
        ids = [id for id, _ in chunk]
        held = store.read(build.entity, ids, [build.field])
        writes = Writes(
            ids,
            version_words([was.version for was in held]),
            new_versions(len(ids)),
            (codec.encode(view, replace(states, columns=columns), ends),),
            (states.newest_us,),
            np.full(len(ids), FOREVER_US),
        )
        assert store.write(build.entity, [build.field], writes).all()
    store.close()
