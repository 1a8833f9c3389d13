"""Compaction beside a stream: when it is due, by whom, and one at a time."""

import json
from pathlib import Path

from featureflow_cli.errors import StoreUnavailable
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.evaluate.upkeep import Upkeep
from tests.cli.projects import Bank


def streamed(folder: Path, commits: int) -> Project:
    """The bank after so many commits of payments of one day."""
    bank = Bank(folder)
    assert bank("apply", "-y").code == 0
    (folder / "data/payments").mkdir(parents=True)
    for number in range(commits):
        event = {
            "id": f"p{number}",
            "card_id": "c",
            "shop_id": 1,
            "amount": "1.25",
            "at": "2026-01-01T00:00:00Z",
        }
        (folder / f"data/payments/{number}.ndjson").write_text(json.dumps(event))
        assert bank("stream", "--once").code == 0
    return open_project(folder, None, {}, lambda: 0)


def test_who_holds_the_lowest_partition_compacts_when_it_is_due(tmp_path: Path) -> None:
    project = streamed(tmp_path / "bank", 3)
    log = project.log("payments")
    before = log.snapshot()
    for upkeep, held in ((Upkeep(project, 4), {-1}), (Upkeep(project, 3), {0, -2})):
        assert not upkeep.tend("payments", before, held)
        upkeep.close()
    upkeep = Upkeep(project, 3)
    assert upkeep.tend("payments", before, {-1})
    upkeep.close()
    after = log.snapshot()
    assert (len(before.files), len(after.files), after.ends) == (3, 1, before.ends)
    assert not Upkeep(project, 3).tend("payments", after, {-1})


def test_a_compaction_that_fails_is_remembered_and_tried_again(tmp_path: Path) -> None:
    """A file is away while it runs: the stream goes on, and the next turn does it."""
    project = streamed(tmp_path / "bank", 3)
    snapshot = project.log("payments").snapshot()
    away = Path(snapshot.files[0].path)
    away.rename(tmp_path / "away")
    upkeep = Upkeep(project, 3)
    assert upkeep.tend("payments", snapshot, {-1})
    while not upkeep.tend("payments", snapshot, {-1}):
        assert upkeep.failure is None
    assert isinstance(upkeep.failure, StoreUnavailable)
    upkeep.close()
    (tmp_path / "away").rename(away)
    again = Upkeep(project, 3)
    assert again.tend("payments", snapshot, {-1})
    again.close()
    assert len(project.log("payments").snapshot().files) == 1
