"""The main law, on whole repos: stream, dataset and `get --at` give what the definition gives, at any (entity, T).

Only the events before T are streamed before the online store is read at T; the clock is the test's.
"""

import random
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from featureflow_cli.apply.execute import execute
from featureflow_cli.compute.views import Service
from featureflow_cli.dataset.build import build
from featureflow_cli.dataset.labels import Labels
from featureflow_cli.evaluate.past import vectors_at
from featureflow_cli.evaluate.project import Project, open_project
from featureflow_cli.evaluate.vector import Reader, values_of
from featureflow_cli.spec.types import ColumnType, Value, arrow_type
from featureflow_cli.stream.run import run
from featureflow_cli.times import DAY_US, HOUR_US
from tests.laws.telling import Told
from tests.repos import deliveries
from tests.repos.deliveries import START_US, Delivery

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class World:
    """A repo, its service, everything that its sources deliver, and which of it counts."""

    folder: Path
    service: str
    delivered: Sequence[Delivery]
    request: Mapping[str, Value]

    def accepted(self) -> dict[str, list[deliveries.Event]]:
        """By source, each id once: second deliveries come soon after the first."""
        found: dict[str, list[deliveries.Event]] = {}
        ids: set[Value] = set()
        for each in self.delivered:
            own = each.event.get("event_id") or each.event.get("payment_id")
            if own is None or own not in ids:
                found.setdefault(each.source, []).append(each.event)
                ids.add(own)
        return found


def shop_world(events: int) -> World:
    return World(ROOT / "example_repo", "ranking_v1", deliveries.shop(events, 7 * DAY_US), {})


def fraud_world(events: int) -> World:
    delivered = deliveries.fraud(events, 4 * DAY_US)
    return World(ROOT / "tests/repos/fraud", "fraud_v1", delivered, {"amount_asked": 12.5})


def tables_world(events: int) -> World:
    return World(ROOT / "tests/repos/tables", "accounts_v1", deliveries.accounts(events, 60 * DAY_US), {})


WORLDS: list[object] = [
    pytest.param(lambda: shop_world(6_000), 40, id="shop"),
    pytest.param(lambda: fraud_world(4_000), 40, id="fraud"),
    pytest.param(lambda: tables_world(1_500), 60, id="tables"),
    pytest.param(lambda: shop_world(100_000), 150, id="shop-100k", marks=pytest.mark.slow),
    pytest.param(lambda: fraud_world(10_000), 120, id="fraud-10k", marks=pytest.mark.slow),
]


@dataclass
class Clock:
    now_us: int

    def __call__(self) -> int:
        return self.now_us


def keys_of(service: Service) -> dict[str, ColumnType]:
    return {
        each.join_keys.get(key.name, key.name): key.type
        for each in service.views
        for key in each.view.join_keys
    }


def asked(world: World, service: Service, count: int, chance: random.Random) -> list[dict[str, Value]]:
    """Rows of keys that occur (so that pairs meet as well), and some of nobody."""
    rows = []
    events = [each.event for each in world.delivered]
    for _ in range(count):
        known = chance.choice(events)
        other = chance.choice(events)
        row = {name: known.get(name) for name in keys_of(service)}
        if chance.random() < 0.3:
            row = {name: other.get(name) if chance.random() < 0.5 else value for name, value in row.items()}
        nobody = {"string": "nobody", "int64": -1}
        row = {
            name: nobody[str(keys_of(service)[name])] if value is None and chance.random() < 0.8 else value
            for name, value in row.items()
        }
        rows.append({**row, **world.request})
    return rows


@pytest.mark.parametrize(("made", "rows"), WORLDS)
def test_every_path_answers_what_the_definition_says(tmp_path: Path, made: Callable[[], World], rows: int):
    """Online at four moments, with only the events before each streamed; then a dataset over all of them."""
    world = made()
    clock = Clock(START_US)
    project = applied(tmp_path / "repo", world, clock)
    service = project.repo.services[world.service]
    told = Told(service, world.accepted())
    chance = random.Random(11)
    assert online_differences(project, clock, world, told, chance, rows) == []
    assert dataset_differences(project, world, service, told, chance, rows * 2) == []
    assert past_differences(project, world, service, told, chance, rows) == []


@pytest.mark.parametrize("server", ["redis_url", "redis_cluster_url"])
@pytest.mark.service("redis")
def test_redis_answers_what_the_definition_says(
    tmp_path: Path, server: str, request: pytest.FixtureRequest
) -> None:
    """The same from states in Redis; between two moments it loses all it has, and gets it from the log."""
    world, clock = shop_world(6_000), Clock(START_US)
    url = request.getfixturevalue(server)
    settings = f"online_store: {{type: redis, url: '{url}', cluster: {str('cluster' in server).lower()}}}"
    project = applied(tmp_path / "repo", world, clock, settings)
    told = Told(project.repo.services[world.service], world.accepted())
    lost = project.online.teardown
    assert online_differences(project, clock, world, told, random.Random(11), 40, before_last=lost) == []
    assert project.online.bytes_held() > 50_000
    project.online.close()


def applied(folder: Path, world: World, clock: Clock, online_store: str | None = None) -> Project:
    """The world's repo, applied and opened; with another online store if need be."""
    shutil.copytree(world.folder, folder, ignore=shutil.ignore_patterns("data"))
    if online_store is not None:
        file = folder / "feature_store.yaml"
        lines = file.read_text().splitlines()
        others = [line for line in lines if not line.startswith("online_store:")]
        file.write_text("\n".join([*others, online_store, ""]))
    project = open_project(folder, None, {}, clock)
    execute(project, project.plan(), applied_by="test", report=lambda line: None)
    return open_project(folder, None, {}, clock)


def online_differences(
    project: Project,
    clock: Clock,
    world: World,
    told: Told,
    chance: random.Random,
    rows: int,
    before_last: Callable[[], None] = lambda: None,
) -> list[str]:
    service = project.repo.services[world.service]
    last_us = max(each.ts_us for each in world.delivered)
    moments = [*sorted(chance.randrange(START_US + HOUR_US, last_us) for _ in range(3)), last_us + 1]
    found, since_us = [], -(2**62)
    for number, moment_us in enumerate(moments):
        slice_ = [each for each in world.delivered if since_us <= each.ts_us < moment_us]
        deliveries.put(project.root, f"{number:03d}", slice_)
        if moment_us == moments[-1]:
            before_last()
        clock.now_us = since_us = moment_us
        report = run(project, once=True, stop=threading.Event())
        assert sum(sum(source.letters.values()) for source in report.sources) == 0
        reader = Reader(project.online, service, project.serving())
        for row in asked(world, service, rows // 4, chance):
            (vector,) = reader.read([row], moment_us, as_of_us=moment_us)
            found += told.differences(row, moment_us, vector.features)
    return found


def past_differences(
    project: Project, world: World, service: Service, told: Told, chance: random.Random, rows: int
) -> list[str]:
    """What `get --at` answers, each row at a moment of its own."""
    asked_rows = asked(world, service, rows, chance)
    moments = [chance.choice(world.delivered).ts_us + chance.randrange(2) for _ in asked_rows]
    vectors = vectors_at(project, service, asked_rows, np.array(moments, np.int64))
    found = []
    for row, moment_us, vector in zip(asked_rows, moments, vectors, strict=True):
        found += told.differences(row, moment_us, vector.features)
    return found


def dataset_differences(
    project: Project, world: World, service: Service, told: Told, chance: random.Random, rows: int
) -> list[str]:
    asked_rows = asked(world, service, rows, chance)
    first_us, last_us = (
        min(each.ts_us for each in world.delivered),
        max(each.ts_us for each in world.delivered),
    )
    t_us = [
        chance.choice(world.delivered).ts_us + chance.choice([0, 0, 1])
        if chance.random() < 0.5
        else chance.randrange(first_us - HOUR_US, last_us + 2 * DAY_US)
        for _ in range(rows)
    ]
    types = {
        **keys_of(service),
        **{name: kind for each in service.on_demand for name, kind in each.request.items()},
    }
    table = pa.table(
        {name: pa.array([row[name] for row in asked_rows], arrow_type(kind)) for name, kind in types.items()}
    )
    built = build(project, service, Labels(table, np.array(t_us, np.int64), "timestamp"), keep_cold=True)
    assert built.report.audit is not None
    assert built.report.audit.violations == 0
    columns = {name: values_of(built.table.column(name).combine_chunks()) for name, _ in service.outputs}
    found = []
    for place, row in enumerate(asked_rows):
        actual = {name: values[place] for name, values in columns.items()}
        found += told.differences(row, t_us[place], actual)
    return found
