"""Laws of expressions: DuckDB's SQL, arrays and the row evaluator answer alike, to the last bit (design.md 1.15)."""

import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featureflow_cli.compute.arrays import array, is_plain
from featureflow_cli.compute.rows import compile_row
from featureflow_cli.compute.sql_expressions import expression_sql
from featureflow_cli.engines.duckdb import Engine
from featureflow_cli.spec.expressions import Expr, ExpressionError, parse
from featureflow_cli.spec.operations import OPERATIONS
from featureflow_cli.spec.types import DATE, STRING, TIMESTAMP, ColumnType, arrow_type
from tests.laws.expression_rows import ROWS, SCHEMA, TABLES, WIDE, row_of, table_of
from tests.laws.expression_texts import KINDS, conditions, every_template, expressions


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        for number in range(len(TABLES)):
            engine.register(f"rows{number}", table_of(number))
        yield engine


def _bits(value: Any, column_type: ColumnType) -> Any:
    """What two answers must share: a double's bits, a decimal's digits and scale."""
    if isinstance(value, float):
        return struct.pack(">d", value).hex(), value
    if isinstance(value, Decimal):
        return str(value.scaleb(column_type.scale, context=WIDE)), value
    return type(value), value


def _answers(engine: Engine, number: int, exprs: list[Expr]) -> list[list[Any]]:
    columns = ", ".join(f"{expression_sql(expr)} AS c{at}" for at, expr in enumerate(exprs))
    table = engine.table(f"SELECT {columns} FROM rows{number}")
    for at, expr in enumerate(exprs):
        assert table.schema.field(f"c{at}").type == arrow_type(expr.type), expr.text
    return [_plain(table.column(f"c{at}"), expr.type) for at, expr in enumerate(exprs)]


def _plain(column: Any, column_type: ColumnType) -> list[Any]:
    if column_type == TIMESTAMP:
        column = column.cast(pa.int64())
    elif column_type == DATE:
        column = column.cast(pa.int32())
    return list(column.to_pylist())


def _arrays(number: int, expr: Expr) -> list[Any]:
    table = table_of(number)
    found = array(expr, lambda name: table.column(name).combine_chunks(), ROWS)
    assert found.type == arrow_type(expr.type), expr.text
    return _plain(found, expr.type)


def _parsed(texts: list[str]) -> list[Expr]:
    """Those that check: a product may have too many decimals for any type, a quoted text be no moment."""
    found = []
    for text in texts:
        try:
            found.append(parse(text, SCHEMA))
        except ExpressionError as err:
            assert "are the most: cast one of them" in err.what or "is not a" in err.what, (text, err)
    return found


def _differences(engine: Engine, number: int, exprs: list[Expr]) -> Iterator[str]:
    for expr, answers in zip(exprs, _answers(engine, number, exprs), strict=True):
        evaluate = compile_row(expr)
        by_arrays = _arrays(number, expr) if is_plain(expr) else answers
        for at, (answer, other) in enumerate(zip(answers, by_arrays, strict=True)):
            row = row_of(number, at)
            expected = evaluate(row)
            if not _bits(answer, expr.type) == _bits(other, expr.type) == _bits(expected, expr.type):
                read = {name: row[name] for name in expr.columns}
                found = f"DuckDB {answer!r}, arrays {other!r}, rows {expected!r}"
                yield f"{expr.text}\n over {read}: {found}\n{expression_sql(expr)}"


@settings(
    max_examples=120, deadline=None, report_multiple_bugs=False, suppress_health_check=[HealthCheck.too_slow]
)
@given(data=st.data(), number=st.integers(0, len(TABLES) - 1))
def test_duckdb_and_arrays_answer_what_the_row_evaluator_answers(
    engine: Engine, data: st.DataObject, number: int
):
    """Any expression over any row: the same value, the same bits, the type that the table says."""
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5))
    exprs = _parsed([data.draw(expressions(kind, 3)) for kind in kinds])
    if exprs:
        assert list(_differences(engine, number, exprs))[:1] == []


PLAIN = {"eq", "ne", "lt", "le", "gt", "ge", "in", "and", "or", "not", "is_null", "coalesce", "case"}
"""What arrays answer; what they are given of it is columns, constants and the same."""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=conditions(3), number=st.integers(0, len(TABLES) - 1))
def test_arrays_answer_conditions_as_the_row_evaluator_does(text: str, number: int):
    """All but those that compare decimals which no decimal has room for."""
    expr = parse(text, SCHEMA)
    if not is_plain(expr):
        assert _operations(expr) & {"eq", "ne", "lt", "le", "gt", "ge", "in"}
        assert expr.columns & {"w", "z", "f", "q"}
        return
    evaluate = compile_row(expr)
    assert _arrays(number, expr) == [evaluate(row_of(number, at)) for at in range(ROWS)]


def test_every_operation_of_the_table_agrees_on_columns(engine: Engine):
    """All of the language once, so that nothing rests on what hypothesis happens to draw."""
    found_before = ["1 * -(-9223372036854775808)", "date_part('hour', cast(null as timestamp))", "q * q"]
    exprs = _parsed([*every_template(), *found_before])
    drawn = {op for expr in exprs for op in _operations(expr)}
    assert set(OPERATIONS) - drawn == {"ln", "exp", "power"}  # below: they are not the same to the last bit
    assert {op for expr in exprs if is_plain(expr) and expr.columns for op in _operations(expr)} >= PLAIN
    assert list(_differences(engine, 0, exprs))[:1] == []


def _operations(expr: Expr) -> set[str]:
    return {expr.op}.union(*(_operations(arg) for arg in expr.args))


@pytest.mark.parametrize("text", ["ln(x)", "exp(x)", "exp(p)", "power(x, y)", "power(p, 2)", "ln(abs(x))"])
def test_transcendental_functions_agree_within_1e_12(engine: Engine, text: str):
    """Libraries of mathematics do not round these correctly, and may differ in the last bit."""
    expr = parse(text, SCHEMA)
    for number in range(len(TABLES)):
        (answers,) = _answers(engine, number, [expr])
        for at, answer in enumerate(answers):
            expected = compile_row(expr)(row_of(number, at))
            assert (answer is None) == (expected is None), row_of(number, at)
            assert answer is None or math.isclose(answer, expected, rel_tol=1e-12, abs_tol=5e-324)


def test_every_character_has_the_same_case_in_both(engine: Engine):
    """One character becomes one character, in all of Unicode."""
    characters = [chr(point) for point in range(0x110000) if not 0xD800 <= point <= 0xDFFF]
    engine.register("characters", pa.table({"s": characters}))
    for text in ("lower(s)", "upper(s)"):
        expr = parse(text, {"s": STRING})
        evaluate = compile_row(expr)
        answers = engine.table(f"SELECT {expression_sql(expr)} AS c FROM characters").column("c").to_pylist()
        assert [
            (each, answer)
            for each, answer in zip(characters, answers, strict=True)
            if answer != evaluate({"s": each})
        ] == []


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_the_sessions_time_zone_changes_no_answer(zone: str):
    """Text, parts and truncation of moments are UTC's, wherever the session is."""
    texts = [
        "cast(t as string)", "cast(t as date)", "cast(d as timestamp)", "cast(s as timestamp)", "cast(s as date)",
        "date_trunc('day', t)", "date_trunc('week', d)", "date_part('hour', t)", "date_diff('day', t, r)", "t > d",
        "t < timestamp '2020-03-08 02:30'", "epoch_us(d)",
    ]  # fmt: skip
    with Engine(threads=1) as engine:
        engine.register("rows1", table_of(1))
        engine.run(f"SET TimeZone = '{zone}'")
        for text in texts:
            expr = parse(text, SCHEMA)
            found = engine.table(f"SELECT {expression_sql(expr)} AS c FROM rows1").column("c")
            if expr.type == TIMESTAMP:
                found = found.cast(arrow_type(TIMESTAMP))  # the zone is the session's, the moment is not
            expected = [compile_row(expr)(row_of(1, at)) for at in range(ROWS)]
            assert _plain(found, expr.type) == expected, text


def test_nesting_makes_sql_longer_in_proportion():
    """Text that repeated its argument would double with each level."""
    lengths = []
    for depth in (10, 20):
        text = "x"
        for _ in range(depth):
            text = f"(1e0 / {text})"
        lengths.append(len(expression_sql(parse(text, SCHEMA))))
    assert lengths[1] < 2.5 * lengths[0]
