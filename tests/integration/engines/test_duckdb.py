"""The engine: what DuckDB 2 does by itself that nobody should meet."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.errors import FeatureflowError, StoreUnavailable


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(memory_limit="300MB", threads=2, temp_directory=tmp_path / "spill") as engine:
        yield engine


def test_the_session_is_in_utc_whatever_the_machine_says(engine: Engine) -> None:
    """A timestamp without a zone is UTC; days begin at its midnight."""
    assert engine.row("SELECT epoch_us('2026-03-29 02:30:00'::TIMESTAMPTZ)") == (1774751400000000,)
    assert engine.table("SELECT now() AS t").schema.field("t").type == pa.timestamp("us", tz="UTC")


def test_registered_rows_are_read_in_place_and_may_be_replaced(engine: Engine) -> None:
    """A view over the name sees the new rows."""
    engine.register("events", pa.table({"n": [1, 2]}))
    engine.run("CREATE TEMP VIEW doubled AS SELECT n * 2 AS n FROM events")
    engine.register("events", pa.table({"n": [5]}))
    assert engine.table("FROM doubled").to_pylist() == [{"n": 10}]
    engine.unregister("events")
    with pytest.raises(FeatureflowError, match="events"):
        engine.row("FROM events")


def test_a_python_variable_is_not_a_table(engine: Engine) -> None:
    """A typo in SQL must not find something of that name in the caller's frame."""
    caught = pa.table({"n": [1]})
    with pytest.raises(FeatureflowError, match="caught does not exist"):
        engine.table("FROM caught")
    assert caught.num_rows == 1


def test_parameters_are_named(engine: Engine) -> None:
    """They are values, never text that is pasted in."""
    assert engine.row("SELECT $n + 1, $who", {"n": 1, "who": "o'brien"}) == (2, "o'brien")


def test_columns_come_as_numpy_without_masks_or_floats(engine: Engine) -> None:
    """An int64 stays one; a null or a decimal is refused by the column's name."""
    found = engine.columns("SELECT range AS a, range / 2 AS b, range::VARCHAR AS c FROM range(3)")
    assert {name: str(column.dtype) for name, column in found.items()} == {
        "a": "int64",
        "b": "float64",
        "c": "object",
    }
    assert found["a"].tolist() == [0, 1, 2]
    with pytest.raises(FeatureflowError, match="columns b hold nulls"):
        engine.columns("SELECT 1 AS a, NULL::BIGINT AS b")
    with pytest.raises(FeatureflowError, match="columns b hold decimals"):
        engine.columns("SELECT 1 AS a, 1.5::DECIMAL(4,1) AS b")


def test_batches_keep_the_engine_busy_until_they_are_closed(engine: Engine) -> None:
    """Busy is said; after the last batch, or an early close, it is free again."""
    pieces = engine.batches("SELECT range AS n FROM range(1000000)", rows=1000)
    assert next(pieces).num_rows == 1000
    with pytest.raises(FeatureflowError, match="open result"):
        engine.row("SELECT 1")
    pieces.close()  # type: ignore[attr-defined]
    assert engine.row("SELECT 1") == (1,)
    assert sum(batch.num_rows for batch in engine.batches("SELECT range AS n FROM range(300000)")) == 300000
    with pytest.raises(FeatureflowError, match="boom"):
        list(engine.batches("SELECT error('boom') AS n"))
    assert engine.row("SELECT 1") == (1,)


def test_a_function_takes_and_gives_whole_arrays(engine: Engine) -> None:
    """Nulls are its own affair; it is called with plain arrays, and on every thread."""
    lengths: set[type] = set()

    def shout(texts: pa.Array) -> pa.Array:
        lengths.add(type(texts))
        return pc.fill_null(pc.utf8_upper(texts), "?")

    engine.function("shout", shout, ["VARCHAR"], "VARCHAR")
    rows = engine.table("SELECT shout(x) AS x FROM (VALUES ('a'), (NULL), ('é')) t(x)")
    assert rows.column("x").to_pylist() == ["A", "?", "É"]
    assert engine.row("SELECT count(DISTINCT shout(range::VARCHAR)) FROM range(10000)") == (10000,)
    assert lengths == {pa.StringArray}
    engine.function("half", lambda x: pa.array(np.asarray(x) / 2), ["DOUBLE"], "DOUBLE")
    with pytest.raises(FeatureflowError, match="shout"):
        engine.function("shout", shout, ["VARCHAR"], "VARCHAR")


def test_errors_say_what_duckdb_says_and_show_the_statement(engine: Engine) -> None:
    """A missing file or a disk is a backend's trouble, the rest is ours."""
    with pytest.raises(FeatureflowError, match='"nope" not found') as raised:
        engine.table("SELECT nope FROM range(1)")
    assert raised.value.hint == "SELECT nope FROM range(1)"
    with pytest.raises(StoreUnavailable, match="No files found"):
        engine.run("CREATE TABLE t AS FROM read_parquet('/nowhere/*.parquet')")
    with pytest.raises(FeatureflowError, match="Parser Error"):
        engine.run("SELEC 1")


def test_what_does_not_fit_spills_to_the_temp_directory(tmp_path: Path) -> None:
    """A sort of 240 MB in 100 MB; where it cannot spill, the error names the place."""
    sort = "SELECT sum(n) FROM (SELECT n, row_number() OVER (ORDER BY r) AS p FROM big) WHERE p > 0"
    make = "CREATE TEMP TABLE big AS SELECT range AS n, hash(range) AS r FROM range(5000000)"
    with Engine(memory_limit="100MB", threads=1, temp_directory=tmp_path / "spill") as engine:
        engine.run(make)
        assert engine.row(sort) == (5000000 * 4999999 // 2,)
    (tmp_path / "file").write_text("in the way")
    with (
        Engine(memory_limit="100MB", threads=1, temp_directory=tmp_path / "file" / "spill") as engine,
        pytest.raises(StoreUnavailable, match="spill"),
    ):
        engine.run(make)
        engine.row(sort)
