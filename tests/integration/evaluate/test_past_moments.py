"""An `as_of` in the past is answered from states only where they can tell it (design.md 1.4)."""

import shutil
import threading
from pathlib import Path

import pytest

from featureflow_cli.apply.execute import execute
from featureflow_cli.errors import UsageError
from featureflow_cli.evaluate.project import open_project
from featureflow_cli.evaluate.vector import Reader
from featureflow_cli.stream.run import run
from featureflow_cli.times import DAY_US, SECOND_US
from tests.repos import deliveries
from tests.repos.deliveries import START_US

REPO = Path(__file__).parents[2] / "repos" / "fraud"


def test_a_state_that_may_have_expired_since_is_not_taken_for_an_unknown_entity(tmp_path: Path):
    #   events          as_of           now
    #   |--- 2 days ---|  ...  ttl 3d    |      whoever was present at as_of is forgotten by now
    now_us = START_US
    shutil.copytree(REPO, tmp_path / "repo", ignore=shutil.ignore_patterns("data"))
    project = open_project(tmp_path / "repo", None, {}, lambda: now_us)
    execute(project, project.plan(), applied_by="test", report=lambda line: None)
    deliveries.put(project.root, "all", deliveries.fraud(200, 2 * DAY_US))
    now_us = START_US + 3 * DAY_US
    project = open_project(tmp_path / "repo", None, {}, lambda: now_us)
    run(project, once=True, stop=threading.Event())
    reader = Reader(project.online, project.repo.services["fraud_v1"], project.serving())
    asked = [{"card_id": "c1", "merchant_id": 3, "amount_asked": 1.0}]
    (before,) = reader.read(asked, now_us, as_of_us=now_us)
    assert before.status["card_activity"] == "present"

    now_us = START_US + 40 * DAY_US
    (now,) = reader.read(asked, now_us, as_of_us=now_us)
    assert now.status["card_activity"] != "present"
    with pytest.raises(UsageError, match="is not held any more") as refused:
        reader.read(asked, now_us, as_of_us=START_US + 4 * DAY_US + SECOND_US)
    assert refused.value.hint == "`featureflow get --at` answers for the past"
