"""Law of training: both evaluators of whole services are the reference, where rows are crowded and where they tie.

One is arrays over sorted events (evaluate/rows.py), the other plain SQL (evaluate/sql_rows.py).
"""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.reference_rows import cold, vector
from featureflow_cli.compute.selecting import select
from featureflow_cli.compute.sql_features import service_sql
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.engines.functions import register
from featureflow_cli.evaluate.rows import Rows, rows_at
from featureflow_cli.evaluate.sql_rows import rows_by_sql
from featureflow_cli.spec.models import Definitions
from featureflow_cli.spec.types import TIMESTAMP
from featureflow_cli.times import HOUR_US, parse_timestamp
from tests.laws.labelled import Labels, assert_references, labels
from tests.laws.strategies import compiled
from tests.laws.tables import column
from tests.laws.written import ENTITIES, FAMILIES, SCHEMA, WINDOWS, features, ranks, written_as

Evaluator = Callable[..., Rows]
T_US = parse_timestamp("2026-01-03T12:00:00.000001Z")
NULLS: dict[str, Any] = dict.fromkeys(SCHEMA)
BOTH = pytest.mark.parametrize("evaluate", [rows_at, rows_by_sql])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        yield opened


def rows(engine: Engine, evaluate: Evaluator, drawn: Labels) -> Rows:
    engine.register("log", drawn.log)
    return evaluate(engine, drawn.service, {"s": "log"}, drawn.keys, drawn.moments)


@given(drawn=labels())
def test_plain_sql_answers_as_the_reference_does(engine: Engine, drawn: Labels):
    """All views of a repo at the labels' own moments, null keys and unknown entities among them."""
    assert_references(drawn, rows(engine, rows_by_sql, drawn))


@st.composite
def crowded(draw: st.DrawFn) -> Definitions:
    """Keyed features over more keys than they may look at, and a rank: over few entities, without a `where`."""
    kinds = st.sampled_from(["count_distinct", "top_k", "session_mean", "percentile"])
    several = [draw(features(f"f{place}", draw(kinds), WINDOWS[3:])) for place in range(2)]
    for each in several:
        each.pop("where", None)
        if "percentile" not in each:
            each["max_keys"] = draw(st.integers(2, 3))
    view = {"name": "v0", "source": "s", "entity": draw(st.sampled_from(["user", "person"]))}
    return written_as([{**view, "features": [*several, *draw(ranks())]}])


@given(drawn=labels(crowded(), most=30, within_us=(0, 1, 2, 999, 60_000_000, 3_599_999_999)))
def test_crowded_windows_answer_as_the_reference_does(engine: Engine, drawn: Labels):
    """More keys than `max_keys`, many events of an instant, some of them the label's own."""
    for evaluate in (rows_at, rows_by_sql):
        assert_references(drawn, rows(engine, evaluate, drawn))


@st.composite
def tied(draw: st.DrawFn) -> Definitions:
    """The latest rows of an entity, and its first and last values."""
    columns = st.sampled_from([name for name in SCHEMA if name not in {"ts", "uid"}])
    view = {"name": "v0", "source": "s", "entity": "user"}
    latest = draw(st.lists(columns, min_size=1, max_size=6, unique=True))
    deleted = draw(st.sampled_from([{}, {"deleted": "not flag"}]))
    ends = [
        draw(features(f"f{place}", draw(st.sampled_from(FAMILIES["ends"])), WINDOWS)) for place in range(3)
    ]
    several = [{**view, "latest": latest, **deleted}, {**view, "name": "v1", "features": ends}]
    return written_as(several, created=draw(st.booleans()))


@given(drawn=labels(tied(), within_us=(-1, 0, 1, 1, 1, 2)))
def test_ties_are_broken_as_the_reference_does(engine: Engine, drawn: Labels):
    """By the value's own order, and of whole rows by created_timestamp and canonical text; none at T itself counts."""
    for evaluate in (rows_at, rows_by_sql):
        assert_references(drawn, rows(engine, evaluate, drawn))


@BOTH
def test_a_share_of_next_to_nothing_is_an_overflow(engine: Engine, evaluate: Evaluator):
    """No infinity leaves the product: the share is null, and the entity is in the population all the same."""
    rank = {"name": "rank", "rank": {"of": "ranked"}, "refresh": "1h", "default": -1.0}
    several = [{"name": "ranked", "sum": "x", "window": "24h"}, rank]
    repo = compiled(written_as([{"name": "v0", "source": "s", "entity": "user", "features": several}]))
    events = [NULLS | {"uid": uid, "ts": T_US - HOUR_US, "x": x} for uid, x in ((1, -1e300), (2, 1e-300))]
    asked = [{"uid": uid, "name": None} for uid in (1, 2, 3)]
    drawn = Labels(repo, events, asked, [T_US] * len(asked))
    found = rows(engine, evaluate, drawn)
    assert_references(drawn, found)
    assert found.columns["v0__rank"].to_pylist() == [None, 1.0, None]


SERVICE: dict[str, Any] = {
    "entities": [{"name": name, "join_keys": keys} for name, keys in ENTITIES.items()],
    "sources": [
        {"name": "s", "schema": SCHEMA, "timestamp_field": "ts", "stream": {"files": {"path": "e/*.parquet"}}}
    ],
    "feature_views": [
        {"name": "spent", "source": "s", "entity": "user", "ttl": "1h", "features": [
            {"name": "sum_1h", "sum": "price", "window": "1h"},
            {"name": "kinds", "top_k": {"of": "kind", "k": 2}, "window": "1h"},
        ]},
        {"name": "called", "source": "s", "entity": "person", "latest": ["kind"]},
    ],
    "on_demand_features": [
        {"name": "share", "expr": "spent.sum_1h / nullif(budget, 0)", "request": {"budget": "double"}, "default": -1.0},
        {"name": "late", "expr": "date_diff('day', date '2026-01-01', as_of)"},
    ],
    "feature_services": [
        {"name": "all", "required_entities": ["user"], "features": [
            "spent:*", {"view": "called", "as": "friend", "join_keys": {"name": "friend_name"}}, "share", "late",
        ]}
    ],
}  # fmt: skip
EVENTS = [
    NULLS | {"uid": 1, "name": "a", "kind": "x", "ts": T_US - 1, "price": 250},
    NULLS | {"uid": 1, "name": "b", "kind": "y", "ts": T_US - 60_000_000, "price": 1},
    NULLS | {"uid": 2, "name": "b", "kind": "z", "ts": T_US, "price": 7},
]
ASKED = [
    {"uid": 1, "friend_name": "b", "budget": 2.0},
    {"uid": 2, "friend_name": "a", "budget": 2.0},
    {"uid": None, "friend_name": None, "budget": None},
    {"uid": 1, "friend_name": "nobody", "budget": 0.0},
]


def test_the_printed_sql_of_a_service_is_its_dataset(engine: Engine):
    """The labels' own columns pass through; aliases, request columns and `as_of` are found; cold rows go."""
    repo = compiled(Definitions.model_validate(SERVICE))
    service, types = repo.services["all"], repo.sources["s"].columns
    engine.register("s", pa.table({name: column([e[name] for e in EVENTS], types[name]) for name in types}))
    given_rows = {name: [row[name] for row in ASKED] for name in ASKED[0]}
    moments = column([T_US] * len(ASKED), TIMESTAMP)
    engine.register("labels", pa.table({"label": list("abcd"), **given_rows, "timestamp": moments}))
    register(engine)
    found = engine.table(service_sql(service)).to_pylist()
    assert [row["label"] for row in found] == ["a", "b", "c", "d"]
    for row, asked in zip(found, ASKED, strict=True):
        expected = vector(service, {"s": EVENTS}, asked, T_US)
        for name, value in expected.items():
            actual = tuple(row[name]) if isinstance(row[name], list) else row[name]
            assert actual == value, name
    warm = [
        label for label, row in zip("abcd", ASKED, strict=True) if not cold(service, {"s": EVENTS}, row, T_US)
    ]
    kept = engine.table(service_sql(service, drop_cold=True)).column("label").to_pylist()
    assert kept == warm == ["a", "d"]


def test_the_printed_sql_runs_over_relations_and_moments_of_any_name(engine: Engine):
    repo = compiled(Definitions.model_validate(SERVICE))
    types = repo.sources["s"].columns
    engine.register(
        "given", pa.table({name: column([e[name] for e in EVENTS], types[name]) for name in types})
    )
    engine.register("asked", pa.table({"uid": [1, 3], "at": column([T_US, T_US], TIMESTAMP)}))
    register(engine)
    found = engine.table(service_sql(select(repo, ["spent:*"]), "asked", {"s": "given"}, "at"))
    assert found.column_names == ["uid", "at", "spent__sum_1h", "spent__kinds"]
    assert [str(value) for value in found.column("spent__sum_1h").to_pylist()] == ["251.00", "None"]
    assert found.column("spent__kinds").to_pylist() == [["x", "y"], None]
