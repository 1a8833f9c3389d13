"""Laws of rows: SQL projects what the row evaluator does, and a service's rows are the reference's."""

from collections.abc import Iterator

import pytest
from hypothesis import given

from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.rows import rows_at
from featureflow_cli.spec.types import BOOL, INT64, arrow_type
from tests.laws.labelled import Labels, assert_references, labels
from tests.laws.strategies import Case, cases
from tests.laws.tables import plain, projected, table


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


@given(drawn=labels())
def test_rows_of_a_service_are_the_references(engine: Engine, drawn: Labels):
    """All views of a repo at the labels' own moments, through DuckDB."""
    engine.register("log", drawn.log)
    found = rows_at(engine, drawn.service, {"s": "log"}, drawn.keys, drawn.moments)
    assert_references(drawn, found)
