"""Laws of rows: SQL projects what the row evaluator does, and a service's rows are the reference's."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute.reference_rows import cold
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.sql_features import service_sql
from featureflow_cli.dataset.build import cold_rows, warm
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.engines.functions import register
from featureflow_cli.evaluate.rows import rows_at
from featureflow_cli.spec.types import BOOL, INT64, TIMESTAMP, arrow_type
from tests.laws.labelled import Labels, assert_references, labels
from tests.laws.strategies import Case, cases, definitions
from tests.laws.tables import column, plain, projected, table


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as opened:
        register(opened)
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


@given(drawn=labels(definitions(kinds=("count", "latest"))), data=st.data())
def test_the_rows_that_are_dropped_as_cold_are_the_references(
    engine: Engine, drawn: Labels, data: st.DataObject
):
    """Whatever entities are required: by the dataset, which counts them by entity, and by its SQL."""
    entities = sorted({member.view.entity for member in drawn.service.views})
    required = data.draw(st.lists(st.sampled_from(entities), unique=True))
    service = replace(drawn.service, required_entities=tuple(required))
    expected = [
        cold(service, {"s": drawn.events}, *asked) for asked in zip(drawn.rows, drawn.t_us, strict=True)
    ]
    engine.register("log", drawn.log)
    found = cold_rows(service, rows_at(engine, service, {"s": "log"}, drawn.keys, drawn.moments))
    assert {entity: rows.tolist() for entity, rows in found.items()} == {
        entity: [entity in missing for missing in expected] for entity in required
    }
    kept = [place for place, missing in enumerate(expected) if not missing]
    assert np.flatnonzero(warm(found, len(expected))).tolist() == kept
    moments = column(drawn.t_us, TIMESTAMP)
    given = drawn.keys.append_column("timestamp", moments).append_column(
        "place", pa.array(range(len(moments)))
    )
    engine.register("given", given)
    sql = service_sql(service, "given", {"s": "log"}, drop_cold=True)
    assert engine.table(sql).column("place").to_pylist() == kept


@given(drawn=labels())
def test_rows_of_a_service_are_the_references(engine: Engine, drawn: Labels):
    """All views of a repo at the labels' own moments, through DuckDB."""
    engine.register("log", drawn.log)
    found = rows_at(engine, drawn.service, {"s": "log"}, drawn.keys, drawn.moments)
    assert_references(drawn, found)
