"""The leakage audit: it passes an honest evaluator, and catches one that looks at or past the label."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from featureflow_cli.compute.codes import Ints
from featureflow_cli.compute.compiling import compile_repo
from featureflow_cli.compute.views import Service
from featureflow_cli.dataset.audit import Audit, audit
from featureflow_cli.dataset.labels import Labels
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.rows import Rows, rows_at
from featureflow_cli.spec.repo import load
from tests.laws.shop import shop_events
from tests.laws.tables import table

EXAMPLE = Path(__file__).parents[3] / "example_repo"
RELATIONS = {"user_events": "events"}
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def service() -> Service:
    loaded = load(EXAMPLE, None, {})
    return compile_repo(loaded.config, loaded.definitions).services["ranking_v1"]


@pytest.fixture(scope="module")
def engine(service: Service) -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        opened.register("events", table(service.views[0].view.source, shop_events(7, 4_000)))
        yield opened


@pytest.fixture(scope="module")
def labels() -> Labels:
    """Half of the labels stand at the very moment of one of their user's events."""
    events = [event for event in shop_events(7, 4_000) if event["item_id"] is not None][::9]
    users = pa.array([event["user_id"] for event in events], pa.int64())
    items = pa.array([event["item_id"] for event in events], pa.int64())
    moments = np.array([event["timestamp"] for event in events], np.int64)
    moments[::2] += 1_000_000
    return Labels(pa.table({"user_id": users, "item_id": items}), moments, "timestamp")


def audited(engine: Engine, service: Service, labels: Labels, t_us: Ints) -> Audit:
    """The audit of rows that were evaluated at `t_us` though their labels stand elsewhere."""
    rows = rows_at(engine, service, RELATIONS, labels.table, t_us)
    return audit(engine, service, RELATIONS, labels, rows, np.ones(len(t_us), np.bool_))


def test_an_honest_evaluator_passes(engine: Engine, service: Service, labels: Labels):
    found = audited(engine, service, labels, labels.t_us)
    assert found.violations == 0
    assert found.sampled == 25


@pytest.mark.parametrize("ahead_us", [1, HOUR_US])
def test_an_evaluator_that_looks_ahead_fails(engine: Engine, service: Service, labels: Labels, ahead_us: int):
    """One microsecond is enough where a label stands at an event of its own user."""
    found = audited(engine, service, labels, labels.t_us + ahead_us)
    assert found.violations > 0
    assert "the newest before the label is" in found.first


def test_values_from_elsewhere_fail_though_their_times_are_right(
    engine: Engine, service: Service, labels: Labels
):
    """Whoever reports honest times but other values is caught by the sample that is computed again."""
    honest = rows_at(engine, service, RELATIONS, labels.table, labels.t_us)
    leaky = rows_at(engine, service, RELATIONS, labels.table, labels.t_us + 24 * HOUR_US)
    lying = Rows(leaky.columns, honest.present, honest.newest_us)
    found = audit(engine, service, RELATIONS, labels, lying, np.ones(len(labels.t_us), np.bool_))
    assert found.violations > 0
    assert "from the events before the label it is" in found.first


def test_rows_that_are_not_kept_are_not_audited(engine: Engine, service: Service, labels: Labels):
    rows = rows_at(engine, service, RELATIONS, labels.table, labels.t_us + HOUR_US)
    found = audit(engine, service, RELATIONS, labels, rows, np.zeros(len(labels.t_us), np.bool_))
    assert found == replace(found, rows=0, sampled=0, violations=0)
