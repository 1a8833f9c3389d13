"""Laws of rows: SQL projects what the row evaluator does, and a service's rows are the reference's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import reference
from featureflow_cli.compute.reference import Event
from featureflow_cli.compute.reference_rows import vector
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.views import Repo
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.rows import rows_at
from featureflow_cli.spec.types import BOOL, INT64, STRING, arrow_type
from tests.laws.comparing import same, scale
from tests.laws.strategies import Case, cases, compiled, definitions, moments, rows_of, values_of
from tests.laws.tables import column, plain, projected, table


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        yield opened


@given(case=cases())
def test_sql_projects_what_the_row_evaluator_does(engine: Engine, case: Case):
    """Column by column, row by row, in the same types."""
    view = case.view
    engine.register("events", table(view.source, case.events))
    found = engine.table(projection_sql(view, "events"))
    expected = projected(view, case.events)
    assert found.column_names == expected.column_names
    types = {"ts": INT64, "created": INT64, "deleted": BOOL}
    types |= {f"k{place}": key.type for place, key in enumerate(view.join_keys)}
    types |= {f"m{place}": BOOL for place in range(len(view.masks))}
    types |= {f"x{place}": operand.type for place, operand in enumerate(view.operands)}
    types |= {f"l{place}": column_type for place, (_, column_type) in enumerate(view.latest)}
    for name in expected.column_names:
        one, other = (
            plain(each.column(name).combine_chunks().cast(arrow_type(types[name])), types[name])
            for each in (found, expected)
        )
        assert repr(one) == repr(other), name


@dataclass(frozen=True)
class Labels:
    """A repo, events of its source, and rows to ask for: join keys (some null) and a moment each."""

    repo: Repo
    events: Sequence[Event]
    rows: Sequence[Event]
    t_us: Sequence[int]


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    repo = compiled(draw(definitions()))
    several = draw(st.lists(moments(), min_size=1, max_size=3, unique=True))
    least = draw(st.sampled_from([0, 8, 16]))
    events = draw(st.lists(rows_of(list(repo.views.values()), several), min_size=least, max_size=30))
    keys = st.fixed_dictionaries({"uid": values_of("uid", INT64), "name": values_of("name", STRING)})
    rows = draw(st.lists(keys, min_size=1, max_size=6))
    t_us = draw(st.lists(st.sampled_from(several), min_size=len(rows), max_size=len(rows)))
    return Labels(repo, events, rows, t_us)


@given(drawn=labels())
def test_rows_of_a_service_are_the_references(engine: Engine, drawn: Labels):
    """All views of a repo at the labels' own moments, through DuckDB."""
    service = drawn.repo.services["all"]
    engine.register("log", table(drawn.repo.sources["s"], drawn.events))
    keys = {
        name: column([row[name] for row in drawn.rows], of) for name, of in (("uid", INT64), ("name", STRING))
    }
    found = rows_at(engine, service, {"s": "log"}, pa.table(keys), np.array(drawn.t_us, np.int64))
    columns = {name: plain(found.columns[name], column_type) for name, column_type in service.outputs}
    known = {view.name: reference.entities(view, drawn.events) for view in drawn.repo.views.values()}
    for place, (row, t_us) in enumerate(zip(drawn.rows, drawn.t_us, strict=True)):
        expected = vector(service, {"s": drawn.events}, row, t_us)
        for member in service.views:
            key = tuple(row[each.name] for each in member.view.join_keys)
            features = {feature.name: feature for feature in member.view.features}
            for name, column_type in member.view.outputs:
                output = f"{member.alias}__{name}"
                relative_to = None
                if name in features and column_type.name == "double":
                    relative_to = scale(member.view, features[name], known[member.view.name], key, t_us)
                assert same(expected[output], columns[output][place], column_type, relative_to), (
                    f"{output} of {key} at {t_us}: {columns[output][place]!r} instead of {expected[output]!r}"
                )
