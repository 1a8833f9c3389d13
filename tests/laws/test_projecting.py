"""Laws of a batch: each view sees there what its own `projection_sql` selects, however many are looked at together."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow_cli.compute import reference
from featureflow_cli.compute.codes import uncode
from featureflow_cli.compute.events import Events, from_projection
from featureflow_cli.compute.projecting import beyond_arrays
from featureflow_cli.compute.reference import Event
from featureflow_cli.compute.sql import projection_sql
from featureflow_cli.compute.views import View
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.evaluate.keeping import Kept
from featureflow_cli.plan.applied import Build
from featureflow_cli.spec.expressions import parse
from featureflow_cli.spec.types import STRING, arrow_type
from featureflow_cli.stream.merging import Seen
from featureflow_cli.stream.seeing import see
from tests.laws.strategies import KINDS, compiled, moments, rows_of, views
from tests.laws.tables import table
from tests.laws.written import written_as

OTHER_KEYS = {"user": {"uid": "n"}, "person": {"name": "kind"}, "pair": {"uid": "n"}}
"""Columns that may stand for an entity's join keys, null in many rows."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as opened:
        yield opened


@st.composite
def several(draw: st.DrawFn) -> tuple[list[View], list[Event], int]:
    """Views of one source, some of them of one entity by other columns; its rows; an `until`, often that of a row."""
    kinds = draw(st.lists(st.sampled_from([KINDS, KINDS, ["latest"]]), min_size=1, max_size=4))
    written = [draw(views(f"v{place}", of)) for place, of in enumerate(kinds)]
    for view in written:
        if draw(st.integers(0, 3)) == 0:
            view["join_keys"] = OTHER_KEYS[view["entity"]]
    found = list(compiled(written_as(written, created=draw(st.booleans()))).views.values())
    t_us = draw(moments())
    events = draw(st.lists(rows_of(found, [t_us]), max_size=25))
    return found, events, draw(st.sampled_from([t_us, *(_time_us(found[0], event) for event in events)]))


@given(drawn=several(), pieces=st.integers(1, 3), cut=st.booleans())
def test_a_view_sees_what_its_own_projection_selects(engine: Engine, drawn: Any, pieces: int, cut: bool):
    """Event by event: entity, time, masks, operands, whole row and offset; also where `until` cuts the batch."""
    several, events, t_us = drawn
    if cut:
        several = [replace(view, source=replace(view.source, until_us=t_us)) for view in several]
    members = [Kept(view, _build(view)) for view in several]
    rows = _logged(table(several[0].source, events), pieces)
    sight = see(engine, rows, members)
    counted = [at for at, event in enumerate(events) if not cut or _time_us(several[0], event) >= t_us]
    engine.register("accepted", rows.take(pa.array(counted, pa.int64())))
    for kept, seen in zip(members, sight.seen, strict=True):
        view = kept.view
        expected, ids = from_projection(view, engine.table(projection_sql(view, "accepted")))
        assert seen.kept is kept
        assert _told(view, _by_offset(seen), seen.ids) == _told(view, expected, ids)
        order = np.lexsort((seen.events.ts, seen.events.entity))
        assert (order == np.arange(len(order))).all()
        at = rows.take(pa.array(seen.offsets - 100))
        assert [_time_us(view, row) for row in _plain(view, at)] == seen.events.ts.tolist()
        assert seen.partitions.tolist() == at.column("_partition").to_pylist()


@given(drawn=several())
def test_entities_are_numbered_alike_for_all_views_of_one_name(engine: Engine, drawn: Any):
    several, events, _ = drawn
    seen = see(
        engine, _logged(table(several[0].source, events), 1), [Kept(v, _build(v)) for v in several]
    ).seen
    for entity in {view.entity for view in several}:
        mine = [each for each in seen if each.kept.view.entity == entity]
        assert all(each.ids is mine[0].ids for each in mine)
        everyone = {mine_id for each in mine for mine_id in np.unique(each.events.entity).tolist()}
        assert sorted(everyone) == list(range(len(mine[0].ids)))
        assert len(set(mine[0].ids)) == len(mine[0].ids)


def test_what_an_engine_answers_stays_row_by_row(engine: Engine):
    """A batch of many chunks and row groups, on all of DuckDB's threads."""
    view = _view(where="n % 7 <> 0", features=[{"name": "total", "sum": "n + 1", "window": "forever"}])
    assert [expr.text for expr in beyond_arrays([view])] == ["n % 7 <> 0", "n + 1"]
    numbers = np.arange(400_000)
    (seen,) = see(engine, _logged(_rows(view, n=pa.array(numbers)), 40), [Kept(view, _build(view))]).seen
    kept = numbers[numbers % 7 != 0]
    assert (seen.events.ts == kept).all()
    assert (seen.offsets == kept + 100).all()
    assert (seen.events.operands[0].codes == kept + 1).all()
    assert seen.ids == [str(each) for each in kept.tolist()]


@pytest.mark.parametrize("texts", [["x" * 1024], ["x" * 1025], ["ä" * 512, None], ["", "ä" * 513, None]])
def test_a_text_over_1024_bytes_is_null(engine: Engine, texts: list[str | None]):
    view = _view(features=[{"name": "most", "top_k": {"of": "kind", "k": 1}, "window": "forever"}])
    rows = _logged(_rows(view, kind=pa.array(texts)), len(texts))
    (seen,) = see(engine, rows, [Kept(view, _build(view))]).seen
    (operand,) = seen.events.operands
    kept = uncode(operand.codes, operand.valid, STRING, operand.texts).to_pylist()
    assert kept == [None if text is None or len(text.encode()) > 1024 else text for text in texts]


def test_conditions_on_columns_and_constants_need_no_engine():
    schema = {"kind": STRING}
    view = _view(latest=["n"])
    plain = parse("kind = 'a' and kind not in ('b', upper('c')) or kind is null", schema)
    other = parse("upper(kind) = 'A'", schema)
    assert beyond_arrays([replace(view, where=plain, masks=(plain, other, other))]) == [other]


def _build(view: View) -> Build:
    return Build(1, view.name, view.entity, view.fingerprint, 1, "serving", {}, 0)


def _logged(rows: pa.Table, pieces: int) -> pa.Table:
    """As a worker has them: with positions (offsets from 100), in several chunks."""
    count = rows.num_rows
    rows = rows.append_column("_partition", pa.array(np.arange(count, dtype=np.int32) % 3))
    rows = rows.append_column("_offset", pa.array(np.arange(count) + 100))
    bounds = np.linspace(0, count, pieces + 1).astype(int).tolist()
    cut = [rows.slice(start, end - start) for start, end in pairwise(bounds)]
    return pa.concat_tables(cut)


def _view(**written: Any) -> View:
    return compiled(written_as([{"name": "v", "entity": "user", "source": "s", **written}])).views["v"]


def _rows(view: View, **given: Any) -> pa.Table:
    """Rows of the source with these columns; each has its place as its user and its time."""
    (count,) = {len(column) for column in given.values()}
    places = pa.array(np.arange(count))
    given |= {"uid": places, "ts": places.cast(pa.timestamp("us", tz="UTC"))}
    nulls = {name: pa.nulls(count, arrow_type(of)) for name, of in view.source.columns.items()}
    return pa.table(nulls | given)


def _time_us(view: View, event: Event) -> int:
    return reference.time_us(view.source, event)


def _plain(view: View, rows: pa.Table) -> list[Event]:
    field = view.source.timestamp_field
    return [{field: moment} for moment in rows.column(field).cast(pa.int64()).to_pylist()]


def _by_offset(seen: Seen) -> Events:
    return seen.events.take(np.argsort(seen.offsets))


def _told(view: View, events: Events, ids: Any) -> list[Any]:
    """Each event's entity, time, masks, operands and whole row, as plain values."""
    columns: list[Any] = [[ids[entity] for entity in events.entity.tolist()], events.ts.tolist()]
    columns += [mask.tolist() for mask in events.masks]
    types = [operand.type for operand in view.operands]
    kept = [*events.operands, *([events.row] if events.row is not None else [])]
    for operand, column_type in zip(kept, [*types, STRING][: len(kept)], strict=True):
        columns.append(uncode(operand.codes, operand.valid, column_type, operand.texts).to_pylist())
    return list(zip(*columns, strict=True))
